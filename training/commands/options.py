"""Command-line options made from settings, so that a setting is written down once."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Mapping
from functools import wraps
from typing import Annotated, Any

import typer
from pydantic.fields import FieldInfo

from model.sigma import keep_from_sigma
from training.config import ModelSettings
from training.errors import SettingsError
from training.settings_files import DEFAULT_RECIPE, RECIPES, read_config, read_settings_file

_AS_BEFORE = "as before"

Flags = dict[str, Any]
"""Settings given on the command line, by name."""


def with_settings(
    kind: type[ModelSettings],
    recipe: str = DEFAULT_RECIPE,
    *,
    not_inherited: Collection[str] | None = None,
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command one option for each setting of ``kind``, and ``--sigma`` beside ``--keep``.

    The command's parameter ``flags`` receives those that were given.

    Args:
        recipe: what the command uses without ``--config``, for the defaults shown.
        not_inherited: what is not given is as it was for the version before, but for these; None:
            as the default recipe says.
    """

    def flags(given: dict[str, Any]) -> Flags:
        return resolve_sigma({name: value for name, value in given.items() if value is not None})

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        return with_options(command, _options(kind, recipe, not_inherited), "flags", flags)

    return decorate


def with_options(
    command: Callable[..., None],
    options: Mapping[str, inspect.Parameter],
    parameter: str,
    make: Callable[[dict[str, Any]], Any],
) -> Callable[..., None]:
    """The command with ``options`` in place of its ``parameter``, which ``make`` makes of them."""
    signature = inspect.signature(command, eval_str=True)

    @wraps(command)
    def wrapper(**values: Any) -> None:
        given = {name: values.pop(name) for name in options}
        command(**values, **{parameter: make(given)})

    own = [one for one in signature.parameters.values() if one.name != parameter]
    # Typer reads a command's options from its signature.
    wrapper.__signature__ = inspect.Signature([*own, *options.values()])  # type: ignore[attr-defined]
    wrapper.__annotations__ = {one.name: one.annotation for one in (*own, *options.values())}
    return wrapper


def resolve_sigma(flags: Flags) -> Flags:
    """``flags`` with ``sigma`` and ``sigma_reading``, where given, replaced by the keep they mean.

    Raises:
        SettingsError: a sigma without its reading, beside a keep, or not a number.
        ConfigError: a sigma that keeps nothing.
    """
    flags = dict(flags)
    sigma, reading = flags.pop("sigma", None), flags.pop("sigma_reading", None)
    if sigma is None and reading is None:
        return flags
    if sigma is None or reading not in ("paper", "code"):
        raise SettingsError(
            "--sigma needs --sigma-reading paper (share kept) or code (share zeroed): the paper's "
            "text and its published code mean opposite things by it. --keep is unambiguous"
        )
    if "keep" in flags:
        raise SettingsError("--keep and --sigma say the same thing; give one of them")
    try:
        return flags | {"keep": keep_from_sigma(float(sigma), reading)}
    except ValueError as error:
        raise SettingsError(f"--sigma is {sigma!r}; it must be a number") from error


def _options(
    kind: type[ModelSettings], recipe: str, not_inherited: Collection[str] | None
) -> dict[str, inspect.Parameter]:
    defaults = read_settings_file(RECIPES / f"{DEFAULT_RECIPE}.toml") | read_config(recipe)
    if not_inherited is not None:
        defaults |= {name: _AS_BEFORE for name in defaults if name not in not_inherited}
    options = {
        name: _option(name, field, defaults[name]) for name, field in kind.model_fields.items()
    }
    options["sigma"] = _text("sigma", "the paper's sharing ratio, instead of --keep")
    options["sigma_reading"] = _text(
        "sigma_reading", "what sigma means: paper (share kept) or code (share zeroed)"
    )
    return options


def _option(name: str, field: FieldInfo, default: Any) -> inspect.Parameter:
    description = field.description or ""
    if field.annotation is bool:
        flag = name.replace("_", "-")
        said = default if default is _AS_BEFORE else "yes" if default else "no"
        shown = f"{description}; default {said}"
        option = typer.Option(f"--{flag}/--no-{flag}", help=shown, show_default=False)
        return _parameter(name, Annotated[bool | None, option])
    shown = ",".join(map(str, default)) if isinstance(default, list) else str(default)
    return _text(name, f"{description}; default {shown or 'none'}")


def _text(name: str, description: str) -> inspect.Parameter:
    """Text on the command line; the settings model reads numbers and lists from it."""
    flag = f"--{name.replace('_', '-')}"
    option = typer.Option(flag, help=description, show_default=False, metavar="VALUE")
    return _parameter(name, Annotated[str | None, option])


def _parameter(name: str, annotation: Any) -> inspect.Parameter:
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation
    )
