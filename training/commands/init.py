"""``python -m training init``: a network with random weights, for benchmarks and tests."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console

from model.tasks import Task
from training.commands.arguments import Name, RepositoryRoot
from training.commands.options import Flags, with_settings
from training.config import ModelSettings
from training.messages import say
from training.settings_files import load_settings

CARD = """# {name}

{count} tasks of a network with random weights: for benchmarks and tests. Its answers mean nothing.
"""


@with_settings(ModelSettings)
def init_command(
    *,
    tasks: Annotated[int, typer.Option(min=1, max=100_000, help="number of binary tasks")],
    repository: RepositoryRoot,
    name: Name,
    groups: Annotated[
        int, typer.Option(min=1, help="task groups, filled with consecutive tasks")
    ] = 1,
    config: Annotated[
        str | None, typer.Option(help="a recipe's name or a TOML file; flags override it")
    ] = None,
    flags: Flags,
) -> None:
    """Publish a randomly initialised network as the next version of NAME."""
    from model.families import build
    from model.repository import Repository

    settings = load_settings(ModelSettings, config, flags)
    digits = len(str(tasks - 1))
    described = tuple(
        Task(name=f"task_{index:0{digits}}", group=f"group_{index * groups // tasks}")
        for index in range(tasks)
    )
    network = build(settings.network(described, settings.preprocess()), settings.seed)
    metrics = {"tasks": {}, "macro": {}, "settings": settings.model_dump(mode="json")}
    card = CARD.format(name=name, count=tasks)
    version = Repository(repository).publish(name, network.eval(), metrics, card)
    counts = network.parameter_counts()
    say(
        Console(),
        f"published {name} version {version} in {repository}: {tasks} tasks, "
        f"{counts['trunk']:,} parameters in the trunk, {counts['heads']:,} in the heads",
    )
