"""Reading settings: recipes and TOML files, flags over them, and errors that name the setting."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

import training
from model.tasks import Task
from training.config import ModelSettings, TrainSettings
from training.errors import SettingsError

RECIPES = Path(training.__file__).parent / "recipes"
DEFAULT_RECIPE = "default"
"""Under every other: what they leave unsaid."""
TRAIN_RECIPE = "evidence"
"""Of ``train`` without ``--config``: the one that came out best (docs/training-results.md)."""

S = TypeVar("S", bound=ModelSettings)


def recipe_names() -> list[str]:
    """Recipes that ``--config`` knows by name."""
    return sorted(path.stem for path in RECIPES.glob("*.toml"))


def load_settings(
    kind: type[S], config: str | None = None, flags: Mapping[str, Any] | None = None
) -> S:
    """Settings of one command: the default recipe, under ``config``, under ``flags``.

    Args:
        config: a TOML file's path or a recipe's name.
        flags: values given on the command line, by setting name.

    Raises:
        SettingsError: an unreadable file, an unknown setting, or a value it cannot take.
        ConfigError: values that do not go together.
    """
    default = _known(kind, read_settings_file(RECIPES / f"{DEFAULT_RECIPE}.toml"))
    values = default | _known(kind, read_config(config) if config else {}) | dict(flags or {})
    try:
        settings = kind.model_validate(values)
        _check_network(settings)
    except ValidationError as error:
        raise SettingsError(_describe(error)) from error
    return settings


def _check_network(settings: ModelSettings) -> None:
    """What the model would refuse later, refused before any data is read."""
    from model.backbones import layer_shapes  # imports PyTorch
    from model.routes import keep_by_layer

    settings.head()
    layers = layer_shapes(settings.backbone(), settings.image_size)
    settings.network((Task(name="any"),), settings.preprocess())
    routing = settings.routing()
    keep_by_layer(routing, len(layers), [layer.stream for layer in layers])
    if (
        isinstance(settings, TrainSettings)
        and routing.scheme == "saliency"
        and settings.target_cost
    ):
        from training.route_budget import check_target_cost

        check_target_cost(settings.backbone(), settings.image_size, routing, settings.target_cost)


def read_config(config: str) -> dict[str, Any]:
    """The settings in the file, or in the recipe, that ``--config`` names."""
    path = Path(config)
    if not path.is_file() and config in recipe_names():
        path = RECIPES / f"{config}.toml"
    if not path.is_file():
        raise SettingsError(
            f"--config {config}: no such file, and no recipe of that name; recipes are "
            f"{', '.join(recipe_names())}"
        )
    return read_settings_file(path)


def read_settings_file(path: Path) -> dict[str, Any]:
    """A flat TOML file; unknown names are refused here, with the nearest valid one."""
    try:
        values: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SettingsError(f"{path}: cannot be read: {error}") from error
    for name in values:
        if name not in TrainSettings.model_fields:
            raise SettingsError(f"{path}: {_unknown(name)}", setting=name)
    return values


def _known(kind: type[ModelSettings], values: Mapping[str, Any]) -> dict[str, Any]:
    """Those settings that ``kind`` has: ``init`` reads the same recipes as ``train``."""
    return {name: value for name, value in values.items() if name in kind.model_fields}


def _unknown(name: str) -> str:
    near = difflib.get_close_matches(name, TrainSettings.model_fields, n=1, cutoff=0.5)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return f"unknown setting {name!r}{hint}"


# What the model calls otherwise than the settings do.
_MODEL_NAMES = {
    ("PreprocessConfig", "height"): "image_size",
    ("PreprocessConfig", "width"): "image_size",
    ("RoutingConfig", "seed"): "route_seed",
}


def _describe(error: ValidationError) -> str:
    problems: dict[str, str] = {}  # one for each setting: a union reports each of its members
    for item in error.errors():
        name = str(item["loc"][0]) if item["loc"] else ""
        setting = _MODEL_NAMES.get((error.title, name), name)
        if item["type"] == "extra_forbidden":
            problem = _unknown(name)
        elif name:
            problem = f"setting {setting!r} is {item['input']!r}: {item['msg']}"
        else:
            problem = str(item["msg"])
        problems.setdefault(setting, problem)
    return "; ".join(problems.values())
