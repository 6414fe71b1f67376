"""Cells become rows: mean and standard deviation over the seeds of one method, keep and count."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from training.compare.cells import Record

FIGURES = {
    "accuracy": "accuracy",
    "precision": "precision",
    "recall": "recall",
    "balanced_accuracy": "balanced accuracy",
    "average_precision": "AP",
    "auroc": "AUROC",
    "ece": "ECE",
}
"""Macro figures that are compared, and what they are called."""


@dataclass(frozen=True)
class Spread:
    """A figure over seeds."""

    mean: float
    std: float | None
    """Of the sample (n - 1); None for a single seed."""

    @classmethod
    def of(cls, values: Iterable[float | None]) -> Spread | None:
        """None where no seed has the figure."""
        known = [value for value in values if value is not None]
        if not known:
            return None
        return cls(statistics.fmean(known), statistics.stdev(known) if len(known) > 1 else None)


@dataclass(frozen=True)
class Row:
    """One method at one keep and number of tasks."""

    method: str
    keep: float | None
    tasks: int
    seeds: tuple[int, ...]
    failed_seeds: tuple[int, ...]
    """Diverged, or refused: in no mean."""
    refused: str | None
    """Memory that its network needs, and what it may take, where that refused a seed."""
    figures: dict[str, Spread | None]
    """By the names of FIGURES."""
    passes: Spread | None
    """Serving all tasks for one image by the plan, in passes of one full trunk."""
    masked_passes: Spread | None
    """The same served the paper's way."""
    seconds: Spread | None
    """Of training steps."""
    epochs: Spread | None
    parameters: Spread | None
    """None in cells of before sizes were kept, like ``bundle_bytes``."""
    bundle_bytes: Spread | None
    interval: tuple[float, float] | None
    """95 % bootstrap interval of AP, its bounds averaged over seeds; None where not resampled."""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Baseline:
    """Always answering each task's most frequent class."""

    tasks: int
    accuracy: float


def summarise(records: Sequence[Record]) -> list[Row]:
    """Rows in the order in which their first cell comes."""
    together: dict[tuple[str, float | None, int], list[Record]] = {}
    for record in records:
        place = (record["method"], record["keep"], record["tasks"])
        together.setdefault(place, []).append(record)
    return [_row(*place, cells) for place, cells in together.items()]


def baselines(records: Sequence[Record]) -> list[Baseline]:
    """One for each number of tasks, fewest first."""
    found: dict[int, float] = {}
    for record in records:
        if record["failure"] is None and record["figures"]["majority"] is not None:
            found.setdefault(record["tasks"], record["figures"]["majority"])
    return [Baseline(tasks, found[tasks]) for tasks in sorted(found)]


def _row(method: str, keep: float | None, tasks: int, cells: Sequence[Record]) -> Row:
    done = [cell for cell in cells if cell["failure"] is None]

    def spread(value: Callable[[Record], float | None]) -> Spread | None:
        return Spread.of(value(cell) for cell in done)

    return Row(
        method,
        keep,
        tasks,
        tuple(cell["seed"] for cell in done),
        tuple(cell["seed"] for cell in cells if cell["failure"] is not None),
        next((cell["refused"] for cell in cells if "refused" in cell), None),
        {name: Spread.of(cell["figures"][name] for cell in done) for name in FIGURES},
        passes=spread(lambda cell: cell["cost"]["passes"]),
        masked_passes=spread(lambda cell: cell["cost"]["masked_passes"]),
        seconds=spread(lambda cell: cell["training"]["seconds"]),
        epochs=spread(lambda cell: cell["training"]["epochs"]),
        parameters=spread(lambda cell: cell.get("size", {}).get("parameters")),
        bundle_bytes=spread(lambda cell: cell.get("size", {}).get("bundle_bytes")),
        interval=_interval(done),
    )


def _interval(cells: Sequence[Record]) -> tuple[float, float] | None:
    """Cells of before intervals were kept have none."""
    found = [(cell.get("intervals") or {}).get("average_precision") for cell in cells]
    bounds = [one for one in found if one is not None]
    if not bounds:
        return None
    return statistics.fmean(low for low, _ in bounds), statistics.fmean(high for _, high in bounds)
