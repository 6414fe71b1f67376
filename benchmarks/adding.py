"""A model of 39 attributes gets the 40th: do old answers hold, and is the new task as good?

    TASKROUTE_DATA=/data python -m benchmarks.adding

A network is trained on 39 attributes of the CelebA pack, the 40th is added with ``add-task``, and
all 40 are trained together for comparison. Then both versions are asked all old tasks about 1,000
held-out images, in every strategy and with and without the compiled kernels: every logit must be
equal. What is finished is kept in ``--build``: the same command goes on with what was cut short.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from rich.console import Console

from benchmarks.packs import packs
from benchmarks.report import RESULTS, Report, write_json
from model.network import RoutedNetwork
from model.preprocess import Pixels
from model.repository import Repository
from model.rows import RowBatch
from model.strategies import STRATEGIES, Strategy, make_forward
from training.decoding import Decoder
from training.preparation import decode_split
from training.sources import Dataset, open_source
from training.unreadable import MAX_SHARE, UnreadableImages

PACK = "celeba10k/celeba10k.npz"
PARENT, JOINT = "parent", "joint"
TRAIN = ("--config", "evidence", "--width", "0.25", "--image-size", "48", "--calibration", "platt")
FORWARDS: tuple[tuple[Strategy, bool], ...] = (
    *((strategy, True) for strategy in reversed(STRATEGIES)),
    ("subnet", False),
)
"""Strategies, and whether compiled kernels are used where they are at hand."""
_BATCH = 20  # images


def main(
    task: Annotated[str, typer.Option(help="The attribute to add.")] = "Young",
    epochs: Annotated[float, typer.Option(help="Of both trainings.")] = 10,
    images: Annotated[int, typer.Option(help="About which old tasks are asked.")] = 1000,
    threads: Annotated[int, typer.Option(help="CPU threads of all three.")] = 2,
    build: Annotated[Path, typer.Option(help="For networks and features.")] = Path("build/adding"),
    out: Annotated[Path, typer.Option(help="Where results go.")] = RESULTS / "adding",
) -> None:
    """Train, add, compare; fails where a bit of an old answer moved."""
    source = f"pack:{packs() / PACK}"
    dataset = open_source(source)
    others = [name for name in dataset.tasks.names if name != task]
    steps = Steps(build)
    flags = ("--threads", str(threads), "--seed", "0")
    train = (*TRAIN, f"--epochs={epochs:g}", *flags)
    steps.publish(PARENT, 1, "train", source, *train, "--tasks", ",".join(others))
    steps.publish(
        PARENT, 2, "add-task", source, *flags, "--version", "1", "--task", task,
        "--work-dir", str(build / "work"),
    )  # fmt: skip
    steps.publish(JOINT, 1, "train", source, *train)
    pixels = held_out(dataset, steps.network(PARENT, 1), images)
    for strategy, native in FORWARDS:
        steps.compare(pixels, strategy, native)
    write(out, steps, task, epochs, threads)
    if any(one["unequal"] for one in steps.done["answers"].values()):
        raise typer.Exit(1)


class Steps:
    """What was done, with what it took; kept in ``folder/steps.json``."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder, self._file = folder, folder / "steps.json"
        self.repository = Repository(folder)
        self.done: dict[str, Any] = {"took": {}, "answers": {}}
        if self._file.is_file():
            self.done = json.loads(self._file.read_text(encoding="utf-8"))

    def network(self, name: str, version: int) -> RoutedNetwork:
        """A published network."""
        return self.repository.read(name, version).network()

    def publish(self, name: str, version: int, command: str, source: str, *flags: str) -> None:
        """Run a command of ``python -m training`` that publishes ``version``, if none is there."""
        if version in self.repository.versions(name):
            return
        began, began_cpu = time.monotonic(), _children_cpu_s()
        place = ("--data", source, "--repository", str(self._folder), "--name", name)
        subprocess.run([sys.executable, "-m", "training", command, *place, *flags], check=True)
        self.done["took"][f"{name} {version}"] = {
            "wall_s": round(time.monotonic() - began, 1),
            "cpu_s": round(_children_cpu_s() - began_cpu, 1),
        }
        write_json(self._file, self.done)

    def compare(self, pixels: Pixels, strategy: Strategy, native: bool) -> None:
        """Count old tasks' rows whose logits are not equal before and after."""
        name = strategy if native else f"{strategy}, without compiled kernels"
        if name in self.done["answers"]:
            return
        before, after = self.network(PARENT, 1), self.network(PARENT, 2)
        unequal, rows, kernels = unequal_rows(before, after, pixels, strategy, native)
        found = {"images": len(pixels), "rows": rows, "unequal": unequal, "kernels": kernels}
        print(f"{name}: {found}", flush=True)
        self.done["answers"][name] = found
        write_json(self._file, self.done)


