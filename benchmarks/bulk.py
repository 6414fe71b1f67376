"""What a bulk job costs beside its engine: rows per second of the job, and of the engine alone.

    python -m benchmarks.bulk
    python -m benchmarks.bulk --image-size 28 --images 4000

Both in one process, one after the other in every round, on the same version, tasks, images, threads
and batch size: the engine on images that are decoded and in memory, the job from files to files.
"""

from __future__ import annotations

import io
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.console import Console

from benchmarks.bundles import BundleSpec, ensure
from benchmarks.images import jpeg
from benchmarks.report import RESULTS, Report
from model.preprocess import load_image
from model.rows import RowBatch
from service.bulk.decoding import DecodedImage
from service.bulk.job import Request, run_job
from service.bulk.part_scorer import BulkOptions, load_model
from service.bulk.progress import Progress
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


def engine_rows_per_s(model: ServedModel, images: Sequence[DecodedImage], batch: int) -> float:
    """The forward alone, on decoded images in batches of ``batch``."""
    tasks = range(len(model.tasks))
    stacked = torch.stack([torch.from_numpy(image.pixels) for image in images])
    began = time.perf_counter()
    with torch.inference_mode():
        for start in range(0, len(images), batch):
            model.forward(RowBatch.all_pairs(stacked[start : start + batch], tasks))
    return len(images) * len(tasks) / (time.perf_counter() - began)


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
    rates: dict[str, list[float]] = {"engine": [], **{name: [] for name in formats}}
    with tempfile.TemporaryDirectory() as place:
        photos = write_images(Path(place) / "photos", images, edge)
        decoded = [
            DecodedImage(path.name, load_image(path.read_bytes(), model.config.preprocess).pixels)
            for path in sorted(photos.iterdir())
        ]
        for number in range(rounds):
            rates["engine"].append(engine_rows_per_s(model, decoded, batch))
            for kind in formats:
                request = Request(
                    str(photos),
                    Path(place) / f"{kind}-{number}",
                    spec.model,
                    options,
                    format=kind,
                    batch_images=batch,
                )
                outcome = run_job(request, Progress(Console(file=io.StringIO())))
                rates[kind].append(outcome.added.rows / outcome.seconds)
            print(f"round {number + 1}:", {name: round(of[-1]) for name, of in rates.items()})
    write_report(out or RESULTS / "bulk", spec, rates, {"images": images, "edge": edge,
                 "batch": batch, "threads": threads})  # fmt: skip


def write_report(
    folder: Path, spec: BundleSpec, rates: dict[str, list[float]], about: dict[str, Any]
) -> None:
    report = Report(folder, f"Bulk: {spec.model}, {about['threads']} threads")
    rows = []
    for name, found in rates.items():
        shares = [one / other for one, other in zip(found, rates["engine"], strict=True)]
        rows.append([name, statistics.median(found), statistics.median(shares)])
    report.table(["way", "rows/s", "of the engine"], rows)
    report.text(
        f"{about['images']} JPEG files of {about['edge']} x {about['edge']} px, batches of "
        f"{about['batch']} images. `engine`: the forward alone, images decoded and in memory; the "
        "others: `python -m service.bulk` from files to files of that format, without loading the "
        "model. In turn in every round; medians over rounds, of rates and of their ratios within "
        "a round."
    )
    report.write({"rates": rates, "about": about, "model": spec.model})


if __name__ == "__main__":
    typer.run(main)
