"""``python -m training evaluate``: a published model's figures on any source with its tasks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.console import Console

from training.commands.arguments import Data, Name, RepositoryRoot
from training.errors import DataError, SettingsError
from training.messages import say
from training.progress import progress_display
from training.sources import SourceOptions, open_source

if TYPE_CHECKING:
    from model.bundle import Bundle
    from training.evaluation import Evaluation


def evaluate_command(
    *,
    data: Data,
    repository: RepositoryRoot,
    name: Name,
    split: Annotated[Literal["train", "val", "test"], typer.Option(help="which images")] = "test",
    version: Annotated[int | None, typer.Option(help="default: the latest")] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="write the figures there", metavar="FILE")
    ] = None,
    resamples: Annotated[
        int, typer.Option(min=0, help="resamples of the images for 95 % intervals; 0: none")
    ] = 200,
    max_unreadable_share: Annotated[
        float, typer.Option(min=0, max=1, help="share of the images that may be unreadable")
    ] = 0.1,
    threads: Annotated[int, typer.Option(min=0, help="CPU threads; 0 for PyTorch's choice")] = 0,
) -> None:
    """Held-out figures of a published model, per task, per group and in the mean."""
    import torch

    from model.repository import Repository
    from training.tables import terminal_table

    if threads:
        torch.set_num_threads(threads)
    bundle = Repository(repository).read(name, version)
    evaluation = evaluate_bundle(
        bundle, data, split, Console(stderr=True), resamples, max_unreadable_share
    )
    Console().print(terminal_table(evaluation))
    if json_file is not None:
        about = {"model": name, "digest": bundle.digest, "source": data}
        _write(json_file, json.dumps(about | evaluation.to_json(), indent=2) + "\n")


def evaluate_bundle(
    bundle: Bundle,
    source: str,
    split: Literal["train", "val", "test"],
    console: Console,
    resamples: int,
    max_unreadable_share: float = 0.1,
) -> Evaluation:
    """The bundle's figures on one split of ``source``.

    Splits that the data leaves undefined are drawn as they were for the bundle's training, so that
    its test images are not among those it was trained on.

    Raises:
        DataError: no image in the split, too many that cannot be read, or no task in common.
    """
    from training.decoding import Decoder
    from training.evaluation import evaluate
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
    images = decode_split(Decoder(), dataset, split, bundle.config.preprocess, console, unreadable)
    progress = progress_display(console, "evaluating")
    return evaluate(bundle.network(), images, split, progress, resamples)


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise SettingsError(f"--json {path}: cannot be written: {error.strerror}") from error
