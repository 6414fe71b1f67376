"""A training step of several tasks, by how many they are.

    python -m benchmarks.step_tasks

The default recipe's network behind its shared start: routes in the last two layers, statistics
per task. What the tasks share is computed once in a step; their own layers one task after the
other, or side by side (:mod:`model.small_maps`). Both take turns, in processor time of one thread;
beside them a step of hard sharing, which answers all tasks from the same features.
"""

from __future__ import annotations

import copy
import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Annotated, Any
from unittest import mock

import torch
import typer

from benchmarks.report import RESULTS, Report
from model.network import RoutedNetwork, build
from model.tasks import Task
from training.config import TrainSettings
from training.optimisation import make_optimiser
from training.settings_files import load_settings
from training.steps import step_loss

COUNTS = (1, 8, 24, 80)
HARD_SHARING = {"scheme": "independent", "routed_layers": "none", "norm": "batch"}
ROUTED = {"scheme": "independent"}  # a step costs the same whoever chose the routes


def _one_after_the_other() -> AbstractContextManager[Any]:
    return mock.patch("model.network.is_small", return_value=False)


WAYS: dict[str, tuple[dict[str, str], Callable[[], AbstractContextManager[Any]]]] = {
    "hard sharing": (HARD_SHARING, nullcontext),
    "one by one": (ROUTED, _one_after_the_other),
    "side by side": (ROUTED, nullcontext),
}


def stepper(network: RoutedNetwork, settings: TrainSettings, tasks: int) -> Callable[[], float]:
    """Takes a step of the first ``tasks`` tasks with a copy of ``network``; returns the loss."""
    network = copy.deepcopy(network).train()
    optimiser = make_optimiser(network, settings)
    draw = torch.Generator().manual_seed(0)
    shape = (settings.batch_size, *settings.image_size, 3)
    images = torch.randint(0, 256, shape, dtype=torch.uint8, generator=draw)
    labels = torch.randint(0, 2, (settings.batch_size, tasks), generator=draw)

    def step() -> float:
        loss = step_loss(network, images, labels, range(tasks), "cut", precision=settings.precision)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        return loss.item()

    return step


def measure(given: dict[str, Any], counts: Sequence[int], rounds: int) -> list[dict[str, Any]]:
    """By number of tasks: losses and processor seconds of every way, taken in turn."""
    tasks = tuple(Task(name=f"task{index}") for index in range(max(counts)))
    networks = {}
    for way, (changes, _) in WAYS.items():
        settings = load_settings(TrainSettings, "evidence", given | changes)
        networks[way] = (
            build(settings.network(tasks, settings.preprocess()), settings.seed),
            settings,
        )
    found = []
    for count in counts:
        steps = {way: stepper(*networks[way], count) for way in WAYS}
        losses: dict[str, list[float]] = {way: [] for way in WAYS}
        seconds: dict[str, list[float]] = {way: [] for way in WAYS}
        for _ in range(rounds + 1):
            for way, (_, circumstances) in WAYS.items():
                with circumstances():
                    began = time.process_time()
                    losses[way].append(steps[way]())
                    seconds[way].append(time.process_time() - began)
        found.append({
            "tasks": count, "losses": losses,
            "seconds": {way: taken[1:] for way, taken in seconds.items()},  # the first warms up
        })  # fmt: skip
    return found


def main(
    image_size: Annotated[str, typer.Option(help="Pixels: a side, or HEIGHTxWIDTH.")] = "40x30",
    width: Annotated[float, typer.Option(help="Share of VGG-11's units.")] = 0.25,
    batch: Annotated[int, typer.Option(help="Images per step.")] = 128,
    rounds: Annotated[int, typer.Option(help="Timed steps of each way.")] = 15,
    out: Annotated[Path, typer.Option(help="Where results go.")] = RESULTS / "step_tasks",
) -> None:
    """Steps of ever more tasks, in float32 and bfloat16."""
    torch.set_num_threads(1)
    report = Report(out, "A training step of several tasks")
    report.text(
        f"vgg11_bn, width {width:g}, {image_size} px, batch {batch}, routes in the last two layers "
        "at keep 0.5, statistics per task; one thread, processor time, median of "
        f"{rounds} steps each, taken in turn. The last two columns: by how much a step is longer "
        "than one of hard sharing with as many tasks."
    )
    results = {}
    for precision in ("float32", "bfloat16"):
        given = {
            "image_size": image_size, "width": width, "batch_size": batch, "precision": precision,
        }  # fmt: skip
        results[precision] = measure(given, COUNTS, rounds)
        report.section(precision)
        report.table(
            ["tasks", *(f"{way}, ms" for way in WAYS), "one by one", "side by side"],
            [_row(one) for one in results[precision]],
        )
    report.write({"px": image_size, "width": width, "batch": batch, "precisions": results})


def _row(result: dict[str, Any]) -> list[object]:
    shared, *routed = (1e3 * statistics.median(result["seconds"][way]) for way in WAYS)
    return [result["tasks"], shared, *routed, *(one / shared for one in routed)]


if __name__ == "__main__":
    typer.run(main)
