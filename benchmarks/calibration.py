"""Ways to calibrate one network's probabilities, compared on held-out images.

    TASKROUTE_DATA=/data python -m benchmarks.calibration

A network is trained on the pack of CelebA. Each way is fitted on the validation images and looked
at on the test images. Which way is best is for the validation images alone to say: there, each of
five parts is predicted by what was fitted on the other four. Nothing else was chosen on these
images but thresholds: training has no early stopping and keeps its last weights.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray

from benchmarks.celeba_network import SETTINGS, about, published, source, trained
from benchmarks.report import RESULTS, Report
from model.tasks import Calibration, Task

if TYPE_CHECKING:
    from model.bundle import Bundle

PARTS = 5
FEWER = (100, 200, 400)
"""Validation images, in further fits."""
REPEATS = 4
"""Of each number of them, drawn anew."""
DRAWS = 20
"""Of labels, for the calibration error that right probabilities have."""

Logits = Sequence[NDArray[np.float32]]
Labels = NDArray[np.int16]
Way = Callable[[Sequence[Task], Logits, Labels], Sequence[Task]]


def uncalibrated(tasks: Sequence[Task], logits: Logits, labels: Labels) -> Sequence[Task]:
    """As the network says."""
    return [task.model_copy(update={"calibration": Calibration()}) for task in tasks]


def temperature(tasks: Sequence[Task], logits: Logits, labels: Labels) -> Sequence[Task]:
    """One scale for each task."""
    from training.calibration import calibrated

    return calibrated(tasks, logits, labels, "temperature")


def each_alone(tasks: Sequence[Task], logits: Logits, labels: Labels) -> Sequence[Task]:
    """Platt scaling of each task by its own labels."""
    from training.calibration import calibrated

    return [
        one
        for index, task in enumerate(tasks)
        for one in calibrated([task], [logits[index]], labels[:, [index]], "platt")
    ]


def together(tasks: Sequence[Task], logits: Logits, labels: Labels) -> Sequence[Task]:
    """Platt scaling drawn to what the tasks have in common: what ``train`` does."""
    from training.calibration import calibrated

    return calibrated(tasks, logits, labels, "platt")


WAYS: Mapping[str, Way] = {
    "none": uncalibrated,
    "temperature": temperature,
    "Platt, each task alone": each_alone,
    "Platt, drawn together": together,
}


def main(
    epochs: Annotated[float, typer.Option(help="Passes over the training images.")] = 6,
    seeds: Annotated[int, typer.Option(help="Networks, with seeds 0, 1, ...")] = 1,
    network: Annotated[
        str, typer.Option(help="REPOSITORY/NAME of one to look at instead of training any.")
    ] = "",
    build: Annotated[Path, typer.Option(help="For the networks.")] = Path("build/celeba"),
    out: Annotated[Path, typer.Option(help="Where results go.")] = RESULTS
    / "training"
    / "calibration",
) -> None:
    """Train on the pack, calibrate in every way, look at held-out images."""
    report = Report(out, "Ways to calibrate")
    report.text(
        "CelebA, 40 tasks. Means over tasks. `log loss, validation` is "
        f"cross-fitted in {PARTS} parts and is what chooses a way; the rest is of the test images. "
        "ECE has 15 bins of equal width; `least` is what it would be for the very same "
        "probabilities if they were right, since so few images in a bin are off by chance. "
        "Balanced accuracy is at thresholds from the validation images, and at 0.5."
    )
    if network:
        bundles = [published(network)]
    else:
        train = (*SETTINGS, f"--epochs={epochs:g}")
        bundles = [trained(build, (*train, f"--seed={seed}")) for seed in range(seeds)]
    found = []
    for bundle in bundles:
        scored = Scored.of(bundle)
        table = {name: figures(way, scored) for name, way in WAYS.items()}
        fewer = {name: with_fewer(way, scored) for name, way in WAYS.items()}
        training = bundle.metrics["training"]
        found.append({"training": training, "figures": table, "ece_with_fewer": fewer})
        report.text(about(bundle))
        report.table(["way", *next(iter(table.values()))], _lines(table))
        report.text("ECE of the test images, fitted on fewer validation images:")
        report.table(["way", *next(iter(fewer.values()))], _lines(fewer))
    report.write({"networks": found})


def _lines(table: Mapping[str, Mapping[str, float]]) -> list[list[str]]:
    return [[name, *(f"{value:.4f}" for value in one.values())] for name, one in table.items()]


@dataclass(frozen=True)
class Scored:
    """A network's tasks, not calibrated, and its logits with the labels of two splits."""

    tasks: Sequence[Task]
    val: Logits
    val_labels: Labels
    test: Logits
    test_labels: Labels

    @classmethod
    def of(cls, bundle: Bundle) -> Scored:
        """What the bundle's network says about the pack's images."""
        import torch

        from training.decoding import Decoder
        from training.prediction import predict_logits
        from training.sources import SourceOptions, open_source

        torch.set_num_threads(1)
        tasks = bundle.config.task_set
        dataset = open_source(source(), SourceOptions(0, tuple(tasks))).aligned(tasks)
        val, test = (
            Decoder().decode(dataset, split, bundle.config.preprocess) for split in ("val", "test")
        )
        network = bundle.network()
        return cls(
            uncalibrated(tuple(tasks), [], val.labels),
            predict_logits(network, val.pixels),
            val.labels,
            predict_logits(network, test.pixels),
            test.labels,
        )


