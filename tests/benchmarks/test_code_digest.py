"""Figures are kept for the code that they are of."""

from __future__ import annotations

from pathlib import Path

from benchmarks.code_digest import code_digest
from benchmarks.records import Records


def test_every_source_counts_and_nothing_else(tmp_path: Path) -> None:
    inner = tmp_path / "model/native"
    inner.mkdir(parents=True)
    (inner / "chain.hpp").write_text("one")
    first = code_digest("model", root=tmp_path)
    (inner / "_avx2.so").write_text("built")
    (tmp_path / "service").mkdir()
    (tmp_path / "service/app.py").write_text("other")
    assert code_digest("model", root=tmp_path) == first
    assert code_digest("model", "service", root=tmp_path) != first
    (inner / "chain.hpp").write_text("two")
    assert code_digest("model", root=tmp_path) != first


def test_a_record_of_other_code_is_not_read(tmp_path: Path) -> None:
    Records(tmp_path, {"code": "old"}, fresh=False).update("cell", found=1)
    assert Records(tmp_path, {"code": "old"}, fresh=False).read("cell")["found"] == 1
    assert Records(tmp_path, {"code": "new"}, fresh=False).read("cell") == {}
