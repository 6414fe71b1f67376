"""Images that cannot be read: left out, counted, listed in a file, and too many stop the run."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from training.decoding import Unreadable
from training.errors import DataError
from training.sources import Split

FILE = "unreadable.csv"
"""Beside the state of a run: split, image and reason of everything that was left out."""
MAX_SHARE = 0.1
_NAMED = 3


@dataclass(frozen=True)
class UnreadableImages:
    """What becomes of images that cannot be read."""

    max_share: float = MAX_SHARE
    """Share of a split's images; beyond it, what is left is not the data that was meant."""
    listing: Path | None = None
    """A CSV file that names them all."""

    def begin(self) -> None:
        """Forget what an earlier run listed."""
        if self.listing is not None:
            self.listing.unlink(missing_ok=True)

    def report(self, source: str, split: Split, total: int, found: Sequence[Unreadable]) -> str:
        """List ``found``, of a split's ``total`` images, and say so in one sentence.

        Raises:
            DataError: more than ``max_share`` of them, or all; or the list cannot be written.
        """
        self._append(split, found)
        first = ", ".join(f"{one.name} ({one.reason})" for one in found[:_NAMED])
        first += ", ..." if len(found) > _NAMED else ""
        listed = f"; all are listed in {self.listing}" if self.listing is not None else ""
        if len(found) == total:
            raise DataError(
                f"{source}: none of the {total} {split} images can be read: {first}{listed}",
                split=split,
            )
        counted = f"{len(found)} of {total} {split} images cannot be read"
        if len(found) > self.max_share * total:
            raise DataError(
                f"{source}: {counted}, more than the share of {self.max_share:g} that "
                f"'max_unreadable_share' allows: {first}{listed}. Repair those files, or raise it "
                "to go on without them",
                split=split,
            )
        return f"{counted} and are left out: {first}{listed}"

    def _append(self, split: Split, found: Sequence[Unreadable]) -> None:
        if self.listing is None:
            return
        try:
            self.listing.parent.mkdir(parents=True, exist_ok=True)
            with self.listing.open("a", encoding="utf-8", newline="") as file:
                writer = csv.writer(file)
                if not file.tell():
                    writer.writerow(["split", "image", "reason"])
                writer.writerows([split, one.name, one.reason] for one in found)
        except OSError as error:
            raise DataError(
                f"{self.listing}: the list of unreadable images cannot be written: "
                f"{error.strerror or error}",
                path=str(self.listing),
            ) from error
