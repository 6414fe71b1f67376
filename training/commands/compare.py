"""``python -m training compare``: methods against each other, at equal budgets."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, TypeVar

import typer
from rich.console import Console

from training.commands.arguments import Data
from training.commands.options import Flags, with_settings
from training.config import TrainSettings
from training.errors import SettingsError
from training.messages import say
from training.methods import DEFAULT_METHODS, METHODS, choose_methods

N = TypeVar("N", int, float)


@with_settings(TrainSettings)
def compare_command(
    *,
    data: Data,
    out: Annotated[Path, typer.Option(help="folder of results; goes on with what is in it")],
    methods: Annotated[
        str, typer.Option(help=f"of {', '.join(METHODS)}", metavar="NAME,NAME")
    ] = ",".join(DEFAULT_METHODS),
    keeps: Annotated[
        str, typer.Option(help="shares of units per task", metavar="X,X")
    ] = "0.2,0.4,0.6,0.8,1.0",
    seeds: Annotated[int, typer.Option(min=1, help="runs of each, with seeds 0, 1, ...")] = 1,
    task_counts: Annotated[
        str, typer.Option(help="compare on the first N tasks; default: on all", metavar="N,N")
    ] = "",
    budget_s: Annotated[
        float | None,
        typer.Option(
            help="processor seconds (GPU: seconds) of every run's training steps", metavar="SECONDS"
        ),
    ] = None,
    config: Annotated[
        str | None,
        typer.Option(help="a recipe or TOML file over every method's recipe; flags override it"),
    ] = None,
    cache_dir: Annotated[Path | None, typer.Option(help="where decoded images are kept")] = None,
    flags: Flags,
) -> None:
    """Compare methods over keep and the number of tasks; every run has the same budget.

    A setting holds for all methods, except where it is what makes a method. Runs that are finished
    are kept below OUT, so the same command goes on with an interrupted comparison.
    """
    chosen = choose_methods([name.strip() for name in methods.split(",") if name.strip()])
    shares = _numbers("--keeps", keeps, float)
    if not chosen or not shares:
        raise SettingsError("--methods and --keeps each need at least one value")
    if budget_s is not None and budget_s <= 0:
        raise SettingsError(f"--budget-s is {budget_s}; it must be above 0")

    from training.compare.page import terminal_table
    from training.compare.sweep import Request, compare
    from training.decoding import Decoder
    from training.pixel_cache import PixelCache, default_folder

    request = Request(
        source=data,
        out=out,
        methods=chosen,
        keeps=shares,
        seeds=seeds,
        task_counts=_numbers("--task-counts", task_counts, int),
        budget_s=budget_s,
        flags=flags,
        config=config,
        # Always through the cache: each run reads the same images.
        decoder=Decoder(PixelCache(cache_dir or default_folder()), in_memory_bytes=0),
    )
    results = compare(request, Console(stderr=True))
    console = Console()
    console.print(terminal_table(results))
    say(console, f"{results.about['done']} runs; the page is {out / 'README.md'}")


def _numbers(option: str, text: str, kind: Callable[[str], N]) -> tuple[N, ...]:
    try:
        return tuple(dict.fromkeys(kind(part) for part in text.split(",") if part.strip()))
    except ValueError as error:
        raise SettingsError(f"{option} is {text!r}; it takes numbers, with commas") from error
