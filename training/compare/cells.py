"""The cells of a comparison, and their results on disk: one file each, written once."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

from training.config import RESUMABLE_CHANGES, TrainSettings
from training.errors import StateError
from training.methods import Method
from training.settings_files import load_settings

Record = dict[str, Any]
"""What a cell led to, as JSON (see :mod:`training.compare.runner`)."""

# What changes no figure.
_FREE = RESUMABLE_CHANGES - {"time_limit_s"}
ROUTE_SETTINGS = frozenset(
    {
        "group_layers", "keep_schedule", "modulation", "route_seed", "unit_multiple",
        "target_cost", "tasks_per_step", "compute", "shared_start", "saliency_images",
        "keep_stages", "routed_lr_factor", "recalibration_batches",
    }
)  # fmt: skip
"""What plays no part in a run without routes."""


@dataclass(frozen=True)
class Cell:
    """One run of the comparison (of a network per task: one run for each task)."""

    method: Method
    keep: float | None
    """None where the method has no routes."""
    tasks: int
    seed: int

    @property
    def key(self) -> str:
        """Its name on disk."""
        keep = "" if self.keep is None else f"-keep{self.keep:g}"
        return f"{self.method.name}{keep}-tasks{self.tasks}-seed{self.seed}"

    @property
    def title(self) -> str:
        """Its name for a person."""
        keep = "" if self.keep is None else f", keep {self.keep:g}"
        return f"{self.method.name}{keep}, {self.tasks} tasks, seed {self.seed}"


def grid(
    methods: Sequence[Method], keeps: Sequence[float], counts: Sequence[int], seeds: int
) -> list[Cell]:
    """All cells, whole seeds first: a comparison cut short has everything once."""
    return [
        Cell(method, keep, count, seed)
        for seed in range(seeds)
        for count in counts
        for method in methods
        for keep in (keeps if method.keeps else (None,))
    ]


def asked(settings: TrainSettings, digest: str) -> dict[str, Any]:
    """What decides a cell's result, with no path of this machine in it."""
    return {"data": digest, "settings": without_paths(settings.model_dump(mode="json"))}


def without_paths(values: Mapping[str, Any]) -> dict[str, Any]:
    """Values with the last two parts of every path only: what is kept is to be passed on."""
    return {
        name: "/".join(PurePath(value).parts[-2:])
        if isinstance(value, str) and os.sep in value
        else value
        for name, value in values.items()
    }


class CellStore:
    """Finished cells below one folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def path(self, cell: Cell) -> Path:
        return self._folder / f"{cell.key}.json"

    def read(self, cell: Cell, wanted: Mapping[str, Any]) -> Record | None:
        """The result of an earlier run of the cell; None where there is none, or a refusal only:
        the limit, or the machine, may be another now.

        Args:
            wanted: of :func:`asked`, now.

        Raises:
            StateError: unreadable, or of other settings or data than ``wanted``.
        """
        path = self.path(cell)
        if not path.is_file():
            return None
        try:
            record: Record = json.loads(path.read_text(encoding="utf-8"))
            free = _FREE if cell.method.staged else _FREE | ROUTE_SETTINGS
            changed = _changed(record["asked"], wanted, free)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise StateError(f"{path}: cannot be read: {error!r}; delete it to run it again") from (
                error
            )
        if changed:
            raise StateError(
                f"{path} was run with other {', '.join(changed)}; compare into another folder "
                "(--out), or delete the cells to run them again",
                changed=changed,
            )
        return None if "refused" in record else record

    def write(self, cell: Cell, record: Mapping[str, Any]) -> None:
        """Keep a result; whole or not at all."""
        write_json(self.path(cell), record)


def fingerprint(wanted: Mapping[str, Any]) -> str:
    """Short, and equal for equal ``wanted``."""
    return hashlib.sha256(json.dumps(wanted, sort_keys=True).encode()).hexdigest()[:8]


def write_json(path: Path, data: Mapping[str, Any]) -> None:
    """Whole or not at all: an interruption leaves the old file or the new one.

    Raises:
        StateError: the folder cannot be written.
    """
    staging = path.with_name(f".{path.name}.new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        staging.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
        os.replace(staging, path)
    except OSError as error:
        raise StateError(f"{path}: cannot be written: {error.strerror or error}") from error


def _changed(then: Mapping[str, Any], now: Mapping[str, Any], free: frozenset[str]) -> list[str]:
    """What differs, but for what is ``free`` to, in words."""
    # A setting newer than the cell: its default is what was done without it.
    default = load_settings(TrainSettings).model_dump(mode="json")
    before, after = default | then["settings"], now["settings"]
    changed = [
        f"{name} (was {before.get(name)!r}, is {after.get(name)!r})"
        for name in sorted(before.keys() | after.keys())
        if before.get(name) != after.get(name) and name not in free
    ]
    return changed + ([] if then["data"] == now["data"] else ["data"])
