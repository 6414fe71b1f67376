"""What is on disk of a job, so that the same command goes on with it.

OUT/part-000007.parquet       an output file; complete, because renamed into place
OUT/.bulk/plan.json           what the job is of; written last, so that what it names is there
OUT/.bulk/parts.jsonl         the input as it was listed, a line for each part
OUT/.bulk/counts/000007.json  images of a part, and how many failed; from before its rename
OUT/.bulk/lock                held by the one process that may write
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import socket
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from model.preprocess import ImageLimits
from service.bulk.errors import BulkError, BulkUsageError
from service.bulk.inputs import Part
from service.bulk.writers import Format, publish
from service.core.run_options import Precision

FOLDER = ".bulk"


class Plan(BaseModel):
    """What decides the output. (Its last digits may differ with another strategy or number of
    threads, so these are not part of it.)"""

    model_config = ConfigDict(frozen=True)

    input: str
    tasks: tuple[str, ...]
    model: str
    version: int
    digest: str
    format: Format
    images_per_part: int
    batch_images: int
    """0 in what is asked for: to be measured when the job begins."""
    precision: Precision = "float32"
    max_image_bytes: int = ImageLimits.max_bytes
    max_image_pixels: int = ImageLimits.max_pixels
    parts: int = 0


class Counts(BaseModel):
    """Of one finished part."""

    images: int
    failed: int
    rows: int


class Journal:
    """The files of one job."""

    def __init__(self, out: Path) -> None:
        self.out = out
        self._folder = out / FOLDER

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Raises BulkUsageError while another process writes here; the kernel frees the lock of a
        process that dies."""
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            file = (self._folder / "lock").open("w")
        except OSError as error:
            raise BulkUsageError(f"--out {self.out} cannot be written: {error.strerror}") from error
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise BulkUsageError(
                    f"--out {self.out}: another job writes there; wait for it, or take another "
                    "folder"
                ) from None
            yield

    def plan(self) -> Plan | None:
        """The plan of the job that was begun here, if any.

        Raises:
            BulkError: there is one, but it cannot be read.
        """
        path = self._folder / "plan.json"
        try:
            return Plan.model_validate_json(path.read_bytes())
        except FileNotFoundError:
            return None
        except (OSError, ValidationError) as error:
            raise BulkError(f"{path} cannot be read: {error}; take another --out") from error

    def begin(self, plan: Plan, parts: Iterable[Part]) -> Plan:
        """Write down what the job is of."""
        shutil.rmtree(self._folder / "counts", ignore_errors=True)
        (self._folder / "counts").mkdir()
        staged, count = self._folder / "parts.part", 0
        with staged.open("w", encoding="utf-8") as file:
            for part in parts:
                file.write(part.model_dump_json() + "\n")
                count += 1
        publish(staged, self._folder / "parts.jsonl")
        plan = plan.model_copy(update={"parts": count})
        staged.write_text(plan.model_dump_json(indent=2), encoding="utf-8")
        publish(staged, self._folder / "plan.json")
        return plan

    def pending(self, plan: Plan) -> Iterator[Part]:
        """The parts whose files are not there, in order; one at a time in memory."""
        with (self._folder / "parts.jsonl").open(encoding="utf-8") as file:
            for index, line in enumerate(file):
                if not self.path(plan, index).exists():
                    yield Part.model_validate_json(line)

    def path(self, plan: Plan, index: int) -> Path:
        """The output file of a part."""
        return self.out / f"part-{index:06}.{plan.format}"

    def staging(self, index: int) -> Path:
        """Where this process writes a part; what a killed one left there is overwritten or gone
        with :meth:`tidy`."""
        # Containers on several machines share process ids, and with Ray this folder.
        return self._folder / f"{index:06}-{socket.gethostname()}-{os.getpid()}.part"

    def finish(self, plan: Plan, index: int, staged: Path, counts: Counts) -> None:
        """Show a complete part. The counts come first: a file without them cannot be seen."""
        told = staged.with_suffix(".counts")
        told.write_text(counts.model_dump_json(), encoding="utf-8")
        publish(told, self._folder / "counts" / f"{index:06}.json")
        publish(staged, self.path(plan, index))

    def done(self, plan: Plan) -> tuple[int, Counts]:
        """How many parts are finished, and what is in them."""
        totals, parts = Counts(images=0, failed=0, rows=0), 0
        for path in sorted((self._folder / "counts").glob("*.json")):
            if not self.path(plan, int(path.stem)).exists():
                continue  # killed between the two
            one = Counts.model_validate(json.loads(path.read_bytes()))
            totals = add(totals, one)
            parts += 1
        return parts, totals

    def tidy(self) -> None:
        """Remove what killed processes left; call while locked."""
        for path in (*self._folder.glob("*.part"), *self._folder.glob("*.counts")):
            path.unlink(missing_ok=True)


def add(one: Counts, other: Counts) -> Counts:
    """Both together."""
    return Counts(
        images=one.images + other.images,
        failed=one.failed + other.failed,
        rows=one.rows + other.rows,
    )
