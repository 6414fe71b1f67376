"""The Kubernetes files as data: as written, and as kustomize renders them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import ROOT

KUBERNETES = ROOT / "deploy/kubernetes"
OVERLAYS = sorted(path.name for path in (KUBERNETES / "overlays").iterdir() if path.is_dir())
COMPONENTS = sorted(path.name for path in (KUBERNETES / "components").iterdir())
Object = dict[str, Any]


def tool(name: str) -> str:
    """A program of the extra `deploy`; skips the test without it."""
    beside = Path(sys.executable).parent / name
    found = str(beside) if beside.exists() else shutil.which(name)
    if found is None:
        pytest.skip(f"no {name}: pip install '.[deploy]', or run `make deploy-test`")
    return found


def render(folder: Path) -> str:
    """What ``kubectl apply -k`` would send."""
    done = subprocess.run(
        [tool("kubectl"), "kustomize", folder],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def overlay(name: str, scratch: Path) -> Path:
    """The folder of an overlay; of a component, one made in ``scratch`` that adds it to ``cpu``."""
    if name in OVERLAYS:
        return KUBERNETES / "overlays" / name
    made: Object = {"apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization"}
    made["resources"] = [os.path.relpath(KUBERNETES / "overlays/cpu", scratch)]
    made["components"] = [os.path.relpath(KUBERNETES / "components" / name, scratch)]
    (scratch / "kustomization.yaml").write_text(yaml.safe_dump(made))
    return scratch


def written(path: str) -> Object:
    """One object as it is in the repository, below deploy/kubernetes."""
    found: Object = yaml.safe_load((KUBERNETES / path).read_text())
    return found


def all_written() -> Iterator[tuple[Path, Object]]:
    """Every object, patches included, without kustomize's own files."""
    for path in sorted(KUBERNETES.rglob("*.yaml")):
        for document in yaml.safe_load_all(path.read_text()):
            if "kind" in document and document["kind"] not in ("Kustomization", "Component"):
                yield path.relative_to(KUBERNETES), document


def containers(node: object) -> Iterator[Object]:
    """Every container at whatever depth."""
    if isinstance(node, dict):
        for key, value in node.items():
            if key in ("containers", "initContainers"):
                yield from value
            else:
                yield from containers(value)
    elif isinstance(node, list):
        for value in node:
            yield from containers(value)


def pod_specs(node: object) -> Iterator[Object]:
    """Everything that has containers."""
    if isinstance(node, dict):
        if "containers" in node:
            yield node
        for value in node.values():
            yield from pod_specs(value)
    elif isinstance(node, list):
        for value in node:
            yield from pod_specs(value)
