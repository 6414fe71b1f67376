"""``python -m training rollback``."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console

from training.commands.arguments import Name, RepositoryRoot
from training.messages import say


def rollback_command(
    *,
    repository: RepositoryRoot,
    name: Name,
    version: Annotated[
        int | None,
        typer.Option(min=1, help="version to go back to; default: the one the latest replaced"),
    ] = None,
) -> None:
    """Let LATEST name an earlier version; running services follow within seconds."""
    from model.repository import Repository
    from training.retention import roll_back

    before, now = roll_back(Repository(repository), name, version)
    say(Console(), f"the latest version of {name} is {now}; it was {before}, which stays published")
