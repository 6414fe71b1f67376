"""The shape of the code: who may import whom, which files may not exist, what is declared."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.conftest import ROOT

PACKAGES = ("model", "service", "training")
HTTP = {"fastapi", "starlette", "uvicorn"}
FORBIDDEN = {  # folder -> what nothing below it may import
    "model": {"service", "training"} | HTTP,
    "service": {"training"},
    "training": {"service"} | HTTP,
    "service/core": HTTP,
}


def sources(folder: str) -> list[Path]:
    return sorted((ROOT / folder).rglob("*.py"))


def imports(source: str, package: tuple[str, ...]) -> Iterator[tuple[int, str]]:
    """Yield (line, absolute dotted module) for every import in a source, nested ones too."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) + 1 - node.level] if node.level else ()
            yield node.lineno, ".".join([*base, *filter(None, [node.module])])


def imports_below(folder: str) -> Iterator[tuple[str, str]]:
    """Yield ("path:line", absolute dotted module) for every import of every file below a folder."""
    for path in sources(folder):
        name = path.relative_to(ROOT)
        for line, module in imports(path.read_text(encoding="utf-8"), name.parent.parts):
            yield f"{name}:{line}", module


@pytest.mark.parametrize("folder", FORBIDDEN)
def test_imports_go_one_way(folder: str) -> None:
    assert sources(folder), f"{folder}/ has no Python files: has it moved?"
    forbidden = FORBIDDEN[folder]
    wrong = [found for found in imports_below(folder) if found[1].split(".")[0] in forbidden]
    assert wrong == []


def test_the_core_imports_no_outer_ring_of_the_service() -> None:
    wrong = [
        (place, module)
        for place, module in imports_below("service/core")
        if module.startswith("service.") and not module.startswith("service.core")
    ]
    assert wrong == []


def test_the_checks_see_relative_and_nested_imports() -> None:
    source = "from ..http import x\nfrom . import y\ndef f():\n    import fastapi.routing\n"
    modules = [module for _, module in imports(source, ("service", "core"))]
    assert modules == ["service.http", "service.core", "fastapi.routing"]


def test_no_dumping_ground() -> None:
    names = {"utils.py", "_utils.py", "helpers.py", "common.py", "misc.py"}
    files = [path for folder in (*PACKAGES, "tests", "deploy") for path in sources(folder)]
    assert [path for path in files if path.name in names] == []


def requirements() -> dict[str, list[Requirement]]:
    """Return pyproject.toml's requirements: the base ones under "", the extras under their name."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    groups = {"": project["dependencies"]} | project["optional-dependencies"]
    return {group: [Requirement(line) for line in lines] for group, lines in groups.items()}


def locked() -> dict[str, str]:
    """Return the pinned version of each distribution in requirements.lock."""
    lines = (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines()
    pins = (line.split("==") for line in lines if line and not line.startswith("#"))
    return {canonicalize_name(name): version for name, version in pins}


def test_the_lock_satisfies_every_range() -> None:
    pins = locked()
    for group, lines in requirements().items():
        for requirement in lines:
            if group in ("bench", "deploy") and canonicalize_name(requirement.name) not in pins:
                continue  # not part of what `make test` installs
            assert pins[canonicalize_name(requirement.name)] in requirement.specifier, requirement


def test_every_range_has_a_lower_and_an_upper_bound() -> None:
    for requirement in (line for lines in requirements().values() for line in lines):
        operators = {specifier.operator for specifier in requirement.specifier}
        assert operators == {">=", "<"}, requirement


def test_the_lock_is_plain_pins() -> None:
    lines = (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines()
    pin = re.compile(r"[a-z0-9-]+==[0-9][0-9a-z.+!]*")
    assert [line for line in lines if not line.startswith("#") and not pin.fullmatch(line)] == []


@pytest.mark.parametrize(
    ("folder", "groups"),
    [
        ("model", ["", "train"]),  # a plot, where matplotlib is at hand
        ("service", ["", "otel", "grpc", "bulk", "ray"]),
        ("training", ["", "train", "export"]),
    ],
)
def test_every_import_is_a_declared_dependency(folder: str, groups: list[str]) -> None:
    declared = {canonicalize_name(r.name) for group in groups for r in requirements()[group]}
    owners = packages_distributions()
    # pydantic names the one pydantic-core it works with: a range of our own could only disagree.
    known = {*sys.stdlib_module_names, *PACKAGES, "pydantic_core"}
    undeclared = [
        (place, module)
        for place, module in imports_below(folder)
        if (top := module.split(".")[0]) not in known
        # What is not installed here goes by the name under which it is imported.
        and not declared & {canonicalize_name(name) for name in owners.get(top, [top])}
    ]
    assert undeclared == []
