"""Where the image packs are that some measurements train on."""

from __future__ import annotations

import os
from pathlib import Path

import typer

DATA = "TASKROUTE_DATA"


def packs() -> Path:
    """The folder that holds a folder for each pack; ends the program where it is not named."""
    if DATA not in os.environ:
        raise typer.BadParameter(f"{DATA} does not say where the packs are")
    return Path(os.environ[DATA])
