"""What a bulk job costs beside its engine: rows per second of the job, and of the engine alone.

    python -m benchmarks.bulk
    python -m benchmarks.bulk --image-size 28 --images 4000

Both in one process, one after the other in every round, on the same version, tasks, images, threads
and batch size: the engine on images that are decoded and in memory, the job from files to files.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from benchmarks.bundles import BundleSpec, ensure
from benchmarks.images import jpeg
from benchmarks.report import RESULTS, Report
from model.preprocess import load_image
from model.rows import RowBatch
from service.bulk.decoding import DecodedImage
from service.bulk.inputs import parts
from service.bulk.journal import Journal, Plan
from service.bulk.part_scorer import BulkOptions, PartScorer, load_model
from service.bulk.scorer import Scorer
from service.bulk.writers import FORMATS, Format
from service.core.run_options import RunOptions
from service.core.served import ServedModel

DISTINCT = 64


def write_images(folder: Path, count: int, edge: int) -> Path:
    """JPEG files of few pictures: what a file costs depends on its size, not on its novelty."""
    pictures = [jpeg(seed, edge, edge) for seed in range(min(DISTINCT, count))]
    folder.mkdir()
    for index in range(count):
        (folder / f"{index:06}.jpg").write_bytes(pictures[index % len(pictures)])
    return folder


@dataclass(frozen=True)
class Cost:
    """Of one round of one way."""

    rows_per_s: float
    rows_per_cpu_s: float
    """By the processor time of all threads: other programs on the machine hardly change it."""


def engine_cost(model: ServedModel, images: Sequence[DecodedImage], batch: int) -> Cost:
    """The forward alone, on decoded images in batches of ``batch``."""
    tasks = range(len(model.tasks))
    stacked = torch.stack([torch.from_numpy(image.pixels) for image in images])
    began, cpu_began = time.perf_counter(), time.process_time()
    with torch.inference_mode():
        for start in range(0, len(images), batch):
            model.forward(RowBatch.all_pairs(stacked[start : start + batch], tasks))
    rows = len(images) * len(tasks)
    seconds, cpu_seconds = time.perf_counter() - began, time.process_time() - cpu_began
    return Cost(rows / seconds, rows / cpu_seconds)


def job_cost(model: ServedModel, plan: Plan, options: BulkOptions, out: Path) -> Cost:
    """The job of ``plan`` from files to files, with the same loaded model."""
    journal = Journal(out)
    with journal.locked():
        plan = journal.begin(plan, parts(plan.input, plan.images_per_part))
        began, cpu_began = time.perf_counter(), time.process_time()
        scorer = PartScorer(out, plan, options, model)
        rows = sum(counts.rows for _, counts in scorer.score(journal.pending(plan)))
        scorer.close()
        seconds, cpu_seconds = time.perf_counter() - began, time.process_time() - cpu_began
    return Cost(rows / seconds, rows / cpu_seconds)


def main(
    images: Annotated[int, typer.Option(help="files of the job")] = 1024,
    edge: Annotated[int, typer.Option(help="of the files, px")] = 160,
    image_size: Annotated[int, typer.Option(help="of the network, px")] = 64,
    tasks: int = 40,
    keep: float = 0.4,
    routed_layers: str = "all",
    threads: Annotated[int, typer.Option(help="of the engine")] = 2,
    rounds: int = 5,
    out: Annotated[Path | None, typer.Option(help="folder for the result")] = None,
) -> None:
    """Measure both ways in turn and write table and raw figures."""
    spec = BundleSpec(tasks, keep, image_size, routed_layers)
    options = BulkOptions(str(ensure(spec)), RunOptions(strategy="subnet", workers=threads))
    model = load_model(spec.model, None, options)
    batch = Scorer(model, range(tasks)).best_batch()
    formats: tuple[Format, ...] = tuple(FORMATS)
    costs: dict[str, list[Cost]] = {"engine": [], **{name: [] for name in formats}}
    with tempfile.TemporaryDirectory() as place:
        photos = write_images(Path(place) / "photos", images, edge)
        decoded = [
            DecodedImage(path.name, load_image(path.read_bytes(), model.config.preprocess).pixels)
            for path in sorted(photos.iterdir())
        ]
        for number in range(rounds):
            costs["engine"].append(engine_cost(model, decoded, batch))
            for kind in formats:
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
                out_dir = Path(place) / f"{kind}-{number}"
                costs[kind].append(job_cost(model, plan, options, out_dir))
            print({name: round(of[-1].rows_per_cpu_s) for name, of in costs.items()}, flush=True)
    about = {"images": images, "edge": edge, "batch": batch, "threads": threads}
    write_report(out or RESULTS / "bulk", spec, costs, about)


def write_report(
    folder: Path, spec: BundleSpec, costs: dict[str, list[Cost]], about: dict[str, Any]
) -> None:
    report = Report(folder, f"Bulk: {spec.model}, {about['threads']} threads")
    engine = costs["engine"]
    rows = []
    for name, found in costs.items():
        pairs = list(zip(found, engine, strict=True))
        rows.append(
            [
                name,
                statistics.median(one.rows_per_s for one in found),
                statistics.median(one.rows_per_s / other.rows_per_s for one, other in pairs),
                statistics.median(one.rows_per_cpu_s for one in found),
                statistics.median(
                    one.rows_per_cpu_s / other.rows_per_cpu_s for one, other in pairs
                ),
            ]
        )
    report.table(["way", "rows/s", "of the engine", "rows per CPU s", "of the engine's"], rows)
    report.text(
        f"{about['images']} JPEG files of {about['edge']} x {about['edge']} px, batches of "
        f"{about['batch']} images. `engine`: the forward alone, images decoded and in memory; the "
        "others: a bulk job from files to files of that format, with the same loaded model. In "
        "turn in every round; medians over rounds, of rates and of their ratios within a round. "
        "CPU s: processor time of all threads, which other programs on the machine hardly change."
    )
    raw = {name: [asdict(one) for one in found] for name, found in costs.items()}
    report.write({"costs": raw, "about": about, "model": spec.model})


if __name__ == "__main__":
    typer.run(main)
