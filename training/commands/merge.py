"""``python -m training merge``: tasks that were added to one parent apart, together."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console

from training.commands.arguments import Name, RepositoryRoot
from training.messages import say


def merge_command(
    *,
    versions: Annotated[
        str, typer.Option(help="two or more versions with the same parent", metavar="V,V")
    ],
    repository: RepositoryRoot,
    name: Name,
) -> None:
    """Publish one version with all tasks that several versions added to the same parent.

    Refused where the parents differ, a name was added twice, or a version did more than add tasks.
    Old tasks and added ones answer as in their versions, to the last bit.
    """
    from training.adding.merge import merge_versions
    from training.errors import SettingsError

    try:
        numbers = [int(part) for part in versions.split(",") if part.strip()]
    except ValueError as error:
        raise SettingsError(f"--versions is {versions!r}; it takes numbers, with commas") from error
    published, added = merge_versions(repository, name, numbers)
    say(Console(), f"published {name} version {published}: their parent and {', '.join(added)}")
