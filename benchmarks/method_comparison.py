"""One comparison of methods of training: its tasks, its data and its command line."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import typer

from benchmarks.packs import packs

SMALL = ("--width", "0.25", "--precision", "bfloat16", "--threads", "1")
"""A quarter of VGG-11's units: what one thread trains in minutes."""
BUILTIN = "builtin"
BUILD = Path("build/training")
"""For data that are written from packs."""


@dataclass(frozen=True)
class Stage:
    """Methods at some keeps."""

    methods: str
    keeps: str


@dataclass(frozen=True)
class Comparison:
    """One set of tasks on one pack."""

    name: str
    pack: str
    """Below the packs' folder; empty for Fashion-MNIST as downloaded, or ``builtin``."""
    budget_s: int
    """Processor seconds of training steps."""
    image_size: str
    stages: tuple[Stage, ...]
    flags: tuple[str, ...] = ()
    seeds: int = 1
    derive: Callable[[Path, Path], str] | None = None
    """Writes what is trained on from the pack into a folder, and says its SOURCE."""
    beside: tuple[str, str] | None = None
    """A comparison, and methods of it whose runs with seed 0 are this one's too."""


def chosen(names: Iterable[str] | None, among: Mapping[str, Comparison]) -> list[Comparison]:
    """The comparisons of these names, or all; ends the program where one is unknown."""
    wanted = list(names or among)
    unknown = [name for name in wanted if name not in among]
    if unknown:
        raise typer.BadParameter(f"{unknown[0]!r} is none of {', '.join(among)}")
    return [among[name] for name in wanted]


def source_of(comparison: Comparison, fashion_mnist: Path, build: Path = BUILD) -> str:
    """SOURCE of the comparison's data, which are written below ``build`` where no pack has them."""
    if comparison.pack == BUILTIN:
        return "builtin:fashion"
    if not comparison.pack:
        return f"fashion-mnist:{fashion_mnist}"
    pack = packs() / comparison.pack
    if comparison.derive is None:
        return f"pack:{pack}"
    return comparison.derive(pack, build / comparison.name)


def command(comparison: Comparison, stage: Stage, source: str, out: Path) -> Sequence[str]:
    """The comparison's command line."""
    return [
        sys.executable, "-m", "training", "compare",
        "--data", source, "--out", str(out / comparison.name),
        "--methods", stage.methods, "--keeps", stage.keeps,
        "--seeds", str(comparison.seeds), "--budget-s", str(comparison.budget_s),
        "--image-size", comparison.image_size, *SMALL, *comparison.flags,
    ]  # fmt: skip
