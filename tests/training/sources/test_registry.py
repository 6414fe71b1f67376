"""SOURCE arguments."""

from __future__ import annotations

import pytest

from tests.conftest import ROOT
from training.errors import SourceError, exit_code
from training.sources import KINDS, open_source


@pytest.mark.parametrize("source", ["fashion", "pack:", ":x", "", "cvs:photos.csv"])
def test_anything_else_is_refused_with_the_forms_there_are(source: str) -> None:
    with pytest.raises(SourceError, match="expected one of builtin:fashion, pack:FILE") as caught:
        open_source(source)
    assert exit_code(caught.value) == 2


def test_a_slip_gets_the_nearest_kind() -> None:
    with pytest.raises(SourceError, match=r"did you mean csv:\.\.\.\?"):
        open_source("cvs:photos.csv")


def test_kinds_are_found_by_their_own_scheme() -> None:
    assert all(scheme == kind.scheme for scheme, kind in KINDS.items())
    assert {"builtin", "pack", "csv"} <= KINDS.keys()


def test_every_kind_is_in_the_table_of_sources() -> None:
    table = (ROOT / "docs/training.md").read_text(encoding="utf-8")
    for kind in KINDS.values():
        assert f"\n| `{kind.scheme}:{kind.argument.partition('[')[0]}` | " in table
