"""Engines and images, made once for all tests that need Docker; at the end, what was lacking."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.deploy.docker_engine import Engine, NoEngineError, cache_folder, engine
from tests.deploy.images import build
from tests.deploy.lacking import lacking


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if cache_folder() is None:  # not `make deploy-test`
        return
    terminalreporter.section("not tested for real, since this machine lacks it")
    skipped = terminalreporter.stats.get("skipped", [])
    for line in lacking(report.longrepr[2].removeprefix("Skipped: ") for report in skipped):
        terminalreporter.line(line)


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
