"""Command-line flags, made from the settings: ``max_batch_rows`` is ``--max-batch-rows``."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from pydantic.fields import FieldInfo

from service.settings import PREFIX, Settings


def parser() -> argparse.ArgumentParser:
    """A parser with a flag for every setting. Values stay text: the settings check them."""
    made = argparse.ArgumentParser(
        prog="python -m service",
        description="Serve a model over HTTP.",
        epilog=f"Every flag is also an environment variable: --max-batch-rows is "
        f"{PREFIX}MAX_BATCH_ROWS. Flags win.",
        allow_abbrev=False,
    )
    made.add_argument(
        "--print-config",
        action="store_true",
        help="print the settings in force, secrets masked, and exit",
    )
    for name, field in Settings.model_fields.items():
        switch: dict[str, Any] = {"nargs": "?", "const": "true"} if field.annotation is bool else {}
        made.add_argument(
            flag(name),
            dest=name,
            **switch,
            metavar=_metavar(field),
            default=argparse.SUPPRESS,
            help=_help(field),
        )
    return made


def flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def parse(arguments: Sequence[str]) -> tuple[dict[str, Any], bool]:
    """Values given by flags, and whether ``--print-config`` was among them; exits 2 if wrong."""
    given = vars(parser().parse_args(arguments))
    return given, given.pop("print_config")


def default_text(field: FieldInfo) -> str:
    """The default as a person would type it; empty for a required setting."""
    return "" if field.is_required() or field.default is None else str(field.default)


def _help(field: FieldInfo) -> str:
    text = (field.description or "").replace("%", "%%")
    if field.is_required():
        return f"{text} (required)"
    default = default_text(field)
    return f"{text} (default: {default})" if default else text


def _metavar(field: FieldInfo) -> str:
    numeric = field.annotation in (int, float, int | None)
    return "N" if numeric else "VALUE"
