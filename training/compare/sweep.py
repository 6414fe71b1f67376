"""The sweep: every cell that is not there yet, one after the other, then the page."""

from __future__ import annotations

import contextlib
import importlib.util
import shlex
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

from rich.console import Console

from model.errors import ModelTooLargeError
from training.compare.cells import Cell, CellStore, Record, grid, without_paths
from training.compare.page import Results, write_page
from training.compare.runner import Runner
from training.compare.summary import baselines, summarise
from training.config import TrainSettings
from training.decoding import Decoder
from training.errors import RunInterruptedError, SettingsError
from training.evidence import check_network
from training.machine import describe_machine
from training.messages import say
from training.methods import Method
from training.preparation import trainable
from training.sources import Dataset, SourceOptions, open_source
from training.threads import use_threads

DECIDED = {
    "keep": "--keeps (keep, not sigma)",
    "seed": "--seeds",
    "route_seed": "--seeds",
    "time_limit_s": "--budget-s",
}
"""Settings that a comparison varies itself, and the option that says how."""


@dataclass(frozen=True)
class Request:
    """What to compare, and where to."""

    source: str
    out: Path
    methods: tuple[Method, ...]
    keeps: tuple[float, ...]
    seeds: int
    task_counts: tuple[int, ...]
    """First so many tasks of the source; none: all of them."""
    budget_s: float | None
    """Seconds of training steps; None: ``flags`` has the epochs."""
    flags: Mapping[str, Any]
    """Settings of all methods alike."""
    config: str | None
    decoder: Decoder


def compare(
    request: Request, console: Console, clock: Callable[[], float] = time.monotonic
) -> Results:
    """Run what is missing, write the page, return what is on it.

    Raises:
        RunInterruptedError: cut short; the page has what was done so far.
        TaskRouteError: nothing was run, or the data stopped being readable.
    """
    _check(request)
    basis = cell_settings(request, Cell(request.methods[0], None, 1, 0))
    use_threads(basis.threads)
    dataset = trainable(
        open_source(request.source, SourceOptions(basis.split_seed)).with_tasks(basis.tasks)
    )
    for note in dataset.notes:
        say(console, f"note: {note}")
    counts = _task_counts(request, dataset)
    # All settings before the first run: a value that one method cannot take is found now.
    cells = {
        cell: cell_settings(request, cell)
        for cell in grid(request.methods, request.keeps, counts, request.seeds)
    }
    for cell, settings in cells.items():
        with contextlib.suppress(ModelTooLargeError):  # which is a result
            check_network(settings, dataset.tasks[: cell.tasks])
    runner = Runner(dataset, request.out / "running", request.decoder, console)
    store = CellStore(request.out / "cells")
    records = {
        cell: found
        for cell, settings in cells.items()
        if (found := store.read(cell, runner.asked(cell, settings))) is not None
    }
    for cell in records:  # of a run that was killed in between
        runner.forget(cell, cells[cell])
    if records:
        say(console, f"{len(records)} of {len(cells)} runs are there already")
    try:
        _run_missing(cells, records, runner, store, clock)
    except RunInterruptedError:
        if records:
            _write(request, basis, dataset, cells, records)
        raise
    return _write(request, basis, dataset, cells, records)


def _run_missing(
    cells: Mapping[Cell, TrainSettings],
    records: dict[Cell, Record],
    runner: Runner,
    store: CellStore,
    clock: Callable[[], float],
) -> None:
    missing = [cell for cell in cells if cell not in records]
    started = clock()
    for position, cell in enumerate(missing):
        left = (clock() - started) / position * (len(missing) - position) if position else None
        about = "" if left is None else f", about {left / 60:.0f} min left"
        say(runner.console, f"run {len(records) + 1} of {len(cells)}: {cell.title}{about}")
        records[cell] = runner.run(cell, cells[cell])
        store.write(cell, records[cell])
        runner.forget(cell, cells[cell])
        if records[cell]["failure"]:
            say(runner.console, f"note: {cell.title}: {records[cell]['failure']}")


def cell_settings(request: Request, cell: Cell) -> TrainSettings:
    """The settings of one cell, with no plan for its time yet."""
    given = dict(request.flags) | {"seed": cell.seed, "route_seed": cell.seed}
    if cell.keep is not None:
        given["keep"] = cell.keep
    if request.budget_s is not None:
        given["time_limit_s"] = request.budget_s
    return cell.method.settings(given, request.config)


def _check(request: Request) -> None:
    """Refuse what cannot be compared before any data is read."""
    for name in request.flags:
        if name in DECIDED:
            raise SettingsError(f"setting {name!r} is what compare varies: give {DECIDED[name]}")
    if (request.budget_s is None) == ("epochs" not in request.flags):
        raise SettingsError(
            "runs are compared at equal budgets: give either --budget-s SECONDS or --epochs N"
        )
    if importlib.util.find_spec("matplotlib") is None:
        raise SettingsError("compare draws plots by matplotlib: install the extra 'train'")


def _task_counts(request: Request, dataset: Dataset) -> tuple[int, ...]:
    there = len(dataset.tasks)
    for count in request.task_counts:
        if not 1 <= count <= there:
            raise SettingsError(f"--task-counts has {count}; {dataset.source} has 1 to {there}")
    return tuple(sorted(set(request.task_counts))) or (there,)


def _write(
    request: Request,
    basis: TrainSettings,
    dataset: Dataset,
    cells: Mapping[Cell, TrainSettings],
    records: Mapping[Cell, Record],
) -> Results:
    done = [records[cell] for cell in cells if cell in records]
    about = {
        "source": _shown_source(request.source),
        "digest": dataset.digest,
        "images": dataset.counts(),
        "tasks": list(dataset.tasks.names),
        "methods": [method.name for method in request.methods],
        "seeds": request.seeds,
        "budget": _budget(request, basis.device),
        "flags": without_paths(request.flags),
        "cells": len(cells),
        "done": len(done),
        "command": command_line(request),
        "machine": describe_machine(basis.device),
    }
    results = Results(about, summarise(done), baselines(done))
    write_page(request.out, results)
    return results


def _budget(request: Request, device: str) -> str:
    if request.budget_s is not None:
        counted = "of the clock" if device.startswith("cuda") else "of the processor"
        return f"{request.budget_s:g} s {counted} in training steps"
    return f"{request.flags['epochs']} epochs"


def command_line(request: Request) -> str:
    """The command that does the same, with paths shortened to their last part."""
    words = ["python", "-m", "training", "compare", "--data", _shown_source(request.source)]
    words += ["--out", request.out.name]
    words += ["--methods", ",".join(method.name for method in request.methods)]
    words += ["--keeps", ",".join(f"{keep:g}" for keep in request.keeps)]
    words += ["--seeds", str(request.seeds)]
    if request.task_counts:
        words += ["--task-counts", ",".join(map(str, request.task_counts))]
    if request.budget_s is not None:
        words += ["--budget-s", f"{request.budget_s:g}"]
    if request.config:
        words += ["--config", PurePath(request.config).name]
    for name, value in without_paths(request.flags).items():
        words += _flag(name, value)
    return shlex.join(words)


def _flag(name: str, value: Any) -> Sequence[str]:
    option = name.replace("_", "-")
    if isinstance(value, bool):
        return [f"--{'' if value else 'no-'}{option}"]
    return [f"--{option}", str(value)]


def _shown_source(source: str) -> str:
    """``pack:/data/birds.npz`` as ``pack:birds.npz``: pages say nothing about a machine's disk."""
    scheme, colon, rest = source.partition(":")
    return f"{scheme}{colon}{PurePath(rest).name}"
