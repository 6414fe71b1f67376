"""``python -m training evaluate``: a published model's figures on any source with its tasks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.console import Console

from training.commands.arguments import Data, Name, RepositoryRoot, Version
from training.errors import DataError, SettingsError
from training.messages import say
from training.progress import progress_display
from training.sources import SourceOptions, open_source

if TYPE_CHECKING:
    from model.bundle import Bundle
    from training.decoding import ImageSet


def evaluate_command(
    *,
    data: Data,
    repository: RepositoryRoot,
    name: Name,
    split: Annotated[Literal["train", "val", "test"], typer.Option(help="which images")] = "test",
    version: Version = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="write the figures there", metavar="FILE")
    ] = None,
    report: Annotated[
        Path | None,
        typer.Option(help="write a report there: one HTML file with plots", metavar="FILE"),
    ] = None,
    report_images: Annotated[
        bool, typer.Option("--images/--no-images", help="show the worst mistakes in the report")
    ] = True,
    resamples: Annotated[
        int, typer.Option(min=0, help="resamples of the images for 95 % intervals; 0: none")
    ] = 200,
    max_unreadable_share: Annotated[
        float, typer.Option(min=0, max=1, help="share of the images that may be unreadable")
    ] = 0.1,
    threads: Annotated[int, typer.Option(min=0, help="CPU threads; 0: the cores there are")] = 0,
) -> None:
    """Held-out figures of a published model, per task, per group and in the mean."""
    from model.repository import Repository
    from training.evaluation import evaluate
    from training.tables import terminal_table
    from training.threads import use_threads

    use_threads(threads)
    bundle = Repository(repository).read(name, version)
    console = Console(stderr=True)
    images = bundle_images(bundle, data, split, console, max_unreadable_share)
    network = bundle.any_network()
    evaluation = evaluate(
        network, images, split, progress_display(console, "evaluating"), resamples
    )
    Console().print(terminal_table(evaluation))
    if json_file is not None:
        about = {"model": name, "digest": bundle.digest, "source": data}
        _write("--json", json_file, json.dumps(about | evaluation.to_json(), indent=2) + "\n")
    if report is not None:
        from training.report import write_report

        title = f"{name} on {data}"
        page = write_report(title, network, images, evaluation, with_images=report_images)
        _write("--report", report, page)


def bundle_images(
    bundle: Bundle,
    source: str,
    split: Literal["train", "val", "test"],
    console: Console,
    max_unreadable_share: float = 0.1,
) -> ImageSet:
    """One split of ``source``, with labels for the bundle's tasks.

    Splits that the data leaves undefined are drawn as they were for the bundle's training, so that
    its test images are not among those it was trained on.

    Raises:
        DataError: no image in the split, too many that cannot be read, or no task in common.
    """
    from training.decoding import Decoder
    from training.preparation import decode_split
    from training.unreadable import UnreadableImages

    tasks = bundle.config.task_set
    split_seed = bundle.metrics.get("data", {}).get("split_seed", 0)
    dataset = open_source(source, SourceOptions(split_seed, tuple(tasks))).aligned(tasks)
    for note in dataset.notes:
        say(console, f"note: {note}")
    if not dataset.counts()[split]:
        raise DataError(f"{source}: no {split} images; it has {dataset.counts()}")
    unreadable = UnreadableImages(max_unreadable_share)
    return decode_split(Decoder(), dataset, split, bundle.config.preprocess, console, unreadable)


def _write(option: str, path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise SettingsError(f"{option} {path}: cannot be written: {error.strerror}") from error
