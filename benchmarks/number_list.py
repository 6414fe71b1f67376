"""Lists of numbers as they are given on command lines."""

from __future__ import annotations

import typer


def integers(text: str) -> list[int]:
    """``"1,2"`` -> ``[1, 2]``; ends the program where that is not what ``text`` is."""
    try:
        return [int(part) for part in text.split(",")]
    except ValueError as error:
        raise typer.BadParameter(f"{text!r} is not a list of whole numbers such as 1,2") from error
