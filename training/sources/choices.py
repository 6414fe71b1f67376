"""``ROOT,certainty=3,split=species``: choices that some kinds of data leave to the person."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from training.errors import SourceError

_LAST_CHOICE = re.compile(r"(.*),([a-z]+)=([^,]*)", re.DOTALL)


def read_choices(
    scheme: str, argument: str, allowed: Mapping[str, Sequence[str]]
) -> tuple[Path, dict[str, str]]:
    """The path that ``argument`` begins with, and a value for every choice there is.

    Args:
        allowed: each choice's values, the default first; one value alone stands for any text.

    Raises:
        SourceError: an unknown choice or value, or a choice made twice.
    """
    given: dict[str, str] = {}
    rest = argument
    while match := _LAST_CHOICE.fullmatch(rest):
        rest, name, value = match.groups()
        values = allowed.get(name)
        if values is None:
            problem = f"{name!r} is nothing to choose"
        elif name in given:
            problem = f"{name!r} is chosen twice"
        elif len(values) > 1 and value not in values:
            problem = f"{name!r} cannot be {value!r}"
        else:
            given[name] = value
            continue
        forms = [f"{one}={'|'.join(allowed[one]) or 'TEXT'}" for one in allowed]
        raise SourceError(
            f"{scheme}:{argument}: {problem}; after the folder there may be "
            f"{', '.join(forms) or 'nothing'}, each after a comma"
        )
    return Path(rest), {name: values[0] for name, values in allowed.items()} | given
