"""A small decathlon: residual adapters with and without task routing, and hard sharing.

    TASKROUTE_DATA=/data python -m benchmarks.decathlon

Five domains (:mod:`benchmarks.mini_decathlon`) at 32 px, from scratch. Every network sees each
domain's images equally often, in as many steps. The score is the Visual Decathlon's
(:mod:`training.decathlon_score`), the baseline a network of the same backbone for each domain
alone. What is finished is kept in ``--out``: the same command goes on with what was cut short.
"""

from __future__ import annotations

import itertools
import json
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks.mini_decathlon import Counts, write_mini_decathlon
from benchmarks.packs import packs
from benchmarks.report import RESULTS, Report, write_json
from model.plan import cost, make_plan
from model.repository import Repository
from training.cli import main as training
from training.decathlon_score import errors_of, points

DOMAINS = ("birds", "digits", "faces", "garments", "objects")
KEEPS = (0.2, 0.4, 0.6, 0.8)
PER_STEP = 16
"""Images of each domain in a step."""

BACKBONE = ("--arch", "resnet26", "--width", "0.25", "--embedding", "0", "--image-size", "32")
TRAINING = (
    "--optimiser", "adamw", "--lr", "0.004", "--schedule", "one_cycle", "--weight-decay", "0.01",
    "--shift", "3", "--bootstrap-resamples", "0",
)  # fmt: skip
TOGETHER = ("--sampler", "domains", "--normalisation", "domain")
ADAPTERS = ("--norm", "batch_per_domain", "--adapters", "parallel", "--compute", "cut")
UNROUTED = ("--routed-layers", "none")


@dataclass(frozen=True)
class Entry:
    """One network of the comparison, or one for each domain."""

    label: str
    flags: tuple[str, ...]
    alone: bool = False
    """A network for each domain."""


ENTRIES = {
    "single": Entry(
        "a network per domain (the baseline)", (*UNROUTED, "--norm", "batch"), alone=True
    ),
    "shared": Entry(
        "hard sharing", (*UNROUTED, *TOGETHER, "--norm", "batch", "--compute", "masked")
    ),
    "adapters": Entry("residual adapters (keep 1.0)", (*UNROUTED, *TOGETHER, *ADAPTERS)),
    **{
        f"routed-{keep:g}": Entry(
            f"residual adapters and routes, keep {keep:g}",
            ("--scheme", "independent", "--routed-layers", "all", "--keep", f"{keep:g}",
             "--unit-multiple", "1", *TOGETHER, *ADAPTERS),
        )
        for keep in KEEPS
    },
}  # fmt: skip


def main(
    steps: Annotated[int, typer.Option(help="Of training, for every network.")] = 300,
    seeds: Annotated[int, typer.Option(help="How often everything is trained.")] = 1,
    build: Annotated[Path, typer.Option(help="For images and networks.")] = Path("build/decathlon"),
    out: Annotated[Path, typer.Option(help="Where results go.")] = RESULTS / "decathlon",
) -> None:
    """Train and score every entry; goes on with what an earlier call left unfinished."""
    root = build / "decathlon-1.0"
    write_mini_decathlon(packs(), root, Counts())
    for seed in range(seeds):
        for key in ENTRIES:
            cell = out / "cells" / f"{key}-seed{seed}.json"
            if not cell.is_file():
                cell.parent.mkdir(parents=True, exist_ok=True)
                write_json(cell, run(key, seed, steps, root, build / "models"))
            elif (earlier := json.loads(cell.read_text(encoding="utf-8"))["steps"]) != steps:
                raise typer.BadParameter(
                    f"{cell} is of {earlier} steps, and --steps is {steps}: compare into another "
                    "folder (--out), or delete the cells"
                )
            write(out, steps)


def run(key: str, seed: int, steps: int, root: Path, repository: Path) -> dict[str, Any]:
    """Train an entry: its errors by domain, and what it takes."""
    entry = ENTRIES[key]
    found: dict[str, Any] = {
        "steps": steps, "errors": {}, "parameters": 0, "macs": {}, "cpu_s": 0.0,
    }  # fmt: skip
    for domains in ([one] for one in DOMAINS) if entry.alone else [list(DOMAINS)]:
        name = f"{key}-seed{seed}" + (f"-{domains[0]}" if entry.alone else "")
        began = time.process_time()
        if code := training(command(entry, domains, seed, steps, root, repository, name)):
            raise typer.Exit(code)
        found["cpu_s"] = round(found["cpu_s"] + time.process_time() - began, 1)
        bundle = Repository(repository).read(name)
        network = bundle.network()
        found["parameters"] += sum(network.parameter_counts().values())
        found["errors"] |= errors_of(bundle.metrics)
        for index, task in enumerate(network.tasks):
            found["macs"][task.name] = cost(make_plan(network, [index]), [index]).macs
        found["images"] = bundle.metrics["data"]["images"]
    return found


