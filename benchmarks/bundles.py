"""Randomly initialised bundles to measure with; the same ones for every server.

``python -m benchmarks.bundles`` publishes one: loading torch is left to a process that ends, so
that the load generator stays small.
"""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.server import ROOT

CACHE = Path("build/benchmarks")


@dataclass(frozen=True)
class BundleSpec:
    """A network with random weights and random routes."""

    tasks: int = 40
    keep: float = 0.4
    image_size: int = 64
    routed_layers: str = "all"
    arch: str = "vgg11_bn"

    @property
    def model(self) -> str:
        """Its name in the repository says all there is to know."""
        layers = self.routed_layers.replace(":", "")
        return f"{self.arch}-{layers}-keep{self.keep:g}-{self.tasks}tasks-{self.image_size}px"

    @property
    def task_names(self) -> list[str]:
        return [f"task-{number:03d}" for number in range(self.tasks)]


def ensure(spec: BundleSpec, cache: Path = CACHE) -> Path:
    """The repository that holds ``spec.model``, published first if it is not there yet."""
    repository = (cache / "repository").resolve()
    if not (repository / spec.model / "LATEST").is_file():
        print(f"publishing {spec.model}", flush=True)
        subprocess.run(
            [
                *(sys.executable, "-m", "benchmarks.bundles", "--repository", str(repository)),
                *("--tasks", str(spec.tasks), "--keep", str(spec.keep), "--arch", spec.arch),
                *("--image-size", str(spec.image_size), "--routed-layers", spec.routed_layers),
            ],
            cwd=ROOT,
            check=True,
        )
    return repository


def publish(
    repository: Annotated[Path, typer.Option(help="Directory to publish into.")],
    tasks: int = 40,
    keep: float = 0.4,
    image_size: int = 64,
    routed_layers: str = "all",
    arch: str = "vgg11_bn",
) -> None:
    """Publish a randomly initialised network under a name that says its settings."""
    from model.config import BackboneConfig, ModelConfig, PreprocessConfig, RoutingConfig
    from model.network import build
    from model.repository import Repository
    from model.tasks import Task

    spec = BundleSpec(tasks, keep, image_size, routed_layers, arch)
    config = ModelConfig(
        backbone=BackboneConfig(arch=arch),
        routing=RoutingConfig(keep=keep, routed_layers=routed_layers),
        preprocess=PreprocessConfig(height=image_size, width=image_size),
        tasks=tuple(Task(name=name) for name in spec.task_names),
    )
    card = "Random weights, for measurements only.\n"
    version = Repository(repository).publish(spec.model, build(config, seed=0), {}, card)
    print(f"published {spec.model} version {version}")


if __name__ == "__main__":
    typer.run(publish)
