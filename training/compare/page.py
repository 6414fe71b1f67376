"""The page of a comparison: tables as the paper's Tables 2 and 3, plots as its Figures 4 and 5."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.table import Table

from training.compare.cells import write_json
from training.compare.plots import against_cost, against_keep, against_tasks
from training.compare.summary import FIGURES, Baseline, Row, Spread
from training.errors import StateError
from training.machine import machine_line
from training.methods import METHODS

_READING = (
    "`keep` is the share of a routed layer's units that one task uses. The paper's text calls it σ "
    "(its Tables 2 and 3: σ is what is shared, σ = 1 is hard sharing), so a row's keep is that "
    "reading's σ. The paper's published code means the opposite (σ is what is zeroed: keep = "
    "1 − σ), and one sentence of its section 5 has σ = 0 for hard sharing. Nothing here is sorted "
    "or chosen by σ."
)
_FIGURES_SAID = (
    "Figures are means over tasks on held-out images, `mean ± standard deviation` over seeds. "
    "Accuracy, precision, recall and balanced accuracy are at each task's threshold, chosen on the "
    "validation images. `majority` always answers each task's most frequent class: what is below "
    "it in accuracy may still be of use (balanced accuracy, AP), but not for its accuracy. The "
    "paper's own accuracies on CelebA lie below it, so its absolute numbers are no targets here. "
    "`AP, 95 %` is where AP lies in 95 % of resamples of the held-out images."
)
_COST_SAID = (
    "`passes` is the cost of asking one image all tasks, in multiply-adds of the convolutions, one "
    "pass of one full trunk being 1: what tasks share is computed once, then each task's own "
    "units. `masked` is the same served the paper's way, a full pass per task. Where every task "
    "has a trunk of its own both are what those trunks and their stitches cost."
)


@dataclass(frozen=True)
class Results:
    """Everything that a page says."""

    about: dict[str, Any]
    """Source, budget, methods, settings, command, machine; how many cells are done, and of how
    many."""
    rows: Sequence[Row]
    baselines: Sequence[Baseline]


def write_page(folder: Path, results: Results) -> None:
    """``result.json``, ``machine.json``, the plots and ``README.md`` in ``folder``.

    Raises:
        StateError: the folder cannot be written.
    """
    machine = results.about["machine"]
    data = {
        "about": results.about,
        "baselines": [vars(one) for one in results.baselines],
        "rows": [row.to_json() for row in results.rows],
    }
    write_json(folder / "result.json", data)
    write_json(folder / "machine.json", machine)
    try:
        page = "\n\n".join(
            [*_head(results), *_by_keep(folder, results), *_by_tasks(folder, results)]
        )
        (folder / "README.md").write_text(page + "\n", encoding="utf-8")
    except OSError as error:
        raise StateError(f"{folder}: cannot be written: {error.strerror or error}") from error


def terminal_table(results: Results) -> Table:
    """The main figures for a rich console."""
    table = Table(title=f"{results.about['source']}: {results.about['budget']}", box=None)
    for heading in ("method", "keep", "tasks"):
        table.add_column(heading, justify="left" if heading == "method" else "right")
    shown = {"accuracy": "acc", "precision": "prec", "recall": "recall"}
    shown |= {"balanced_accuracy": "balanced", "average_precision": "AP"}
    for heading in (*shown.values(), "passes"):
        table.add_column(heading, justify="right", no_wrap=True)
    for one in results.baselines:
        table.add_row("majority", "", str(one.tasks), f"{one.accuracy:.3f}")
    for row in results.rows:
        figures = [spread_cell(row.figures[name]) for name in shown]
        table.add_row(
            row.method, _keep(row.keep), str(row.tasks), *figures, spread_cell(row.passes, 2)
        )
    table.caption = "\n".join(
        f"{row.method}, {row.tasks} tasks: refused: {row.refused}"
        for row in results.rows
        if row.refused
    )
    return table


def spread_cell(spread: Spread | None, digits: int = 3) -> str:
    """``0.912 ± 0.004``, without the deviation where there is one seed or none at all."""
    if spread is None:
        return "–"
    mean = f"{spread.mean:.{digits}f}"
    return mean if not spread.std else f"{mean} ± {spread.std:.{digits}f}"


def _head(results: Results) -> list[str]:
    about = results.about
    done = "" if about["done"] == about["cells"] else (
        f"**Not finished: {about['done']} of {about['cells']} runs are in the tables.**"
    )  # fmt: skip
    methods = "\n".join(
        f"- `{name}`: {METHODS[name].about} (recipe `{METHODS[name].recipe}`)"
        for name in about["methods"]
    )
    images = ", ".join(f"{count} {split}" for split, count in about["images"].items())
    parts = [
        f"# Methods compared on {about['source']}",
        machine_line(about["machine"]),
        done,
        f"Images: {images}. Budget of every run: {about['budget']}; batch-norm statistics, "
        f"thresholds and evaluation come on top of it. Seeds: {about['seeds']}.",
        methods,
        _FIGURES_SAID,
        _READING,
        _COST_SAID,
        f"```sh\n{about['command']}\n```",
        _failures(results.rows),
    ]
    return [part for part in parts if part]


def _failures(rows: Iterable[Row]) -> str:
    failed = [
        f"- {row.method}, keep {_keep(row.keep) or 1}, {row.tasks} tasks: seed "
        f"{', '.join(map(str, row.failed_seeds))}: "
        + (f"refused: {row.refused} (setting `memory_limit_gb`)" if row.refused else "diverged")
        for row in rows
        if row.failed_seeds
    ]
    return "\n".join(["In no mean:", "", *failed]) if failed else ""


def _by_keep(folder: Path, results: Results) -> list[str]:
    """A section for each number of tasks (the paper's Table 2 and Figure 4)."""
    parts = []
    for tasks in dict.fromkeys(row.tasks for row in results.rows):
        rows = [row for row in results.rows if row.tasks == tasks]
        baseline = next((one for one in results.baselines if one.tasks == tasks), None)
        parts += [
            f"## Against keep, {tasks} tasks",
            _table(rows, [baseline] if baseline else [], "keep", lambda row: _keep(row.keep)),
        ]
        for name, draw in (("keep", against_keep), ("cost", against_cost)):
            file = f"{name}-{tasks}-tasks.png"
            draw(folder / file, rows, baseline)
            parts.append(f"![Figures against {name}, {tasks} tasks]({file})")
    return parts


def _by_tasks(folder: Path, results: Results) -> list[str]:
    """A section for each keep (the paper's Table 3 and Figure 5), where counts of tasks differ."""
    if len({row.tasks for row in results.rows}) < 2:
        return []
    parts = []
    for keep in sorted({row.keep for row in results.rows if row.keep is not None} or {1.0}):
        rows = [row for row in results.rows if row.keep in (keep, None)]
        file = f"tasks-keep-{keep:g}.png"
        against_tasks(folder / file, rows, results.baselines)
        parts += [
            f"## Against the number of tasks, keep {keep:g}",
            _table(rows, results.baselines, "tasks", lambda row: str(row.tasks)),
            f"![Figures against the number of tasks, keep {keep:g}]({file})",
        ]
    return parts


def _table(
    rows: Sequence[Row], trivial: Sequence[Baseline], axis: str, place: Callable[[Row], str]
) -> str:
    header = [
        "method",
        axis,
        *FIGURES.values(),
        "AP, 95 %",
        "passes",
        "masked",
        "training, s",
        "epochs",
        "parameters, M",
        "bundle, MB",
    ]
    lines = [header, ["---", *["---:"] * (len(header) - 1)]]
    for one in trivial:
        at = str(one.tasks) if axis == "tasks" else ""
        filled = ["majority", at, f"{one.accuracy:.3f}"]
        lines.append([*filled, *["–"] * (len(header) - len(filled))])
    for row in rows:
        figures = [spread_cell(row.figures[name]) for name in FIGURES]
        if row.refused and not row.seeds:
            figures[0] = f"refused: {row.refused}"
        costs = [spread_cell(row.passes, 2), spread_cell(row.masked_passes, 0)]
        took = [spread_cell(row.seconds, 0), spread_cell(row.epochs, 1)]
        size = [_millions(row.parameters), _millions(row.bundle_bytes)]
        lines.append(
            [row.method, place(row), *figures, _bounds(row.interval), *costs, *took, *size]
        )
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _millions(count: Spread | None) -> str:
    return "–" if count is None else f"{count.mean / 1e6:.3g}"


def _bounds(interval: tuple[float, float] | None) -> str:
    return "–" if interval is None else f"{interval[0]:.3f} to {interval[1]:.3f}"


def _keep(keep: float | None) -> str:
    return "" if keep is None else f"{keep:g}"
