"""Splits for data that brings none: drawn from each image's own key, never from its position.

An image keeps its split when others are added or removed, so the test images of a growing CSV never
wander into a later version's training set, and an image listed twice is never on both sides. Images
of one group (a person, a species, a product) share a key, so that no group is on both sides either.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from training.errors import DataError
from training.sources.base import SPLITS

VAL_SHARE = 0.1
TEST_SHARE = 0.1


def split_keys(names: Sequence[str], groups: Sequence[str] | None) -> list[str]:
    """The key of each image: its group, or its own name where it has none (None, or empty)."""
    return [group or name for group, name in zip(groups or names, names, strict=True)]


def check_groups_whole(
    split: Sequence[str], keys: Sequence[str], place: Callable[[int], str]
) -> None:
    """Refuse a split that has a group on two sides.

    Args:
        place: names image ``i``'s entry in the split for a person.

    Raises:
        DataError: names the group and an image of it on either side.
    """
    first: dict[str, int] = {}
    for index, (side, key) in enumerate(zip(split, keys, strict=True)):
        other = first.setdefault(key, index)
        if split[other] != side:
            raise DataError(
                f"{place(index)}: {side!r}, but {key!r} is in {split[other]!r} too "
                f"({place(other)}); keep it on one side, or give no split and have one drawn",
                group=key,
            )


def draw_split(keys: Sequence[str], seed: int, source: str) -> NDArray[np.str_]:
    """About 80 % train, 10 % val, 10 % test.

    Raises:
        DataError: so few images that one of the three came out empty.
    """
    draws = _uniform(keys, seed)
    split = np.where(
        draws < TEST_SHARE, "test", np.where(draws < TEST_SHARE + VAL_SHARE, "val", "train")
    )
    empty = [name for name in SPLITS if not (split == name).any()]
    if empty:
        raise DataError(
            f"{source}: {_counted(keys)} are too few to draw a split from (none left for "
            f"{', '.join(empty)}); give it a split of its own (train, val, test)"
        )
    return split


def with_val(
    split: NDArray[np.str_], keys: Sequence[str], seed: int, source: str
) -> tuple[NDArray[np.str_], tuple[str, ...]]:
    """``split`` as it is, or with a tenth of train made val where it has no val.

    Returns:
        The split, and a note that says what was drawn.
    """
    if (split == "val").any() or not (split == "train").any():
        return split, ()
    train = np.flatnonzero(split == "train")
    train_keys = [keys[index] for index in train.tolist()]
    drawn = train[_uniform(train_keys, seed) < VAL_SHARE]
    if drawn.size in (0, train.size):
        raise DataError(
            f"{source}: no val split, and {_counted(train_keys, 'training ')} are too few to draw "
            "one from"
        )
    completed = split.astype("<U5")
    completed[drawn] = "val"
    return completed, (
        f"no val split: {drawn.size} of {train.size} training images drawn (seed {seed})",
    )


def _counted(keys: Sequence[str], kind: str = "") -> str:
    groups = len(set(keys))
    return f"{len(keys)} {kind}images" + (f" in {groups} groups" if groups < len(keys) else "")


def _uniform(keys: Sequence[str], seed: int) -> NDArray[np.float64]:
    """A number in [0, 1) for each key, the same for the same key and seed on every machine."""
    hashes = (hashlib.sha256(f"{seed}:{key}".encode()).digest()[:8] for key in keys)
    return np.array([int.from_bytes(digest, "big") / 2**64 for digest in hashes])
