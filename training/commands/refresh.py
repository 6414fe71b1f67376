"""``python -m training refresh``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from training.commands.arguments import Data, Name, RepositoryRoot
from training.commands.gate_options import with_gate
from training.commands.options import Flags, with_settings
from training.config import TrainSettings
from training.errors import SettingsError
from training.messages import say
from training.refresh.settings import NOT_INHERITED, GateSettings

if TYPE_CHECKING:
    from training.refresh.report import GateReport


@with_gate
@with_settings(TrainSettings, not_inherited=NOT_INHERITED)
def refresh_command(
    *,
    data: Data,
    repository: RepositoryRoot,
    name: Name,
    config: Annotated[
        str | None, typer.Option(help="a recipe's name or a TOML file, over the version's own")
    ] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="write the gate's report there", metavar="FILE")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="go on with an interrupted refresh, if there is one")
    ] = False,
    restart: Annotated[
        bool, typer.Option("--restart", help="throw interrupted refreshes away and start anew")
    ] = False,
    cache_dir: Annotated[
        Path | None, typer.Option(help="where big sets of decoded images are kept")
    ] = None,
    gate: GateSettings,
    flags: Flags,
) -> None:
    """Train from NAME's latest version on DATA, and publish unless a gate refuses (exit code 3).

    The new version is compared with the latest one on DATA's held-out images. Every setting of the
    training run that is not given is as it was for the latest version.
    """
    if resume and restart:
        raise typer.BadParameter("--resume and --restart exclude each other")

    from training.decoding import Decoder
    from training.pixel_cache import PixelCache, default_folder
    from training.refresh.refresh import GateRefusedError, RefreshRequest, refresh

    request = RefreshRequest(
        source=data,
        repository=repository,
        name=name,
        gate=gate,
        config=config,
        flags=flags,
        resume=resume,
        restart=restart,
        decoder=Decoder(PixelCache(cache_dir or default_folder())),
    )
    try:
        refreshed = refresh(request, Console(stderr=True))
    except GateRefusedError as error:
        _tell(error.report, json_file)
        raise
    if refreshed.report is None:
        say(Console(), f"version {refreshed.version} had been published already")
        return
    _tell(refreshed.report, json_file)
    say(Console(), f"published {name} version {refreshed.version} in {repository}")


def _tell(report: GateReport, json_file: Path | None) -> None:
    say(Console(), report.to_text())
    if json_file is None:
        return
    try:
        json_file.write_text(json.dumps(report.to_json(), indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise SettingsError(f"--json {json_file}: cannot be written: {error.strerror}") from error
