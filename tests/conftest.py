"""What every test may use, and the one condition that several of them share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip tests of the example packs, with a reason, where TASKROUTE_DATA names no folder."""
    folder = os.environ.get("TASKROUTE_DATA", "")
    if folder and Path(folder).is_dir():
        return
    reason = f"TASKROUTE_DATA={folder!r} is not a folder" if folder else "TASKROUTE_DATA is not set"
    for item in items:
        if item.get_closest_marker("data"):
            item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository's root folder."""
    return ROOT


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """The folder of example packs; for tests marked `data`."""
    return Path(os.environ["TASKROUTE_DATA"])
