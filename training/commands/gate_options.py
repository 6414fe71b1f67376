"""Command-line options made from the gate's settings."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Annotated, Any

import typer
from pydantic import ValidationError

from training.commands.options import with_options
from training.errors import SettingsError
from training.refresh.settings import GateSettings


def with_gate(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command one option for each setting of the gate; its parameter ``gate`` is made of
    them."""
    options = {
        name: inspect.Parameter(
            name,
            inspect.Parameter.KEYWORD_ONLY,
            default=field.default,
            annotation=Annotated[
                field.annotation, typer.Option(help=f"gate: {field.description}", metavar="NUMBER")
            ],
        )
        for name, field in GateSettings.model_fields.items()
    }
    return with_options(command, options, "gate", _gate)


def _gate(values: dict[str, Any]) -> GateSettings:
    try:
        return GateSettings.model_validate(values)
    except ValidationError as error:
        told = "; ".join(
            f"setting {str(one['loc'][0])!r} is {one['input']!r}: {one['msg']}"
            for one in error.errors()
        )
        raise SettingsError(told) from error
