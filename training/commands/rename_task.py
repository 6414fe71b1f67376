"""``python -m training rename-task``: another name or group for a published task."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from training.commands._edits import publish_edit
from training.commands.arguments import Name, ParentVersion, RepositoryRoot
from training.messages import say

if TYPE_CHECKING:
    from model.tasks import Task


def rename_task_command(
    *,
    task: Annotated[str, typer.Option(help="its name now")],
    repository: RepositoryRoot,
    name: Name,
    to: Annotated[str | None, typer.Option(help="its new name")] = None,
    group: Annotated[str | None, typer.Option(help="its new group")] = None,
    version: ParentVersion = None,
) -> None:
    """Publish a model in which a task has another name or group; its answers stay as they are."""
    from model.assembly import assemble, task_parts
    from model.repository import Repository
    from training.adding.figures import renamed
    from training.errors import SettingsError

    changes = {key: value for key, value in {"name": to, "group": group}.items() if value}
    if not changes:
        raise SettingsError("rename-task needs --to NAME, --group NAME, or both")
    store = Repository(repository)
    parent = version or store.latest(name)
    bundle = store.read(name, parent)
    network = bundle.network()
    parts = task_parts(network)
    index = network.tasks.position(task)
    parts[index] = parts[index].with_task(_changed(network.tasks[index], changes))
    changed = assemble(network, parts)
    published = publish_edit(
        repository, name, parent, bundle, changed,
        renamed(bundle.metrics, task, changed.tasks[index].name, changed.tasks),
        f"Renamed in version {parent}: {task} is {changed.tasks[index].name}, group "
        f"{changed.tasks[index].group}.",
    )  # fmt: skip
    say(Console(), f"published {name} version {published}: {task} is now "
        f"{changed.tasks[index].name}, group {changed.tasks[index].group}")  # fmt: skip


def _changed(task: Task, changes: dict[str, str]) -> Task:
    """Checked anew: a name travels in query strings and labels."""
    from pydantic import ValidationError

    from training.errors import SettingsError

    try:
        return type(task).model_validate(task.model_dump() | changes)
    except ValidationError as error:
        raise SettingsError(f"{changes}: {error.errors()[0]['msg']}") from error
