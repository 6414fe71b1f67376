"""What the documentation refers to is there: files, headings, commands and their flags."""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import io
import re
import runpy
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import ROOT

PAGES = sorted([ROOT / "README.md", ROOT / "benchmarks/README.md", *(ROOT / "docs").glob("*.md")])
LINK = re.compile(r"\]\((?!https?:)([^)#\s]*)(?:#([^)\s]+))?\)")
COMMAND = re.compile(r"python -m ((?:service|training|model|benchmarks|deploy)[\w.]*)\b([^`\n]*)")
GROUPS = {"training": 1, "service.client": 1, "service.keys": 1}
"""Modules with commands: the next word belongs to the name."""
WITHOUT_FLAGS = {"benchmarks.pages", "deploy.generate"}
"""They write at once, whatever they are given."""


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def anchors(page: Path) -> set[str]:
    """Of a page's headings, as GitHub and GitLab make them."""
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", one.lower()).replace(" ", "-") for one in headings}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    for target, anchor in LINK.findall(page.read_text(encoding="utf-8")):
        there = (page.parent / target).resolve() if target else page
        assert there.exists(), target
        assert not anchor or anchor in anchors(there), f"{target}#{anchor}"


def commands(page: Path) -> Iterator[tuple[str, ...]]:
    """(module, command or "", flags ...) of every command line that the page shows."""
    text = page.read_text(encoding="utf-8").replace("\\\n", " ")
    for module, rest in COMMAND.findall(text):
        words = re.split(r"\s+#|[|;&>]", rest)[0].replace("[", " ").replace("]", " ").split()
        named = words[:1] if module in GROUPS and words[:1] != ["..."] else []
        flags = (word.partition("=")[0] for word in words if word.startswith("--"))
        yield (module, *(named or [""]), *(flag for flag in flags if flag.strip("-")))


@functools.cache
def help_of(module: str, command: str) -> str:
    """What ``--help`` prints."""
    printed = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(printed):
        patch.setattr("sys.argv", [module, *([command] if command else []), "--help"])
        patch.setenv("COLUMNS", "300")
        with contextlib.suppress(SystemExit), warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # of modules that are imported already
            runpy.run_module(module, run_name="__main__", alter_sys=True)
    return printed.getvalue()


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_commands_have_the_flags_that_are_shown(page: Path) -> None:
    for module, command, *flags in commands(page):
        if module in WITHOUT_FLAGS:
            assert importlib.util.find_spec(module)
            assert not flags, module
            continue
        known = re.findall(r"--[a-z][\w-]*", help_of(module, command))
        assert known, f"{module} {command} has no --help"
        assert set(flags) <= set(known), (module, command)
