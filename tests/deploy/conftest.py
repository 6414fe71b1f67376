"""Engines and images, made once for all tests that need Docker."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.deploy.docker_engine import Engine, NoEngineError, engine
from tests.deploy.images import build


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Both images, built from a clean clone of what is committed."""
    folder: Path = tmp_path_factory.mktemp("build")
    try:
        with engine("host") as builder:
            build(builder, folder)
    except NoEngineError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def docker(images: None) -> Iterator[Engine]:
    """An engine that has both images and runs containers."""
    with engine("own") as running:
        yield running
