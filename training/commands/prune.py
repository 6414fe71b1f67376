"""``python -m training prune``."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console

from training.commands.arguments import Name, RepositoryRoot
from training.messages import say

_DAY_S = 86_400.0


def prune_command(
    *,
    repository: RepositoryRoot,
    name: Name,
    keep: Annotated[int, typer.Option(min=1, help="how many of the highest versions stay")] = 5,
    min_age_days: Annotated[
        float, typer.Option(min=0, help="versions published less than so many days ago stay")
    ] = 0,
    protect: Annotated[
        list[int] | None, typer.Option(help="a version that stays; may be repeated")
    ] = None,
    service: Annotated[
        list[str] | None,
        typer.Option(
            help="address of a running service, asked which version it serves, which stays; may be "
            "repeated. Unless each answers nothing is removed",
            metavar="URL",
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="say what would go, remove nothing")
    ] = False,
) -> None:
    """Remove old versions; never the latest, the one it replaced, or one that is served."""
    from model.repository import Repository
    from training.retention import Pruning, prune

    pruning = Pruning(keep, min_age_days * _DAY_S, tuple(protect or ()), tuple(service or ()))
    gone, stayed = prune(Repository(repository), name, pruning, dry_run=dry_run)
    listed = ", ".join(map(str, gone)) or "none"
    verb = "would be removed" if dry_run else "removed"
    held = f"; held: {', '.join(map(str, sorted(stayed)))}" if stayed else ""
    say(Console(), f"versions of {name} {verb}: {listed}{held}")