def held_out(dataset: Dataset, network: RoutedNetwork, images: int) -> Pixels:
    """The first ``images`` of test and validation images, as ``network`` reads them.

    Raises:
        BadParameter: there are fewer.
    """
    sets = [
        decode_split(
            Decoder(), dataset, split, network.config.preprocess, Console(stderr=True),
            UnreadableImages(MAX_SHARE),
        ).pixels
        for split in ("test", "val")
    ]  # fmt: skip
    found = np.concatenate(sets)[:images]
    if len(found) < images:
        raise typer.BadParameter(f"--images is {images}, and {len(found)} are held out")
    return found


def unequal_rows(
    before: RoutedNetwork, after: RoutedNetwork, pixels: Pixels, strategy: Strategy, native: bool
) -> tuple[int, int, str]:
    """Rows of old tasks with any other bit in ``after``, all such rows, and what computed them.

    ``after`` is asked its new tasks in the same batches, as a service is.
    """
    old, new = len(before.tasks), len(after.tasks)
    width = before.tasks.max_outputs
    forwards = [make_forward(one, strategy, native=native) for one in (before, after)]
    unequal = rows = 0
    for images in _batches(pixels):
        expected = forwards[0](RowBatch.all_pairs(images, range(old)))
        answers = forwards[1](RowBatch.all_pairs(images, range(new)))
        found = answers.view(len(images), new, -1)[:, :old, :width].reshape(expected.shape)
        rows += len(expected)
        if not torch.equal(found, expected):
            unequal += int((found != expected).any(dim=1).sum())
    return unequal, rows, forwards[1].kernels


def write(out: Path, steps: Steps, task: str, epochs: float, threads: int) -> None:
    """The page, from what was done."""
    added = steps.repository.read(PARENT, 2).metrics
    joint = steps.repository.read(JOINT, 1).metrics
    report = Report(out, f"{task} added to a model of the 39 other attributes of CelebA")
    report.text(
        f"`python -m benchmarks.adding`: recipe evidence, a quarter of VGG-11's units, 48x48 "
        f"pixels, {epochs:g} epochs, {threads} thread(s). Figures are of the pack's test images, "
        "with 95 % bootstrap intervals."
    )
    report.table(
        [f"{task} was", "average precision", "interval", "AUROC", "interval"],
        [[how, *_figures(metrics, task)]
         for how, metrics in (("added", added), ("trained with the others", joint))],
    )  # fmt: skip
    took = {name: steps.done["took"].get(name, {}) for name in ("parent 1", "parent 2", "joint 1")}
    report.section("What it took")
    report.text("A dash: published by an earlier call, which did not measure it.")
    report.table(
        ["step", "seconds", "of CPU"],
        [[label, took[name].get("wall_s"), took[name].get("cpu_s")]
         for name, label in (("parent 1", "train 39"), ("parent 2", f"add {task}"),
                             ("joint 1", "train all 40"))],
    )  # fmt: skip
    report.section("Old answers, before and after")
    report.table(
        ["strategy", "computed by", "images", "answers", "not torch.equal"],
        [[name, one["kernels"], one["images"], one["rows"], one["unequal"]]
         for name, one in steps.done["answers"].items()],
    )  # fmt: skip
    figures = {
        how: {"figures": metrics["tasks"][task], "intervals": metrics["intervals"]["tasks"][task]}
        for how, metrics in (("added", added), ("joint", joint))
    }
    report.write({"task": task, "epochs": epochs, "threads": threads, "train": TRAIN,
                  **figures, **steps.done})  # fmt: skip


def _figures(metrics: dict[str, Any], task: str) -> Iterator[str]:
    for name in ("average_precision", "auroc"):
        low, high = metrics["intervals"]["tasks"][task][name]
        yield f"{metrics['tasks'][task][name]:.3f}"
        yield f"{low:.3f} to {high:.3f}"


def _batches(pixels: Pixels) -> Iterator[torch.Tensor]:
    for start in range(0, len(pixels), _BATCH):
        yield torch.from_numpy(np.array(pixels[start : start + _BATCH]))


def _children_cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    typer.run(main)
