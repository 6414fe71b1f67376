"""Data sources: ``open_source("csv:photos.csv")``.

A new kind is one module with a ``KIND`` and one entry in ``KINDS``.
"""

from __future__ import annotations

import difflib

from training.errors import SourceError
from training.sources import (
    builtin,
    celeba,
    cifar10,
    csv_table,
    cub200,
    decathlon,
    fashion_mnist,
    pack,
    zappos50k,
)
from training.sources.base import MISSING, SPLITS, Dataset, Images, Labels, SourceOptions, Split
from training.sources.registry import SourceKind

__all__ = [
    "KINDS",
    "MISSING",
    "SPLITS",
    "Dataset",
    "Images",
    "Labels",
    "SourceOptions",
    "Split",
    "open_source",
]

KINDS: dict[str, SourceKind] = {
    kind.scheme: kind
    for kind in (
        builtin.KIND,
        pack.KIND,
        csv_table.KIND,
        fashion_mnist.KIND,
        cifar10.KIND,
        celeba.KIND,
        cub200.KIND,
        zappos50k.KIND,
        decathlon.KIND,
    )
}


def open_source(source: str, options: SourceOptions | None = None) -> Dataset:
    """Read the tasks, labels and splits that ``source`` (``scheme:argument``) names.

    Raises:
        SourceError: no such kind of source.
        DataError: the data cannot be used as it is.
    """
    scheme, separator, argument = source.partition(":")
    kind = KINDS.get(scheme)
    if not separator or not argument or kind is None:
        forms = ", ".join(f"{kind.scheme}:{kind.argument}" for kind in KINDS.values())
        near = difflib.get_close_matches(scheme, KINDS, n=1)
        hint = f" (did you mean {near[0]}:...?)" if near and kind is None else ""
        raise SourceError(f"{source!r} is no data source{hint}; expected one of {forms}")
    return kind.read(argument, options or SourceOptions())
