"""What every test may use, and the conditions that several of them share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip, with the reason, tests of example packs or of a GPU where there are none."""
    for marker, missing in (("data", _missing_data), ("gpu", _missing_gpu)):
        marked = [item for item in items if item.get_closest_marker(marker)]
        if marked and (reason := missing()):
            for item in marked:
                item.add_marker(pytest.mark.skip(reason=reason))


def _missing_data() -> str:
    folder = os.environ.get("TASKROUTE_DATA", "")
    if folder and Path(folder).is_dir():
        return ""
    return f"TASKROUTE_DATA={folder!r} is not a folder" if folder else "TASKROUTE_DATA is not set"


def _missing_gpu() -> str:
    import torch  # a second, which a run without such tests need not take

    return "" if torch.cuda.is_available() else "there is no CUDA device or driver"


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository's root folder."""
    return ROOT


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """The folder of example packs; for tests marked `data`."""
    return Path(os.environ["TASKROUTE_DATA"])
