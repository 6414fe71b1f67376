"""Command-line options made from the gate's settings."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import wraps
from typing import Annotated, Any

import typer
from pydantic import ValidationError

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
    signature = inspect.signature(command)

    @wraps(command)
    def wrapper(**values: Any) -> None:
        gate = _gate({name: values.pop(name) for name in options})
        command(**values, gate=gate)

    own = [one for one in signature.parameters.values() if one.name != "gate"]
    # Typer reads a command's options from its signature.
    wrapper.__signature__ = inspect.Signature([*own, *options.values()])  # type: ignore[attr-defined]
    wrapper.__annotations__ = {one.name: one.annotation for one in (*own, *options.values())}
    return wrapper


def _gate(values: dict[str, Any]) -> GateSettings:
    try:
        return GateSettings.model_validate(values)
    except ValidationError as error:
        told = "; ".join(
            f"setting {str(one['loc'][0])!r} is {one['input']!r}: {one['msg']}"
            for one in error.errors()
        )
        raise SettingsError(told) from error
