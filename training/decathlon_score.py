"""The Visual Decathlon's score of a model's errors (Rebuffi, Bilen and Vedaldi, "Learning multiple
visual domains with residual adapters", NIPS 2017, section 3.1).

    S = sum over domains d of alpha_d * max(0, E_max_d - E_d)^2,    alpha_d = 1000 / E_max_d^2

E_d is the share of a domain's test images that are misclassified, and E_max_d twice that of a
baseline: there, a network fine-tuned for the domain alone. A perfect domain is worth 1000 points,
the baseline's error 250, and twice its error or more nothing; lowering a low error counts for more
than lowering a high one.

    python -m training.decathlon_score ours.json [--baseline theirs.json]

takes what ``python -m training evaluate --json FILE`` wrote.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from training.errors import DataError

PERFECT = 1000.0
"""Points of a domain without an error."""

OFFICIAL_BASELINE: Mapping[str, float] = MappingProxyType(
    {
        "imagenet12": 0.4013,
        "aircraft": 0.3966,
        "cifar100": 0.1788,
        "daimlerpedcls": 0.0718,
        "dtd": 0.4447,
        "gtsrb": 0.0247,
        "vgg-flowers": 0.1859,
        "omniglot": 0.1231,
        "svhn": 0.0345,
        "ucf101": 0.4880,
    }
)
"""Test errors of a ResNet fine-tuned for each domain alone, as the paper reports them."""


def points(errors: Mapping[str, float], baseline: Mapping[str, float]) -> dict[str, float]:
    """Each domain's points; their sum is the score.

    Args:
        errors: by domain, the share of test images that are misclassified.
        baseline: the same of the baseline, above 0, for at least these domains.

    Raises:
        DataError: a domain without a baseline, or a share that is none.
    """
    for name, error in errors.items():
        if name not in baseline:
            raise DataError(
                f"no baseline for domain {name!r}; it is known for {', '.join(baseline)}"
            )
        if not (0 <= error <= 1 and 0 < baseline[name] <= 1):
            raise DataError(
                f"domain {name!r}: error {error} and baseline {baseline[name]}; errors are shares "
                "from 0 to 1, and a baseline's is above 0"
            )
    return {
        name: PERFECT * (max(0.0, 2 * baseline[name] - error) / (2 * baseline[name])) ** 2
        for name, error in errors.items()
    }


def errors_of(figures: Mapping[str, Any]) -> dict[str, float]:
    """Each task's error, from what ``evaluate --json`` or ``metrics.json`` say.

    The likelier class counts: of two classes the one above a probability of 0.5, whatever the
    task's threshold was chosen for.

    Raises:
        DataError: a task without labels, or something else than figures.
    """
    try:
        accuracies = {
            name: task["accuracy"] if (half := task.get("accuracy_at_half")) is None else half
            for name, task in figures["tasks"].items()
        }
    except (AttributeError, KeyError, TypeError) as error:
        raise DataError(f"no figures as `evaluate --json` writes them: {error!r}") from error
    for name, accuracy in accuracies.items():
        if accuracy is None:
            raise DataError(f"domain {name!r} has no labels in split {figures.get('split')!r}")
    return {name: 1 - accuracy for name, accuracy in accuracies.items()}


def _read_errors(path: Path) -> dict[str, float]:
    try:
        return errors_of(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read: {error}") from error


def _main(
    figures: Annotated[Path, typer.Argument(help="of `evaluate --json`: the model's figures")],
    baseline: Annotated[
        Path | None, typer.Option(help="the baseline's; default: the Visual Decathlon's own")
    ] = None,
) -> None:
    """Print a model's points by domain, and its decathlon score."""
    console = Console()
    try:
        errors = _read_errors(figures)
        beside = OFFICIAL_BASELINE if baseline is None else _read_errors(baseline)
        found = points(errors, beside)
    except DataError as error:
        Console(stderr=True).print(f"error: {error}", highlight=False)
        raise typer.Exit(1) from None
    table = Table("domain", "error", "baseline", "points", box=None)
    for name, one in found.items():
        table.add_row(name, f"{errors[name]:.4f}", f"{beside[name]:.4f}", f"{one:.0f}")
    console.print(table)
    console.print(f"score: {sum(found.values()):.0f}", highlight=False)


if __name__ == "__main__":
    typer.run(_main)
