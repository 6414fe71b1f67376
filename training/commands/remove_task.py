"""``python -m training remove-task``: a published model without some of its tasks."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console

from training.commands._edits import publish_edit
from training.commands.arguments import Name, ParentVersion, RepositoryRoot
from training.messages import say


def remove_task_command(
    *,
    task: Annotated[list[str], typer.Option(help="a task, or group:NAME; repeatable")],
    repository: RepositoryRoot,
    name: Name,
    version: ParentVersion = None,
) -> None:
    """Publish a model without some tasks. The others keep their weights; their answers may move by
    rounding, since what they computed together with the removed ones has another size."""
    from model.assembly import assemble, task_parts
    from model.repository import Repository
    from training.adding.figures import with_means
    from training.errors import SettingsError

    store = Repository(repository)
    parent = version or store.latest(name)
    bundle = store.read(name, parent)
    network = bundle.network()
    removed = set(network.tasks.select(task))
    left = [part for index, part in enumerate(task_parts(network)) if index not in removed]
    if not left:
        raise SettingsError(f"--task names all {len(removed)} tasks: nothing would be left")
    names = [network.tasks[index].name for index in sorted(removed)]
    smaller = assemble(network, left)
    published = publish_edit(
        repository, name, parent, bundle, smaller,
        with_means(dict(bundle.metrics), smaller.tasks),
        f"Removed from version {parent}: {', '.join(names)}.",
    )  # fmt: skip
    say(Console(), f"published {name} version {published}: version {parent} without "
        f"{', '.join(names)}")  # fmt: skip
