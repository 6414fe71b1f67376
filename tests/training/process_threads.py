"""Processes of a run as threads of this one: quick, and without a network."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import torch
from torch import Tensor

from training.distributed import Processes
from training.errors import ProcessLostError

T = TypeVar("T")


class Meeting:
    """Where threads exchange values: everybody brings one and gets all of them."""

    def __init__(self, count: int) -> None:
        self.barrier = threading.Barrier(count)
        self.values: list[Any] = [None] * count

    def exchange(self, rank: int, value: Any) -> list[Any]:
        self.values[rank] = value
        self.barrier.wait(timeout=60)
        values = list(self.values)
        self.barrier.wait(timeout=60)
        return values


class ThreadProcesses(Processes):
    def __init__(self, rank: int, meeting: Meeting) -> None:
        self.rank, self.count = rank, len(meeting.values)
        self._meeting = meeting

    def _exchange(self, value: Any) -> list[Any]:
        try:
            return self._meeting.exchange(self.rank, value)
        except threading.BrokenBarrierError as error:
            raise ProcessLostError("lost the others") from error

    def add_up(self, tensor: Tensor) -> Tensor:
        return torch.stack(self._exchange(tensor.clone())).sum(dim=0)

    def gather(self, tensor: Tensor) -> Tensor:
        return torch.stack(self._exchange(tensor.clone()))

    def from_main(self, make: Callable[[], T]) -> T:
        value: T = self._exchange(make() if self.main else None)[0]
        return value

    def copy_from_main(self, tensor: Tensor) -> None:
        value = self._exchange(tensor.clone())[0]
        with torch.no_grad():
            tensor.copy_(value)


def together(count: int, work: Callable[[Processes], T]) -> list[T]:
    """Run ``work`` as each of ``count`` processes; the first error, if any, ends them all."""
    meeting = Meeting(count)

    def one(rank: int) -> T:
        try:
            return work(ThreadProcesses(rank, meeting))
        except BaseException:
            meeting.barrier.abort()
            raise

    with ThreadPoolExecutor(count) as pool:
        futures = [pool.submit(one, rank) for rank in range(count)]
    errors = [error for future in futures if (error := future.exception()) is not None]
    for error in errors:
        if not isinstance(error, ProcessLostError):
            raise error
    return [future.result() for future in futures]