def command(
    entry: Entry, domains: Sequence[str], seed: int, steps: int, root: Path, repository: Path,
    name: str,
) -> list[str]:  # fmt: skip
    """What ``python -m training`` is told: a network on ``domains``, in ``steps`` steps."""
    batch = PER_STEP * len(domains)
    images = sum(_train_images(root, domain) for domain in domains)
    flags = (*BACKBONE, *TRAINING, "--batch-size", str(batch), *entry.flags)
    epochs = steps / max(1, images // batch)
    return [
        "train", "--restart", "--config", "default",
        "--data", f"decathlon:{root},domains={'+'.join(domains)}",
        "--repository", str(repository), "--name", name, "--seed", str(seed), "--threads", "1",
        "--epochs", f"{epochs:.6f}", *flags,
    ]  # fmt: skip


def write(out: Path, steps: int) -> None:
    """The page, from what is finished."""
    cells = {key: found for key in ENTRIES if (found := list(_cells(out, key)))}
    report = Report(out, "A small decathlon: residual adapters with and without task routing")
    report.text(
        f"`python -m benchmarks.decathlon --steps {steps}`: digits, garments, birds (species), "
        "faces (colour of hair) and objects at 32 px; ResNet-26 with a quarter of its units, from "
        f"scratch, {steps} steps of {PER_STEP} images of each domain on one thread. "
        "The backbone is the one of the residual adapters' paper; there it was trained on ImageNet "
        "first, here adapters and shared weights learn together, as with task routing."
    )
    report.text(
        "Score: the Visual Decathlon's, the sum over domains of 1000 max(0, 1 - E / 2B)^2 for test "
        "error E, with B the error of a network for that domain alone: the baseline has 250 a "
        "domain. With keep 1.0 every task uses every unit: routes then change nothing, and the "
        "row is that of the adapters without. These networks are narrow, 8 to 64 units a layer, of "
        "which keep 0.2 leaves a task 2 to 13, and trained for minutes: the order of the rows is "
        "theirs, not that of the paper's networks on the full decathlon. A misread one of the 400 "
        "digits costs some 40 points near the baseline's error, so chance moves a score by 150."
    )
    report.table(*_table(cells))
    report.section("Test errors by domain")
    report.table(
        ["", *DOMAINS],
        [[ENTRIES[key].label, *(f"{_mean(one['errors'][d] for one in runs):.3f}" for d in DOMAINS)]
         for key, runs in cells.items()],
    )  # fmt: skip
    report.write({"steps": steps, "domains": DOMAINS, "per_step": PER_STEP,
                  "flags": [*BACKBONE, *TRAINING], "cells": cells})  # fmt: skip


def _table(cells: Mapping[str, Sequence[dict[str, Any]]]) -> tuple[list[str], list[list[object]]]:
    rows: list[list[object]] = []
    for key, runs in cells.items():
        scores = [
            sum(points(one["errors"], base["errors"]).values())
            for one, base in zip(runs, cells["single"], strict=False)
        ]
        rows.append([
            ENTRIES[key].label,
            " / ".join(f"{score:.0f}" for score in scores),
            f"{1 - _mean(_mean(one['errors'].values()) for one in runs):.3f}",
            runs[0]["parameters"] / 1e6,
            _mean(_mean(one["macs"].values()) for one in runs) / 1e6,
            _mean(one["cpu_s"] for one in runs),
        ])  # fmt: skip
    heads = ["", "score by seed", "mean accuracy", "parameters, M", "multiply-adds a row, M",
             "CPU s"]  # fmt: skip
    return heads, rows


def _cells(out: Path, key: str) -> Iterator[dict[str, Any]]:
    """Of seeds 0, 1, ... as far as there are any."""
    for seed in itertools.count():
        path = out / "cells" / f"{key}-seed{seed}.json"
        if not path.is_file():
            return
        cell: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        yield cell


def _mean(values: Any) -> float:
    return statistics.fmean(values)


def _train_images(root: Path, domain: str) -> int:
    path = root / "annotations" / f"{domain}_train.json"
    return len(json.loads(path.read_text(encoding="utf-8"))["images"])


if __name__ == "__main__":
    typer.run(main)