def figures(way: Way, scored: Scored) -> dict[str, float]:
    """Of one way, fitted on all validation images."""
    from training.evaluation import with_thresholds
    from training.metrics import mean_figures, task_figures
    from training.prediction import task_probabilities

    fitted = way(scored.tasks, scored.val, scored.val_labels)
    chosen = task_probabilities(fitted, scored.val)
    fitted = with_thresholds(fitted, chosen, scored.val_labels, "balanced_accuracy")
    said = task_probabilities(fitted, scored.test)
    macro: dict[str, Any] = mean_figures(
        task_figures(task, said[index], scored.test_labels[:, index])
        for index, task in enumerate(fitted)
    )
    return {
        "log loss, validation": cross_fitted(way, scored),
        "log loss": log_loss(said, scored.test_labels),
        "ECE": macro["ece"],
        "least": least_ece(said),
        "mean off by": macro["rate_error"],
        "balanced accuracy": macro["balanced_accuracy"],
        "at 0.5": macro["balanced_accuracy_at_half"],
    }


def cross_fitted(way: Way, scored: Scored) -> float:
    """Validation log loss where each part of the images is predicted by what the others say."""
    from training.prediction import task_probabilities

    labels = scored.val_labels
    part = np.random.default_rng(0).permutation(len(labels)) % PARTS
    losses = []
    for index in range(PARTS):
        rest, held = part != index, part == index
        fitted = way(scored.tasks, [one[rest] for one in scored.val], labels[rest])
        said = task_probabilities(fitted, [one[held] for one in scored.val])
        losses.append(log_loss(said, labels[held]) * held.mean())
    return float(sum(losses))


def with_fewer(way: Way, scored: Scored) -> dict[str, float]:
    """Test ECE by the number of validation images that the way was fitted on."""
    from training.prediction import task_probabilities

    generator, found = np.random.default_rng(0), {}
    for count in FEWER:
        errors = []
        for _ in range(REPEATS):
            some = generator.permutation(len(scored.val_labels))[:count]
            fitted = way(scored.tasks, [one[some] for one in scored.val], scored.val_labels[some])
            said = task_probabilities(fitted, scored.test)
            errors += [ece(one, scored.test_labels[:, index]) for index, one in enumerate(said)]
        found[str(count)] = float(np.mean(errors))
    return found


def log_loss(said: Logits, labels: Labels) -> float:
    """Mean over images, then over tasks; every label is known."""
    chance = np.clip(np.stack(said, axis=1).astype(np.float64), 1e-7, 1 - 1e-7)  # [N, T]
    return float(-np.log(np.where(labels == 1, chance, 1 - chance)).mean())


def least_ece(said: Logits) -> float:
    """The calibration error of probabilities that are right: of labels drawn from them."""
    generator = np.random.default_rng(0)
    drawn = [
        ece(one, (generator.random(len(one)) < one).astype(np.int16))
        for one in said
        for _ in range(DRAWS)
    ]
    return float(np.mean(drawn))


def ece(said: NDArray[np.float32], labels: Labels) -> float:
    """One task's, as :mod:`training.metrics` has it."""
    from training.bootstrap import resampled_figures

    once = np.ones((len(labels), 1), np.float32)
    return float(resampled_figures(Task(name="one"), said, labels, once)["ece"][0])


if __name__ == "__main__":
    typer.run(main)
