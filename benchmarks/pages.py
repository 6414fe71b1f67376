"""Every page with parts that are made from committed results, rewritten: part of ``make pages``.

python -m benchmarks.pages
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from benchmarks import methods_table, sizing, training_table
from benchmarks.generated_part import Parts, rewrite

PAGES: dict[str, Callable[[], Parts]] = {
    "README.md": training_table.parts,
    "docs/methods.md": methods_table.parts,
    "docs/sizing.md": sizing.parts,
    "docs/training-results.md": training_table.parts,
}


def rewritten(name: str) -> str:
    """The page as it is to be."""
    return rewrite(Path(name).read_text(encoding="utf-8"), PAGES[name]())


def main(names: Iterable[str] = PAGES) -> None:
    """Rewrite pages in the current folder, the top of the checkout."""
    for name in names:
        Path(name).write_text(rewritten(name), encoding="utf-8")
        print(f"wrote {name}")


if __name__ == "__main__":
    main()
