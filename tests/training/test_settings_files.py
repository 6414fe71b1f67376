"""Settings: layers, forms of values, and errors that name the setting."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest

from model.errors import ConfigError
from training.config import RESUMABLE_CHANGES, ModelSettings, TrainSettings
from training.errors import SettingsError
from training.settings_files import RECIPES, load_settings, recipe_names


def train(config: str | None = None, **flags: Any) -> TrainSettings:
    return load_settings(TrainSettings, config, flags)


def test_the_default_recipe_says_every_setting_and_nothing_else() -> None:
    values = tomllib.loads((RECIPES / "default.toml").read_text())
    assert values.keys() == TrainSettings.model_fields.keys()


@pytest.mark.parametrize("name", recipe_names())
def test_every_recipe_can_be_loaded_by_name_and_for_init(name: str) -> None:
    assert train(name)
    assert load_settings(ModelSettings, name)


def test_the_paper_recipe_is_section_4_3() -> None:
    settings = train("paper")
    assert (settings.sampler, settings.tasks_per_step) == ("paper", 1)
    assert (settings.lr, settings.momentum, settings.batch_size) == (0.01, 0.5, 64)
    assert settings.epochs == 35
    assert settings.routed_layers == "all"


def test_the_default_is_the_papers_algorithm_and_optimiser() -> None:
    settings = train()
    assert (settings.sampler, settings.tasks_per_step) == ("paper", 1)
    assert (settings.lr, settings.momentum, settings.batch_size) == (0.01, 0.5, 64)


def test_flags_go_over_the_file_and_the_file_over_the_default(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text("epochs = 3\nlr = 0.2\n")
    settings = train(str(path), lr="0.3")
    assert (settings.epochs, settings.lr, settings.batch_size) == (3, 0.3, 64)


@pytest.mark.parametrize(
    ("name", "given", "meant"),
    [
        ("keep", "0.25", 0.25),
        ("keep", "0.5,0.25", (0.5, 0.25)),
        ("routed_layers", "last:2", "last:2"),
        ("routed_layers", "6,7", (6, 7)),
        ("routed_layers", "7", (7,)),
        ("routed_layers", [6, 7], (6, 7)),
        ("image_size", "64", (64, 64)),
        ("image_size", 32, (32, 32)),
        ("image_size", "109x89", (109, 89)),
        ("image_size", [109, 89], (109, 89)),
        ("background", "0,10,20", (0, 10, 20)),
        ("tasks", "a,group:b", ("a", "group:b")),
        ("tasks", "a", ("a",)),
        ("tasks", "", ()),
        ("tasks", [], ()),
    ],
)
def test_forms_of_values(name: str, given: Any, meant: Any) -> None:
    flags = {name: given}
    if isinstance(meant, tuple) and name == "keep":
        flags["routed_layers"] = "last:2"
    assert getattr(train(**flags), name) == meant


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"epochs": "many"}, "setting 'epochs' is 'many'"),
        ({"epochs": -1}, "setting 'epochs' is -1: .*greater than 0"),
        ({"epochs": "inf"}, "setting 'epochs' is 'inf': .*finite"),
        ({"lr": "nan"}, "setting 'lr' is 'nan': .*finite"),
        ({"batch_size": 1}, "setting 'batch_size' is 1"),
        ({"sampler": "random"}, "setting 'sampler' is 'random': .*'covering', 'all' or 'domains'"),
        ({"kep": 0.5}, "unknown setting 'kep'; did you mean 'keep'"),
        ({"keep": 2}, r"setting 'keep' is 2\.0: .*less than or equal to 1$"),
        ({"width": 100}, r"setting 'width' is 100\.0"),
        ({"embedding": -1}, "setting 'embedding' is -1"),
        ({"image_size": 8}, "setting 'image_size' is 8"),
        ({"image_size": "8x"}, "setting 'image_size'"),
        ({"route_seed": -1}, "setting 'route_seed' is -1"),
        ({"scheme": "random"}, "setting 'scheme' is 'random'"),
        ({"scheme": "saliency", "routed_layers": "none"}, "there are no routes to choose"),
        ({"scheme": "saliency", "keep": 0}, "keep must be above 0 in every layer"),
        ({"scheme": "saliency", "shared_start": 0}, "nothing has been learnt to choose routes"),
        ({"routed_layers": "first:2"}, "setting 'routed_layers' is 'first:2'"),
        ({"epochs": "many", "lr": 0}, "'epochs' is 'many'.*; setting 'lr' is 0"),
    ],
)
def test_wrong_values_are_named(flags: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        train(**flags)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"arch": "vgg12"}, "arch is 'vgg12'; known architectures"),
        ({"routed_layers": "last:99"}, "last:99.* 8 "),
        ({"keep": "0.5,0.5,0.5"}, "keep has 3 values for 8 routed layers"),
        ({"scheme": "saliency", "target_cost": 0.0001}, r"target_cost is 0\.0001; with 8 units"),
    ],
)
def test_values_that_do_not_go_together_are_refused_early(
    flags: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        train(**flags)


def test_an_unknown_name_in_a_file_is_refused_with_the_nearest(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text("learning_rate = 0.1\nmomentun = 0.9\n")
    with pytest.raises(SettingsError, match=r"mine\.toml: unknown setting 'learning_rate'"):
        train(str(path))
    path.write_text("momentun = 0.9\n")
    with pytest.raises(SettingsError, match="'momentun'; did you mean 'momentum'"):
        train(str(path))
    with pytest.raises(SettingsError, match="'momentun'"):
        load_settings(ModelSettings, str(path))


def test_a_file_that_is_not_there_or_not_toml(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"no such file, and no recipe.*default.*paper"):
        train("nothing")
    path = tmp_path / "broken.toml"
    path.write_text("epochs = = 3")
    with pytest.raises(SettingsError, match=r"broken\.toml: cannot be read"):
        train(str(path))


def test_every_setting_is_described() -> None:
    assert all(field.description for field in TrainSettings.model_fields.values())


def test_what_may_change_on_resume_are_settings() -> None:
    assert TrainSettings.model_fields.keys() >= RESUMABLE_CHANGES
