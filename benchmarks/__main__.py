"""Every measurement in turn: what ``make bench`` runs.

    python -m benchmarks                 all of them
    python -m benchmarks soak memory     some of them

Each runs in a process of its own; one that fails does not stop the others. For options, run it on
its own: ``python -m benchmarks.serving --help``.
"""

from __future__ import annotations

import subprocess
import sys
import time
from typing import Annotated

import typer

# In the order of a quiet machine's patience: the cheap ones first.
MEASUREMENTS = (
    "client_cost",
    "memory",
    "scaling",
    "allocator",
    "engine",
    "bulk",
    "runtimes",
    "int8",
    "http_share",
    "overload",
    "soak",
    "turns",
    "serving",
)


def main(
    names: Annotated[list[str] | None, typer.Argument(help=f"Of: {', '.join(MEASUREMENTS)}.")] = (
        None
    ),
) -> None:
    """Run measurements; results land under benchmarks/results."""
    chosen = names or list(MEASUREMENTS)
    unknown = [name for name in chosen if name not in MEASUREMENTS]
    if unknown:
        raise typer.BadParameter(f"{unknown[0]!r} is none of {', '.join(MEASUREMENTS)}")
    failed = [name for name in chosen if not _run(name)]
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
        raise typer.Exit(1)


def _run(name: str) -> bool:
    print(f"== {name}", flush=True)
    began = time.monotonic()
    code = subprocess.run([sys.executable, "-m", f"benchmarks.{name}"]).returncode
    print(f"== {name}: {'done' if code == 0 else f'exit {code}'}, {time.monotonic() - began:.0f} s")
    return code == 0


if __name__ == "__main__":
    typer.run(main)
