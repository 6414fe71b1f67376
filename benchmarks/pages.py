"""Every page with parts that are made from committed results, rewritten: part of ``make pages``.

python -m benchmarks.pages
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from benchmarks import engine_table, keep_table, methods_table, sizing, training_table
from benchmarks.generated_part import Parts, rewrite

PAGES: dict[str, tuple[Callable[[], Parts], ...]] = {
    "README.md": (engine_table.parts, training_table.parts),
    "docs/methods.md": (methods_table.parts,),
    "docs/sizing.md": (sizing.parts,),
    "docs/training-results.md": (training_table.parts, keep_table.parts),
}


def rewritten(name: str) -> str:
    """The page as it is to be."""
    page = Path(name).read_text(encoding="utf-8")
    for parts in PAGES[name]:
        page = rewrite(page, parts())
    return page


def main(names: Iterable[str] = PAGES) -> None:
    """Rewrite pages in the current folder, the top of the checkout."""
    for name in names:
        Path(name).write_text(rewritten(name), encoding="utf-8")
        print(f"wrote {name}")


if __name__ == "__main__":
    main()
