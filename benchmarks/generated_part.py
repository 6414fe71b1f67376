"""Parts of a page that are made from results: each stands between two marks that say by what."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class GeneratedPart:
    """The place of one text in a page."""

    name: str
    command: str
    """What prints it: ``python -m benchmarks.sizing``."""

    @property
    def begin(self) -> str:
        return f"<!-- {self.name}: {self.command} -->\n"

    @property
    def end(self) -> str:
        return f"<!-- end of {self.name} -->"


Parts = Mapping[GeneratedPart, str]
"""The text of each; empty where nothing was measured yet."""


def rewrite(page: str, parts: Parts) -> str:
    """The page with every part's text between its marks.

    Raises:
        ValueError: the marks of a part are missing.
    """
    for part, text in parts.items():
        place = re.search(f"{re.escape(part.begin)}.*?{re.escape(part.end)}", page, re.DOTALL)
        if place is None:
            raise ValueError(f"no marks {part.begin.strip()} and {part.end}")
        new = f"{part.begin}{text}\n{part.end}" if text else f"{part.begin}{part.end}"
        page = page[: place.start()] + new + page[place.end() :]
    return page


def print_or_write(parts: Parts, page: Path | None) -> None:
    """What every command that makes parts of a page ends with."""
    if page is None:
        for part, text in parts.items():
            print(f"{part.name}\n\n{text}\n")
    else:
        page.write_text(rewrite(page.read_text(encoding="utf-8"), parts), encoding="utf-8")
