"""Drawn splits: shares, seeds, and that an image keeps its side."""

from __future__ import annotations

import numpy as np
import pytest

from training.errors import DataError
from training.sources.splits import check_groups_whole, draw_split, split_keys, with_val

KEYS = [f"{index}.jpg" for index in range(2000)]


def test_shares_are_about_80_10_10() -> None:
    split = draw_split(KEYS, 0, "x")
    assert abs((split == "train").mean() - 0.8) < 0.03
    assert abs((split == "val").mean() - 0.1) < 0.03


def test_an_image_keeps_its_split_when_others_come_and_go() -> None:
    before = dict(zip(KEYS, draw_split(KEYS, 0, "x").tolist(), strict=True))
    fewer = [*KEYS[500:], "new.jpg"][::-1]
    after = dict(zip(fewer, draw_split(fewer, 0, "x").tolist(), strict=True))
    assert all(after[key] == before[key] for key in KEYS[500:])


def test_an_image_listed_twice_is_on_one_side() -> None:
    split = draw_split(KEYS + KEYS, 3, "x")
    assert (split[:2000] == split[2000:]).all()


def test_seeds_differ() -> None:
    assert (draw_split(KEYS, 0, "x") != draw_split(KEYS, 1, "x")).any()


def test_too_few_images_are_refused() -> None:
    with pytest.raises(DataError, match="x: 3 images are too few to draw a split from"):
        draw_split(["a", "b", "c"], 0, "x")


def test_val_is_drawn_from_train_only() -> None:
    split = np.array(["train"] * 1500 + ["test"] * 500)
    completed, notes = with_val(split, KEYS, 0, "x")
    assert (completed[1500:] == "test").all()
    drawn = int((completed == "val").sum())
    assert 100 < drawn < 200
    assert notes == (f"no val split: {drawn} of 1500 training images drawn (seed 0)",)


def test_an_existing_val_stays() -> None:
    split = np.array(["train", "val", "test"])
    completed, notes = with_val(split, KEYS[:3], 0, "x")
    assert completed.tolist() == split.tolist()
    assert notes == ()


def test_a_source_of_test_images_only_gets_no_val() -> None:
    completed, notes = with_val(np.array(["test"] * 5), KEYS[:5], 0, "x")
    assert completed.tolist() == ["test"] * 5
    assert notes == ()


def test_too_few_training_images_for_a_val_are_refused() -> None:
    with pytest.raises(DataError, match="2 training images are too few"):
        with_val(np.array(["train", "train", "test"]), KEYS[:3], 0, "x")


def test_images_of_one_group_share_a_key_and_others_have_their_own() -> None:
    assert split_keys(["a", "b", "c"], ["ann", "", "ann"]) == ["ann", "b", "ann"]
    assert split_keys(["a", "b"], None) == ["a", "b"]


def test_a_drawn_split_has_no_group_on_two_sides() -> None:
    keys = [f"person {index % 97}" for index in range(2000)]
    two = np.where(draw_split(keys, 1, "x") == "test", "test", "train")
    split, _ = with_val(two, keys, 2, "x")
    assert set(split.tolist()) == {"train", "val", "test"}
    sides = {(key, side) for key, side in zip(keys, split.tolist(), strict=True)}
    assert len(sides) == 97


def test_too_few_groups_are_counted() -> None:
    with pytest.raises(DataError, match="x: 40 images in 2 groups are too few"):
        draw_split(["ann", "bob"] * 20, 0, "x")


def test_a_group_on_two_sides_is_named_with_both_places() -> None:
    with pytest.raises(DataError, match=r"row 2: 'test', but 'ann' is in 'train' too \(row 0\)"):
        check_groups_whole(["train", "val", "test"], ["ann", "bob", "ann"], lambda i: f"row {i}")
    check_groups_whole(["train", "val", "train"], ["ann", "bob", "ann"], str)
