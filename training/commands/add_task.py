"""``python -m training add-task``: new tasks beside those of a published model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.console import Console

from training.commands.arguments import Data, Name, ParentVersion, RepositoryRoot
from training.messages import say
from training.thresholds import Objective


def add_task_command(
    *,
    data: Data,
    task: Annotated[list[str], typer.Option(help="a task of DATA, or group:NAME; repeatable")],
    repository: RepositoryRoot,
    name: Name,
    version: ParentVersion = None,
    route: Annotated[
        str,
        typer.Option(
            help="of the new task: saliency (the units it depends on most), random, or like:TASK"
        ),
    ] = "saliency",
    statistics: Annotated[
        Literal["own", "like"] | None,
        typer.Option(
            help="batch-norm statistics and modulation, where tasks have them: its own, or those "
            "of like:TASK (the default there: it then adds no weights but its head's; the "
            "compiled kernels still run TASK's own layers for each of the two)"
        ),
    ] = None,
    keep: Annotated[
        float | None, typer.Option(help="share of units; default: as the model's tasks have")
    ] = None,
    group: Annotated[str | None, typer.Option(help="of the new tasks; default: as in DATA")] = None,
    epochs: Annotated[int, typer.Option(min=1, help="of the head, on cached features")] = 40,
    modulation_epochs: Annotated[
        int, typer.Option(min=0, help="of its modulation, where tasks have one")
    ] = 5,
    lr: Annotated[float, typer.Option(min=1e-6, help="peak learning rate of the head")] = 3e-3,
    flip: Annotated[
        bool | None,
        typer.Option("--flip/--no-flip", help="mirrored images too; default: as the model did"),
    ] = None,
    calibration: Annotated[
        Literal["none", "platt", "temperature"] | None,
        typer.Option(help="default: as the model was"),
    ] = None,
    threshold_objective: Annotated[
        Objective | None, typer.Option(help="default: as the model's")
    ] = None,
    max_unreadable_share: Annotated[
        float, typer.Option(min=0, max=1, help="share of the images that may be unreadable")
    ] = 0.1,
    work_dir: Annotated[
        Path | None, typer.Option(help="where decoded images and frozen features are kept")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="of routes and of the head")] = 0,
    threads: Annotated[int, typer.Option(min=0, help="CPU threads; 0: the cores there are")] = 0,
) -> None:
    """Add tasks to a published model. What it has is frozen: old answers do not change by a bit."""
    from training.adding.run import AddRequest, add_tasks
    from training.adding.settings import AddSettings
    from training.decoding import Decoder
    from training.pixel_cache import PixelCache, default_folder
    from training.threads import use_threads

    use_threads(threads)
    settings = AddSettings(
        route=route,
        statistics=statistics,
        keep=keep,
        epochs=epochs,
        modulation_epochs=modulation_epochs,
        lr=lr,
        seed=seed,
    )
    given = {
        "flip": flip,
        "calibration": calibration,
        "threshold_objective": threshold_objective,
    }
    folder = work_dir or default_folder()
    request = AddRequest(
        source=data,
        tasks=task,
        repository=repository,
        name=name,
        settings=replace(settings, **_as_trained(repository, name, version, given)),
        work_dir=folder,
        version=version,
        group=group,
        max_unreadable_share=max_unreadable_share,
        decoder=Decoder(PixelCache(folder)),
    )
    added = add_tasks(request, Console(stderr=True))
    out = Console()
    for one, figures in added.figures.items():
        precision, accuracy = figures.average_precision, figures.accuracy
        say(out, f"{one}: average precision {_text(precision)}, accuracy {_text(accuracy)} "
            f"(majority {_text(figures.majority)})")  # fmt: skip
    say(
        out,
        f"published {name} version {added.version} in {repository}: version {added.parent} and "
        f"{', '.join(added.figures)}, in {added.seconds:.0f} s ({added.cpu_seconds:.0f} s of CPU)",
    )


def _as_trained(
    repository: str, name: str, version: int | None, given: dict[str, Any]
) -> dict[str, Any]:
    """Settings that were not given, as the model was trained with them."""
    from model.repository import Repository

    metrics = Repository(repository).read(name, version).metrics
    trained = metrics.get("training", {}).get("settings", {})
    return {
        key: trained[key] if value is None else value
        for key, value in given.items()
        if value is not None or key in trained
    }


def _text(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"
