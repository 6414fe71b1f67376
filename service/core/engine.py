"""The engine: the one thread that runs the model."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from service.core.batch_runner import BatchRunner, EngineBrokenError
from service.core.heartbeat import Heartbeat
from service.core.job import Slice
from service.core.telemetry import BatchReport

logger = logging.getLogger(__name__)

# An idle engine wakes up this often to show that it lives.
HEARTBEAT_S = 1.0


@dataclass(frozen=True)
class Run:
    """Run this batch."""

    slices: Sequence[Slice]
    release: str


@dataclass(frozen=True)
class Call:
    """Run this function between two batches, on the thread that owns the model."""

    function: Callable[[], Any]
    future: Future[Any]


@dataclass(frozen=True)
class Sleep:
    """Nothing to run for so long, unless something changes."""

    seconds: float


@dataclass(frozen=True)
class Stop:
    """Closed: end the thread."""


Action = Run | Call | Sleep | Stop


class Source(Protocol):
    """Where the engine gets its work. Called on the engine thread."""

    def next_action(self, now: float) -> Action: ...

    def wait(self, seconds: float) -> None:
        """Block until something changes, at most so long."""
        ...

    def complete(self, slices: Sequence[Slice], report: BatchReport) -> None:
        """The batch has run; whoever waits for it is told by :meth:`hand_over`."""
        ...

    def hand_over(self) -> None:
        """Tell of what is complete, if anybody has not been told."""
        ...

    def engine_lost(self, reason: str) -> None:
        """The thread is ending although it was not told to."""
        ...


class Engine:
    """Takes batches from a source, one after the other, on a thread of its own."""

    def __init__(self, source: Source, runner: BatchRunner, heartbeat: Heartbeat) -> None:
        self._source = source
        self._runner = runner
        self._thread: threading.Thread | None = None
        self.heartbeat = heartbeat
        self.busy_seconds = 0.0

    def start(self) -> None:
        self.heartbeat.beat()
        # A daemon: a hung model must not keep the process from ending.
        self._thread = threading.Thread(target=self._loop, name="engine", daemon=True)
        self._thread.start()

    def join(self, timeout_s: float) -> bool:
        """Wait for the thread to end; False if it did not."""
        if self._thread is None:
            return True
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    @property
    def alive(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def step(self) -> Action:
        """Ask for one action and carry it out, without waiting: the body of the thread's loop."""
        action = self._source.next_action(self.heartbeat.beat())
        if isinstance(action, Run):
            # The batch before is handed over in the middle of this one: whoever renders its answers
            # needs the interpreter, and so does this thread to put a batch together.
            try:
                report = self._runner.run(action.slices, action.release, self._source.hand_over)
            finally:
                self._source.hand_over()
            self.busy_seconds += report.seconds
            self._source.complete(action.slices, report)
            return action
        self._source.hand_over()
        if isinstance(action, Call):
            self.heartbeat.in_call = True
            _carry_out(action)
            self.heartbeat.beat()
            self.heartbeat.in_call = False
        return action

    def _loop(self) -> None:
        try:
            with torch.inference_mode():  # thread-local: has to be entered here
                while not isinstance(action := self.step(), Stop):
                    if isinstance(action, Sleep):
                        self._source.wait(action.seconds)
        except EngineBrokenError as error:
            logger.critical("the engine is broken and stops: %s", error)
            self._source.engine_lost(str(error))
        except BaseException as error:
            logger.critical("the engine thread died", exc_info=True)
            self._source.engine_lost(f"the engine thread died of {error!r}")


def _carry_out(call: Call) -> None:
    if not call.future.set_running_or_notify_cancel():
        return
    try:
        result = call.function()
    except Exception as error:  # belongs to whoever asked
        call.future.set_exception(error)
    else:
        call.future.set_result(result)
