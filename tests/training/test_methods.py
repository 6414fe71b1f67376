"""The table of methods, and a person's settings over it."""

from __future__ import annotations

from pathlib import Path

import pytest

from training.errors import SettingsError
from training.methods import DEFAULT_METHODS, METHODS, choose_methods


@pytest.mark.parametrize("name", METHODS)
def test_every_method_has_settings_that_define_it(name: str) -> None:
    method = METHODS[name]
    settings = method.settings({"keep": 0.4} if method.keeps else {}).model_dump()
    assert {key: settings[key] for key in method.defining} == dict(method.defining)
    assert settings["keep"] == (0.4 if method.keeps else 1.0)


def test_methods_differ_from_each_other() -> None:
    made = {name: method.settings({}).model_dump_json() for name, method in METHODS.items()}
    per_task = made.pop("single")
    assert per_task == made["shared"]  # of one task each
    assert len(set(made.values())) == len(made)


def test_what_is_not_routed_has_no_routes() -> None:
    for method in METHODS.values():
        assert method.routed == (method.settings({}).routed_layers != "none")


def test_what_costs_most_is_trained_only_where_asked_for() -> None:
    assert set(METHODS) - set(DEFAULT_METHODS) == {
        "modulation", "modulation-shift", "modulation-module", "cross-stitch", "single-task",
        "residual-adapters", "series-adapters", "single",
    }  # fmt: skip
    assert METHODS["single"].network_per_task


def test_settings_come_from_recipe_file_and_flags_in_this_order(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text("lr = 0.5\nmomentum = 0.25\n")
    recipe = METHODS["paper"].settings({})
    assert (recipe.lr, recipe.momentum, recipe.epochs) == (0.01, 0.5, 35)
    mine = METHODS["paper"].settings({"lr": 0.75}, str(file))
    assert (mine.lr, mine.momentum, mine.epochs) == (0.75, 0.25, 35)


def test_what_makes_a_method_cannot_be_set() -> None:
    with pytest.raises(SettingsError, match="'routed_layers' is 'all', but 'last:2' is what makes"):
        METHODS["evidence"].settings({"routed_layers": "all"})
    assert METHODS["evidence-all"].settings({"routed_layers": "all"}).routed_layers == "all"


def test_methods_are_chosen_by_name_once_each() -> None:
    chosen = choose_methods(["paper", "hard-sharing", "shared", "paper"])
    assert [method.name for method in chosen] == ["paper", "shared"]
    with pytest.raises(SettingsError, match="no method 'papers'; there are shared, paper"):
        choose_methods(["papers"])
