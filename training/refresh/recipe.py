"""How the next version is to be trained: as the old one was, unless told otherwise."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from model.bundle import Bundle
from model.config import ModelConfig
from training.config import TrainSettings
from training.errors import SettingsError
from training.refresh.settings import NOT_INHERITED
from training.settings_files import load_settings, read_config

# Not to be given: they are what a refresh is.
_FIXED = ("init_from", "tasks")


def inherited_settings(
    bundle: Bundle, location: str, config: str | None, flags: Mapping[str, Any]
) -> TrainSettings:
    """Settings of a run that begins with ``bundle``: its own, under ``config``, under ``flags``.

    A bundle that says nothing of its training (one of ``init``) gives its network; the rest is the
    default recipe's.

    Args:
        location: of the bundle, for ``init_from``.

    Raises:
        SettingsError: a value that cannot be, or one that a refresh decides itself.
    """
    given = (read_config(config) if config else {}) | dict(flags)
    for name in _FIXED:
        if name in given:
            raise SettingsError(
                f"setting {name!r} cannot be given to refresh: it begins with the latest version "
                "and answers that version's tasks; use train"
            )
    recorded = bundle.metrics.get("training", {}).get("settings", {})
    own = {
        name: value
        for name, value in (_network_settings(bundle.config) | recorded).items()
        if name in TrainSettings.model_fields and name not in NOT_INHERITED
    }
    return load_settings(TrainSettings, None, own | given | {"init_from": location})


def _network_settings(config: ModelConfig) -> dict[str, Any]:
    """What describes this network, by the names of the settings."""
    routing, image = config.routing, config.preprocess
    return {
        "family": config.family,
        "arch": config.backbone.arch,
        "width": config.backbone.width,
        "norm": config.backbone.norm,
        "stem": config.backbone.stem,
        "adapters": config.backbone.adapters,
        "scheme": routing.scheme,
        "keep": routing.keep,
        "keep_schedule": routing.keep_schedule,
        "modulation": routing.modulation,
        "routed_layers": routing.routed_layers,
        "group_layers": routing.group_layers,
        "route_seed": routing.seed,
        "unit_multiple": routing.unit_multiple,
        "embedding": config.head.embedding,
        "image_size": (image.height, image.width),
        "fit": image.fit,
        "background": image.background,
    }
