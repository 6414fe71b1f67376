"""A short run of what ``make fuzz`` does for ten minutes."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.service.hardening.fuzz import fuzz_both


@pytest.mark.slow
def test_schemathesis_finds_no_server_error_and_nothing_undocumented(
    repository: Path, tmp_path: Path
) -> None:
    assert fuzz_both(repository, 40, seed=7, folder=tmp_path) == 0
