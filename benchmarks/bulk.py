"""What a bulk job costs beside its engine: rows per second of the job, and of the engine alone.

    python -m benchmarks.bulk

On networks of ``benchmarks.engine``, all tasks of every image. Ways take turns in every round, in
one process, with the same version, images and threads: the engine on images that are decoded and in
memory, the job from JPEG files to files of answers.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer

from benchmarks.bundles import BundleSpec, ensure
from benchmarks.images import jpegs
from benchmarks.report import RESULTS, Report
from model.preprocess import load_image
from model.rows import RowBatch
from service.bulk.inputs import parts
from service.bulk.journal import Journal, Plan
from service.bulk.part_scorer import BulkOptions, PartScorer, load_model
from service.bulk.scorer import Scorer
from service.bulk.writers import FORMATS, Format
from service.core.run_options import RunOptions
from service.core.served import ServedModel

ENGINE, ONE_BY_ONE = "engine", "engine, image by image"
DISTINCT = 64
# A job of millions fills its pipeline once; one of a few seconds must not be judged by that.
BATCHES = 16


@dataclass(frozen=True)
class Cell:
    """A network, and the JPEG files for it."""

    spec: BundleSpec
    edge: int  # px, square
    images: int  # at least; always enough for BATCHES batches


# Dear tails; cheap tails, beside which all else weighs more; the same from photographs.
CELLS = (
    Cell(BundleSpec(image_size=64, routed_layers="all"), 160, 512),
    Cell(BundleSpec(image_size=64, routed_layers="last:2"), 160, 1024),
    Cell(BundleSpec(image_size=224, routed_layers="last:2"), 500, 128),
)


@dataclass(frozen=True)
class Cost:
    """Of one round of one way."""

    rows_per_s: float
    rows_per_cpu_s: float
    """By the processor time of all threads: other programs on the machine hardly change it."""


def cost(run: Callable[[], int]) -> Cost:
    """Of ``run``, which returns how many rows it scored."""
    began, cpu_began = time.perf_counter(), time.process_time()
    rows = run()
    seconds, cpu_seconds = time.perf_counter() - began, time.process_time() - cpu_began
    return Cost(rows / seconds, rows / cpu_seconds)


def run_engine(model: ServedModel, pixels: torch.Tensor, batch: int) -> int:
    """The forward alone, in batches of ``batch`` images."""
    tasks, rows = range(len(model.tasks)), 0
    with torch.inference_mode():
        for start in range(0, len(pixels), batch):
            rows += len(model.forward(RowBatch.all_pairs(pixels[start : start + batch], tasks)))
    return rows


def run_job(
    model: ServedModel, options: BulkOptions, photos: Path, kind: Format, batch: int
) -> int:
    """A whole job from files to files, with a model that is loaded already."""
    with tempfile.TemporaryDirectory(dir=photos.parent) as out:
        plan = Plan(
            input=str(photos),
            tasks=model.tasks.names,
            model=model.name,
            version=model.version,
            digest=model.digest,
            format=kind,
            images_per_part=4096,
            batch_images=batch,
        )
        journal = Journal(Path(out))
        with journal.locked():
            plan = journal.begin(plan, parts(plan.input, plan.images_per_part))
            scorer = PartScorer(Path(out), plan, options, model)
            rows = sum(counts.rows for _, counts in scorer.score(journal.pending(plan)))
            scorer.close()
    return rows


def measure(
    model: ServedModel, options: BulkOptions, edge: int, images: int, rounds: int
) -> dict[str, Any]:
    """Costs of every way in every round, and of decoding alone."""
    tasks = len(model.tasks)
    batch = Scorer(model, range(tasks)).best_batch()
    images = max(images, BATCHES * batch)
    with tempfile.TemporaryDirectory() as place:
        photos = write_images(Path(place) / "photos", images, edge)
        began = time.process_time()
        pixels = [
            load_image(path.read_bytes(), model.config.preprocess).pixels
            for path in sorted(photos.iterdir())
        ]
        decode_cpu_s = (time.process_time() - began) / images
        stacked = torch.from_numpy(np.stack(pixels))
        few = stacked[: max(1, images // 8)]  # the slowest way
        ways: dict[str, Callable[[], int]] = {
            ENGINE: partial(run_engine, model, stacked, batch),
            ONE_BY_ONE: partial(run_engine, model, few, 1),
        }
        for kind in FORMATS:
            ways[f"job, {kind}"] = partial(run_job, model, options, photos, kind, batch)
        costs: dict[str, list[Cost]] = {name: [] for name in ways}
        for _ in range(rounds):
            for name, run in ways.items():
                costs[name].append(cost(run))
    return {
        "model": model.name, "edge": edge, "images": images, "batch": batch, "tasks": tasks,
        "decode_cpu_s_per_image": decode_cpu_s,
        "costs": {name: [asdict(one) for one in found] for name, found in costs.items()},
    }  # fmt: skip


def write_images(folder: Path, count: int, edge: int) -> Path:
    """JPEG files of few pictures: what a file costs depends on its size, not on its novelty."""
    pictures = jpegs(min(DISTINCT, count), edge, edge)
    folder.mkdir()
    for index in range(count):
        (folder / f"{index:06}.jpg").write_bytes(pictures[index % len(pictures)])
    return folder


def to_engine(result: dict[str, Any], way: str, figure: str) -> float:
    """Median over rounds of a figure's ratio to the engine's in the same round."""
    rounds = zip(result["costs"][way], result["costs"][ENGINE], strict=True)
    ratios: list[float] = [one[figure] / engine[figure] for one, engine in rounds]
    return statistics.median(ratios)


def decode_bound(result: dict[str, Any]) -> float:
    """The ratio of processor times of a job that did nothing but decode and run the engine."""
    per_cpu_s = statistics.median(one["rows_per_cpu_s"] for one in result["costs"][ENGINE])
    engine_cpu_s = result["tasks"] / per_cpu_s  # of an image
    return float(engine_cpu_s / (engine_cpu_s + result["decode_cpu_s_per_image"]))


def table(result: dict[str, Any]) -> list[list[object]]:
    """A line for each way."""
    return [
        [
            way,
            statistics.median(one["rows_per_s"] for one in found),
            to_engine(result, way, "rows_per_s"),
            statistics.median(one["rows_per_cpu_s"] for one in found),
            to_engine(result, way, "rows_per_cpu_s"),
        ]
        for way, found in result["costs"].items()
    ]


def write_report(folder: Path, results: Sequence[dict[str, Any]], threads: int) -> None:
    report = Report(folder, f"Bulk: a job beside its engine, {threads} threads")
    report.text(
        "`engine`: the forward alone, images decoded and in memory, in the batches that the job "
        "has; `image by image`: as `benchmarks.engine` asks it. `job`: from JPEG files to files of "
        "answers, with the same loaded model. Ways take turns in every round; medians over rounds, "
        "of rates and of their ratios within a round. CPU s: processor time of all threads, which "
        "other programs on the machine hardly change."
    )
    for result in results:
        report.section(f"{result['model']}, files of {result['edge']} px")
        report.table(
            ["way", "rows/s", "of the engine", "rows per CPU s", "of the engine's"], table(result)
        )
        report.text(
            f"{result['images']} files, all {result['tasks']} tasks of each, batches of "
            f"{result['batch']}. Decoding takes {1000 * result['decode_cpu_s_per_image']:.2f} ms "
            "of processor time a file: where the engine keeps every processor busy, no job that "
            f"decodes there can reach more than {decode_bound(result):.3f} of it."
        )
    report.write({"threads": threads, "cells": list(results)})


def main(
    threads: Annotated[int, typer.Option(help="of the engine")] = 2,
    rounds: int = 5,
    out: Annotated[Path | None, typer.Option(help="folder for the result")] = None,
) -> None:
    """Measure every cell and write tables and raw figures."""
    results = []
    for cell in CELLS:
        options = BulkOptions(
            str(ensure(cell.spec)), RunOptions(strategy="subnet", workers=threads)
        )
        model = load_model(cell.spec.model, None, options)
        results.append(measure(model, options, cell.edge, cell.images, rounds))
        for way, *figures in table(results[-1]):
            print(cell.spec.model, way, *(f"{figure:.3f}" for figure in figures), flush=True)
    write_report(out or RESULTS / "bulk", results, threads)


if __name__ == "__main__":
    typer.run(main)
