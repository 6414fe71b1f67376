"""``python -m training extract``: some tasks' subnets, to be served or run elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from training.commands.arguments import Name, RepositoryRoot, Version
from training.errors import SettingsError
from training.messages import say

if TYPE_CHECKING:
    from model.bundle import Bundle
    from model.network import RoutedNetwork

CARD = """# {name}

{tasks}, cut out of {source} version {version} ({digest}...): the same answers but for rounding.
"""


def extract_command(
    *,
    task: Annotated[list[str], typer.Option(help="a task, or group:NAME; repeatable")],
    repository: RepositoryRoot,
    name: Name,
    out: Annotated[Path, typer.Option(help="a repository of its own, and where exports go")],
    version: Version = None,
    new_name: Annotated[
        str | None, typer.Option("--as", help="the new model's name; default: NAME")
    ] = None,
    onnx: Annotated[
        bool, typer.Option("--onnx", help="also OUT/NAME.onnx (needs the extra `export`)")
    ] = False,
    torch_export: Annotated[
        bool, typer.Option("--torch-export", help="also OUT/NAME.pt2, for torch.export.load")
    ] = False,
) -> None:
    """Cut tasks out of a model: a bundle of their own, which the ordinary service loads.

    Of one task nothing is left to route; of several, what none of them uses is gone.
    """
    from model.extraction import cut_out
    from model.repository import Repository

    store = Repository(repository)
    parent = version or store.latest(name)
    bundle = store.read(name, parent)
    network = bundle.network()
    chosen = network.tasks.select(task)
    small = cut_out(network, chosen)
    called = new_name or name
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SettingsError(f"--out {out}: cannot be made: {error.strerror or error}") from error
    card = CARD.format(
        name=called, tasks=", ".join(small.tasks.names), source=name, version=parent,
        digest=bundle.digest[:19],
    )  # fmt: skip
    published = Repository(out).publish(called, small, _metrics(bundle, name, parent, small), card)
    console = Console()
    say(console, f"{out / called / str(published)}: {', '.join(small.tasks.names)}")
    console.print(_sizes(network, small))
    if onnx or torch_export:
        from model.subnet_module import SubnetsModule
        from training.exporting import export_onnx, export_program

        module = SubnetsModule(small, range(len(small.tasks))).eval()
        for wanted, suffix, export in (
            (onnx, "onnx", export_onnx),
            (torch_export, "pt2", export_program),
        ):
            if wanted:
                path = out / f"{called}.{suffix}"
                worst = export(module, small.config, path)
                say(console, f"{path}: {path.stat().st_size:,} bytes, logits within {worst:.1g}")


def _metrics(bundle: Bundle, name: str, version: int, small: RoutedNetwork) -> dict[str, Any]:
    """The parent's figures of these tasks, and where they come from."""
    from training.adding.figures import with_means

    metrics = with_means(dict(bundle.metrics), small.tasks)
    origin = {"model": name, "version": version, "digest": bundle.digest}
    return metrics | {"extracted_from": origin}


def _sizes(network: RoutedNetwork, small: RoutedNetwork) -> Table:
    """What the cut-out tasks need beside the whole network."""
    from model.plan import cost, make_plan, masked_cost

    tasks = range(len(small.tasks))
    rows = (
        (
            "convolution weights",
            _convolution_weights(network),
            _convolution_weights(small),
        ),
        (
            "multiply-adds for one image",
            masked_cost(network).macs,
            cost(make_plan(small, tasks), tasks).macs,
        ),
    )
    table = Table("", "whole network", "cut out", "share")
    for label, whole, part in rows:
        table.add_row(label, f"{whole:,}", f"{part:,}", f"{part / whole:.3f}")
    return table


def _convolution_weights(network: RoutedNetwork) -> int:
    from torch import nn

    return sum(one.weight.numel() for one in network.modules() if isinstance(one, nn.Conv2d))
