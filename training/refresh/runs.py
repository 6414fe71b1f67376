"""Folders of refreshes that run or were interrupted: several at once, and none lost or mixed up.

    NAME/.training/refresh-RUN/plan.json           what the run is of; written first
    NAME/.training/refresh-RUN/state.safetensors   training.state.StateFile
    NAME/.training/refresh-RUN/lock                held as long as its process lives
    NAME/.training/refresh.lock                    held while folders are made, listed or removed

The kernel drops the lock of a process that dies, however it dies.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from training.config import RESUMABLE_CHANGES
from training.errors import StateError
from training.refresh.report import VersionName
from training.state import StateFile

_PREFIX = "refresh-"
_PLAN = "plan.json"


class Plan(BaseModel):
    """What a run is of."""

    model_config = ConfigDict(frozen=True)

    source: str
    data_digest: str
    parent: VersionName
    """What its weights begin with."""
    settings: dict[str, Any]

    def same_work(self, other: Plan) -> bool:
        """Whether a run of ``other`` may go on as a run of this plan.

        Its weights may begin with another version: the gate compares with what is latest then.
        """
        return self.data_digest == other.data_digest and _decisive(self.settings) == _decisive(
            other.settings
        )


@dataclass(frozen=True)
class Run:
    """A run of this process."""

    name: str
    folder: Path
    plan: Plan
    resumes: bool = False
    """It goes on with a state that is in the folder."""
    version: int | None = None
    """It had published this version when it was interrupted: nothing is left to do."""


Published = Callable[[str, Plan], int | None]
"""The version that the run of this name published, if it did."""


@contextmanager
def entered(
    root: Path, plan: Plan, published: Published, *, resume: bool, restart: bool
) -> Iterator[tuple[Run, int]]:
    """A run in a folder of its own, which is this process's until the block ends.

    The folder is left where the block raises; :func:`finished` removes it.

    Args:
        root: the model's ``.training`` directory.
        resume: go on with an interrupted run of the same plan, if there is one; others are thrown
            away.
        restart: throw away all that were interrupted.

    Yields:
        The run, and how many interrupted ones were thrown away.

    Raises:
        StateError: one was interrupted, and neither ``resume`` nor ``restart`` says what to do.
    """
    with _locked(root / "refresh.lock"):
        found, dropped = None, 0
        for name, folder, held in _interrupted(root):
            other = _read_plan(folder)
            saved = StateFile(folder).exists()
            if saved and not (resume or restart):
                os.close(held)
                raise StateError(
                    f"{folder} holds an interrupted refresh: --resume goes on with it if it is of "
                    "the same data and settings, --restart throws it away"
                )
            if resume and saved and found is None and other is not None and plan.same_work(other):
                version = published(name, other)
                found = (Run(name, folder, other, resumes=True, version=version), held)
            else:
                shutil.rmtree(folder, ignore_errors=True)
                os.close(held)
                dropped += saved
        run, held = found or _new(root, plan)
    try:
        yield run, dropped
    finally:
        os.close(held)


def finished(run: Run) -> None:
    """Forget the run: it is published or refused."""
    shutil.rmtree(run.folder, ignore_errors=True)


def _new(root: Path, plan: Plan) -> tuple[Run, int]:
    name = uuid.uuid4().hex[:12]
    folder = root / f"{_PREFIX}{name}"
    folder.mkdir()
    held = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o644)
    fcntl.flock(held, fcntl.LOCK_EX)
    (folder / _PLAN).write_text(plan.model_dump_json(indent=2), encoding="utf-8")
    return Run(name, folder, plan), held


def _interrupted(root: Path) -> Iterator[tuple[str, Path, int]]:
    """Name and folder of every run whose process is gone, the newest first, with its lock held."""
    folders = sorted(root.glob(f"{_PREFIX}*/"), key=_changed, reverse=True)
    for folder in folders:
        held = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:  # its process lives
            os.close(held)
            continue
        yield folder.name.removeprefix(_PREFIX), folder, held


def _changed(folder: Path) -> float:
    try:
        return folder.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def _read_plan(folder: Path) -> Plan | None:
    try:
        return Plan.model_validate_json((folder / _PLAN).read_bytes())
    except (OSError, ValidationError):  # killed before it was written
        return None


def _decisive(settings: dict[str, Any]) -> dict[str, Any]:
    skipped = RESUMABLE_CHANGES | {"init_from"}
    return {name: value for name, value in settings.items() if name not in skipped}


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("w")
    except OSError as error:
        raise StateError(f"{path}: cannot be written: {error.strerror or error}") from error
    with file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
