"""What commands say to a person. Imports nothing slow, so that errors and help come at once."""

from __future__ import annotations

from rich.console import Console


def say(console: Console, text: str) -> None:
    """A plain line: names from the data are not markup."""
    console.print(text, markup=False, highlight=False, soft_wrap=True)
