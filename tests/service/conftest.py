"""A small published model, made once."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.service.small_model import publish_small


@pytest.fixture(scope="session")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Version 1 of the model ``small``. Not to be written to."""
    root = tmp_path_factory.mktemp("repository")
    publish_small(root)
    return root
