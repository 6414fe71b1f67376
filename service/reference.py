"""The README's tables of settings and metrics, made from the code that they describe.

Usage:
    python -m service.reference                     print the tables
    python -m service.reference --write README.md   replace them in a file
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pydantic.fields import FieldInfo

from service.metrics import FAMILIES
from service.metrics import PREFIX as METRIC_PREFIX
from service.settings import PREFIX, Settings


def settings_table() -> str:
    """A Markdown row for each setting: variable, default, meaning."""
    return _table(
        ("variable", "default", "meaning"),
        (
            (f"`{PREFIX}{name.upper()}`", _default(field), field.description or "")
            for name, field in Settings.model_fields.items()
        ),
    )


def metrics_table() -> str:
    """A Markdown row for each metric family: name, type, labels, meaning."""
    return _table(
        ("metric", "type", "labels", "meaning"),
        (
            (f"`{METRIC_PREFIX}{family.name}`", family.kind,
             ", ".join(f"`{label}`" for label in family.labels), family.help)
            for family in FAMILIES
        ),
    )  # fmt: skip


TABLES = {"settings": settings_table, "metrics": metrics_table}


def rewrite(text: str) -> str:
    """Replace what stands between each table's two marks.

    Raises:
        ValueError: a table's marks are missing, or there more than once.
    """
    for name, table in TABLES.items():
        marks = re.compile(rf"(<!-- {name}: .*? -->\n).*?(<!-- end of {name} -->)", re.DOTALL)
        found = list(marks.finditer(text))
        if len(found) != 1:
            raise ValueError(
                f"{len(found)} places for the table of {name}; expected one, between the lines "
                f"'<!-- {name}: ... -->' and '<!-- end of {name} -->'"
            )
        place = found[0]
        rows = f"{place[1]}\n{table()}\n{place[2]}"
        text = text[: place.start()] + rows + text[place.end() :]
    return text


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m service.reference", description=__doc__)
    parser.add_argument("--write", type=Path, metavar="FILE", help="replace the tables in FILE")
    file = parser.parse_args().write
    if file is None:
        sys.stdout.write("\n".join(table() for table in TABLES.values()))
        return 0
    try:
        file.write_text(rewrite(file.read_text(encoding="utf-8")), encoding="utf-8")
    except (OSError, ValueError) as error:
        sys.stderr.write(f"{file}: {error}\n")
        return 1
    return 0


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value: Any = field.get_default(call_default_factory=True)
    if value is None or value == "":
        return ""
    if isinstance(value, float) and value.is_integer():
        return f"`{int(value)}`"
    return f"`{value}`"


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    # A bar inside a cell would start another cell.
    return "".join(f"| {' | '.join(c.replace('|', chr(92) + '|') for c in r)} |\n" for r in lines)


if __name__ == "__main__":
    sys.exit(main())
