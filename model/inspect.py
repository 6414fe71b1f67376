"""Looking inside a model: overlap of routes, units by number of users, cost by layer.

    python -m model.inspect REPOSITORY/NAME [--version V] [--tasks a,b,group:c] [--plot FILE.png]

The plot needs matplotlib, which comes with the extra ``train``. What is computed in which order,
and for whom, is told by ``python -m model.plan``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from model.errors import ConfigError, TaskRouteError
from model.inspection import LayerView, RouteView, view_routes
from model.location import split_model
from model.repository import Repository

_PAIRS = 10
_HEADINGS = (
    *("conv", "input", "units", "unused", "1 user", "some", "all", "overlap", "by chance"),
    *("convolutions", "multiply-adds", "share", "of masked"),
)


def layer_table(view: RouteView) -> Table:
    """One row per convolution."""
    tasks, macs = len(view.names), sum(layer.macs for layer in view.layers)
    table = Table(title=f"{tasks} tasks of one image")
    for heading in _HEADINGS:
        table.add_column(heading, justify="right")
    for layer in view.layers:
        height, width = layer.size
        table.add_row(
            str(layer.layer), f"{height} x {width}", str(layer.units), *_users(layer, tasks),
            _share(layer.overlap), _share(layer.by_chance), str(layer.convolutions),
            f"{layer.macs:,}", _share(layer.macs / macs), _share(layer.macs / layer.masked_macs),
        )  # fmt: skip
    masked = sum(layer.masked_macs for layer in view.layers)
    table.add_section()
    table.add_row("all", *[""] * 8, "", f"{macs:,}", _share(1.0), _share(macs / masked))
    return table


def pair_table(view: RouteView, count: int = _PAIRS) -> Table:
    """The tasks that share most."""
    table = Table("task", "and", "overlap", title="closest routes")
    for value, one, other in view.closest(count):
        table.add_row(one, other, f"{value:.3f}")
    return table


def _users(layer: LayerView, tasks: int) -> list[str]:
    """Units without users, with one, with some, with all tasks; dashes where it is not routed."""
    if layer.users is None:
        return ["–"] * 4
    none, one, every = (int((layer.users == count).sum()) for count in (0, 1, tasks))
    if tasks == 1:
        return [str(none), "–", "–", str(every)]
    return [str(none), str(one), str(layer.units - none - one - every), str(every)]


def _share(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def plot(view: RouteView, path: Path) -> None:
    """Overlap of every pair, users of every unit, cost of every layer, in one picture.

    Raises:
        ConfigError: matplotlib is not installed, or the file cannot be written.
    """
    try:
        from matplotlib.figure import Figure  # not pyplot: no display, no global state
    except ImportError as error:
        raise ConfigError(
            "--plot needs matplotlib: pip install 'taskroute[train]', or leave --plot out"
        ) from error
    figure = Figure(figsize=(15, 4.8), layout="constrained")
    pairs, users, costs = figure.subplots(1, 3)
    image = pairs.imshow(view.overlap.numpy(), vmin=0, vmax=1, cmap="viridis")
    figure.colorbar(image, ax=pairs, shrink=0.8)
    pairs.set_title("overlap of routes (shared units / units of either)")
    if len(view.names) <= 40:
        pairs.set_xticks(range(len(view.names)), view.names, rotation=90, fontsize=6)
        pairs.set_yticks(range(len(view.names)), view.names, fontsize=6)
    for layer in view.layers:
        if layer.users is not None:
            counts = layer.users.sort(descending=True).values
            places = [index / len(counts) for index in range(len(counts))]
            users.plot(places, counts.numpy(), label=f"conv {layer.layer}", linewidth=1.3)
    users.set_title("users of units")
    users.set_xlabel("units, the most used first (share of the layer)")
    users.set_ylabel("tasks")
    if users.get_lines():
        users.legend(fontsize=7)
    labels = [str(layer.layer) for layer in view.layers]
    costs.bar(labels, [layer.masked_macs for layer in view.layers], color="#94a3b8", label="masked")
    costs.bar(labels, [layer.macs for layer in view.layers], color="#2563eb", label="subnets")
    costs.set_title("multiply-adds for one image")
    costs.set_xlabel("convolution")
    costs.set_yscale("log")
    costs.legend(fontsize=7)
    try:
        figure.savefig(path, dpi=120)
    except (OSError, ValueError) as error:
        raise ConfigError(f"--plot {path}: cannot be written: {error}") from error


def _main(
    model: Annotated[str, typer.Argument(help="REPOSITORY/NAME, a path or a URL")],
    version: Annotated[int | None, typer.Option(help="default: the latest")] = None,
    tasks: Annotated[str, typer.Option(help="names, group:NAME or *, separated by commas")] = "*",
    plot_file: Annotated[
        Path | None, typer.Option("--plot", help="write a picture there", metavar="FILE")
    ] = None,
) -> None:
    """Print how tasks share a model's units, and where its work is."""
    console = Console()
    try:
        repository, name = split_model(model)
        network = Repository(repository).read(name, version).network()
        chosen = network.tasks.select([name.strip() for name in tasks.split(",") if name.strip()])
        view = view_routes(network, chosen)
        if plot_file is not None:
            plot(view, plot_file)
    except TaskRouteError as error:
        Console(stderr=True).print(f"error: {error}", highlight=False)
        raise typer.Exit(1) from None
    console.print(layer_table(view))
    if len(chosen) > 1 and any(layer.users is not None for layer in view.layers):
        console.print(pair_table(view))


if __name__ == "__main__":
    typer.run(_main)
