"""A training step through a task's own units, against the same step through the whole network.

    python -m benchmarks.training_step

One task per step, as in the paper's Algorithm 1; a route in every layer. A step is forward, loss,
backward and the optimiser's update. Both ways start from the same weights on the same images, so
their losses must be equal; they are timed in turn, in processor time of one thread, so that what
else the machine does disturbs little. No training data is needed: the cost does not depend on it.
"""

from __future__ import annotations

import copy
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, cast, get_args

import torch
import typer

from benchmarks.report import RESULTS, Report
from model.network import RoutedNetwork, build
from model.tasks import Task
from training.config import TrainSettings
from training.optimisation import make_optimiser
from training.settings_files import load_settings
from training.steps import Compute, Precision, step_loss

TASKS, TASK = 40, 7
LOSS_TOLERANCE = 1e-4


class Step:
    """One way to take a training step, with a network and an optimiser of its own."""

    def __init__(
        self, network: RoutedNetwork, settings: TrainSettings, compute: Compute, batch: int
    ) -> None:
        """``network`` is copied; images and labels are the same for every way."""
        self._network = copy.deepcopy(network).train()
        self._optimiser = make_optimiser(self._network, settings)
        self._settings, self._compute = settings, compute
        draw = torch.Generator().manual_seed(0)
        shape = (batch, *settings.image_size, 3)
        self._images = torch.randint(0, 256, shape, dtype=torch.uint8, generator=draw)
        self._labels = torch.randint(0, 2, (batch, 1), generator=draw)

    def __call__(self) -> float:
        """The loss before the update."""
        loss = step_loss(
            self._network, self._images, self._labels, [TASK], self._compute,
            precision=self._settings.precision,
        )  # fmt: skip
        self._optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self._optimiser.step()
        return loss.item()


def measure(settings: TrainSettings, batch: int, rounds: int) -> dict[str, Any]:
    """Losses and processor seconds of both ways, step by step; the first step is not timed."""
    tasks = tuple(Task(name=f"task{index}", classes=("no", "yes")) for index in range(TASKS))
    network = build(settings.network(tasks, settings.preprocess()), settings.seed)
    ways = {way: Step(network, settings, way, batch) for way in get_args(Compute)}
    first = {way: step() for way, step in ways.items()}
    timed: dict[str, list[tuple[float, float]]] = {way: [] for way in ways}
    for _ in range(rounds):
        for way, step in ways.items():
            timed[way].append(_timed(step))
    seconds = {way: [took for took, _ in steps] for way, steps in timed.items()}
    return {
        "precision": settings.precision,
        "losses": {way: [first[way], *(loss for _, loss in timed[way])] for way in ways},
        "loss_difference": abs(first["cut"] - first["masked"]),
        "seconds": seconds,
        "faster": statistics.median(
            slow / fast for slow, fast in zip(seconds["masked"], seconds["cut"], strict=True)
        ),
    }


def _timed(step: Callable[[], float]) -> tuple[float, float]:
    before = time.process_time()
    loss = step()
    return time.process_time() - before, loss


def main(
    keep: Annotated[float, typer.Option(help="Share of every layer's units.")] = 0.4,
    arch: Annotated[str, typer.Option(help="Backbone.")] = "vgg11_bn",
    batch: Annotated[int, typer.Option(help="Images per step.")] = 64,
    image_size: Annotated[int, typer.Option(help="Pixels.")] = 32,
    rounds: Annotated[int, typer.Option(help="Timed steps of each way.")] = 15,
    out: Annotated[Path, typer.Option(help="Where results go.")] = RESULTS / "training_step",
) -> None:
    """Masked against cut training steps, in float32 and bfloat16."""
    torch.set_num_threads(1)
    results = []
    for precision in cast("tuple[Precision, ...]", get_args(Precision)):
        given = {"arch": arch, "keep": keep, "image_size": image_size, "precision": precision}
        result = measure(load_settings(TrainSettings, "paper", given), batch, rounds)
        results.append(result)
        print(
            f"{precision}: {result['faster']:.2f} times faster, first losses differ by "
            f"{result['loss_difference']:.1e}"
        )
    report = Report(out, "A training step at subnet cost")
    report.text(
        f"{arch}, keep {keep:g} in every layer, one of {TASKS} tasks per step, batch {batch}, "
        f"{image_size} px, one thread, processor time; median of {rounds} steps each, taken in "
        "turn. *Same loss*: of the first step, from the same weights on the same images."
    )
    report.table(
        ["precision", "masked, ms", "cut, ms", "times faster", "loss, masked", "loss, cut"],
        [_row(result) for result in results],
    )
    report.write({"keep": keep, "arch": arch, "batch": batch, "px": image_size, "runs": results})
    wrong = [one for one in results if one["precision"] == "float32"]
    if any(one["loss_difference"] > LOSS_TOLERANCE for one in wrong):
        raise typer.Exit(1)


def _row(result: dict[str, Any]) -> list[object]:
    milliseconds = [1e3 * statistics.median(result["seconds"][way]) for way in ("masked", "cut")]
    losses = [f"{result['losses'][way][0]:.6f}" for way in ("masked", "cut")]
    return [result["precision"], *milliseconds, result["faster"], *losses]


if __name__ == "__main__":
    typer.run(main)
