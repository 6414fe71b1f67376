"""``python -m training train``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from training.commands.arguments import Data, Name, RepositoryRoot
from training.commands.options import Flags, with_settings
from training.config import TrainSettings
from training.messages import say
from training.settings_files import TRAIN_RECIPE, load_settings


@with_settings(TrainSettings, TRAIN_RECIPE)
def train_command(
    *,
    data: Data,
    repository: RepositoryRoot,
    name: Name,
    config: Annotated[
        str, typer.Option(help="a recipe's name or a TOML file; flags override it")
    ] = TRAIN_RECIPE,
    resume: Annotated[bool, typer.Option("--resume", help="go on with an interrupted run")] = False,
    restart: Annotated[
        bool, typer.Option("--restart", help="throw an interrupted run away and start anew")
    ] = False,
    resume_or_start: Annotated[
        bool,
        typer.Option(
            "--resume-or-start", help="--resume where a run was interrupted, else begin: for jobs"
        ),
    ] = False,
    cache_dir: Annotated[
        Path | None, typer.Option(help="where big sets of decoded images are kept")
    ] = None,
    flags: Flags,
) -> None:
    """Train a routed network on DATA and publish it as the next version of NAME."""
    if resume + restart + resume_or_start > 1:
        raise typer.BadParameter(
            "--resume, --restart and --resume-or-start exclude each other: give one of them"
        )
    settings = load_settings(TrainSettings, config, flags)

    from training.decoding import Decoder
    from training.distributed import processes_of_run
    from training.pixel_cache import PixelCache, default_folder
    from training.run import TrainRequest, train
    from training.tables import terminal_table

    request = TrainRequest(
        source=data,
        repository=repository,
        name=name,
        settings=settings,
        resume=resume,
        restart=restart,
        resume_or_start=resume_or_start,
        decoder=Decoder(PixelCache(cache_dir or default_folder())),
    )
    with processes_of_run(settings.device) as processes:
        quiet = not processes.main
        published = train(request, Console(stderr=True, quiet=quiet), processes)
    out = Console(quiet=quiet)
    out.print(terminal_table(published.evaluation))
    say(out, f"published {name} version {published.version} in {repository}")
