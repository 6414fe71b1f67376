"""Options that several commands have in common."""

from __future__ import annotations

from typing import Annotated

import typer

from training.sources import KINDS

_FORMS = ", ".join(f"{kind.scheme}:{kind.argument}" for kind in KINDS.values())

Data = Annotated[str, typer.Option(help=f"data source: {_FORMS}", metavar="SOURCE")]
RepositoryRoot = Annotated[
    str,
    typer.Option(help="published models: a directory, s3://BUCKET/PREFIX or gs://BUCKET/PREFIX"),
]
Version = Annotated[int | None, typer.Option(min=1, help="default: the latest")]
ParentVersion = Annotated[int | None, typer.Option(min=1, help="the parent; default: the latest")]
Name = Annotated[str, typer.Option(help="model name in the repository")]
