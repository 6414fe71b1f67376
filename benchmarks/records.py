"""One file per measured configuration, so that an interrupted comparison goes on where it was."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.peers.base import Strategy
from benchmarks.report import write_json

OURS = "ours"


@dataclass(frozen=True)
class Configuration:
    """A server, what it serves, and how its threads are laid out."""

    peer: str
    strategy: Strategy
    workers: int
    threads: int

    @property
    def layout(self) -> str:
        return f"{self.workers}x{self.threads}"

    @property
    def name(self) -> str:
        return f"{self.peer}-{self.strategy}-{self.layout}"

    @property
    def label(self) -> str:
        return f"{self.peer} ({self.strategy})"


class Records:
    """What was measured so far under the same ``settings``."""

    def __init__(self, folder: Path, settings: dict[str, Any], fresh: bool) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._settings = settings
        if fresh:
            for file in folder.glob("*.json"):
                file.unlink()

    def read(self, name: str) -> dict[str, Any]:
        """The record of ``name``; empty if there is none or it was measured otherwise."""
        try:
            found: dict[str, Any] = json.loads((self._folder / f"{name}.json").read_text())
        except (OSError, ValueError):
            return {}
        return found if found.get("settings") == self._settings else {}

    def update(self, name: str, **values: Any) -> dict[str, Any]:
        """Add ``values`` to the record of ``name``; dictionaries are merged key by key."""
        record = self.read(name) or {"settings": self._settings}
        for key, value in values.items():
            if isinstance(value, dict):
                record[key] = record.get(key, {}) | value
            else:
                record[key] = value
        write_json(self._folder / f"{name}.json", record)
        return record


def best_layouts(
    records: Records, measured: Sequence[Configuration], workload: str
) -> dict[Configuration, float]:
    """Of each peer and strategy the fastest layout, with its rows per second."""
    best: dict[tuple[str, str], tuple[float, Configuration]] = {}
    for one in measured:
        rows_per_s = records.read(one.name)["capacity"][workload]["rows_per_s"]
        key = (one.peer, one.strategy)
        if key not in best or rows_per_s > best[key][0]:
            best[key] = (rows_per_s, one)
    return {one: rows_per_s for rows_per_s, one in best.values()}
