"""The comparison of all methods: its command lines and its page."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import typer

from benchmarks.method_comparison import command, source_of
from benchmarks.methods import COMPARISONS, METHODS, STAGES
from benchmarks.methods_table import MEMORY, parts
from benchmarks.packs import DATA
from training.compare.summary import FIGURES
from training.methods import choose_methods


def test_every_comparison_has_a_source_and_methods_that_there_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(DATA, "/data")
    sources = {name: source_of(one, Path("/fm")) for name, one in COMPARISONS.items()}
    assert sources == {
        "products-7": "pack:/data/fashion_products/fashion_products.npz,labels=labels.csv",
        "fashion-mnist-10": "fashion-mnist:/fm",
        "builtin-10": "builtin:fashion",
    }
    assert len(choose_methods(METHODS)) == len(METHODS)
    line = command(COMPARISONS["builtin-10"], STAGES[0], "builtin:fashion", Path("out"))
    assert line[line.index("--methods") + 1] == "shared,evidence,cross-stitch,single-task"
    assert line[line.index("--budget-s") + 1] == "8"


def test_packs_have_to_be_somewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(DATA, raising=False)
    with pytest.raises(typer.BadParameter, match=DATA):
        source_of(COMPARISONS["products-7"], Path("/fm"))


def tables(folder: Path) -> dict[str, str]:
    return {part.name: text for part, text in parts(folder).items()}


def record(method: str, ap: float, **more: Any) -> dict[str, Any]:
    figures = dict.fromkeys(FIGURES, 0.5) | {"average_precision": ap, "majority": 0.75}
    return {
        "method": method, "keep": None, "tasks": 7, "seed": 0, "failure": None,
        "figures": figures, "cost": {"passes": 7.1, "masked_passes": 7.1},
        "training": {"seconds": 20.0, "epochs": 1.5}, **more,
    }  # fmt: skip


def test_tables_are_made_of_cells_the_best_first(tmp_path: Path) -> None:
    cells = tmp_path / "products-7/cells"
    cells.mkdir(parents=True)
    size = {"size": {"parameters": 2_500_000, "bundle_bytes": 10_100_000}}
    for one in (
        record("cross-stitch", 0.25, **size),
        record("shared", 0.75, keep=0.5, intervals={"average_precision": [0.7, 0.8]}),
    ):
        (cells / f"{one['method']}.json").write_text(json.dumps(one))
    made = tables(tmp_path)
    assert list(made) == ["products-7"]
    assert made["products-7"].splitlines()[2:] == [
        "| shared, keep 0.5 | 0.500 | 0.500 | 0.750 (0.700 to 0.800) | 7.10 | – | – | 1.50 |",
        "| cross-stitch | 0.500 | 0.500 | 0.250 | 7.10 | 2.5 | 10.1 | 1.50 |",
        "| always the most frequent class | 0.750 | – | – | – | – | – | – |",
    ]


def test_memory_says_what_is_refused(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"tasks": 5, "weight_bytes": 2e8, "training_bytes": 7e8, "refused": None},
        {"tasks": 99, "weight_bytes": 4e9, "training_bytes": 2e10, "refused": "too large"},
    ]
    for row in rows:
        row["shared_parameters"] = 25_000_000
    (tmp_path / MEMORY).mkdir()
    (tmp_path / MEMORY / "result.json").write_text(json.dumps({"limit_gb": 8.0, "rows": rows}))
    assert tables(tmp_path)[MEMORY].splitlines()[2:] == [
        "| 5 | 0.2 | 0.7 | yes | 0.1 |",
        "| 99 | 4 | 20 | refused | 0.1 |",
    ]
