"""The number of threads: what is asked for, else no more than the container may use."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from model.cpu import CpuBudget
from training import threads


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("asked", "allowed", "expected"),
    [(3, 1, 3), (0, 2, 2), (0, 64, 4)],
    ids=["as asked for", "the quota", "PyTorch's own"],
)
def test_threads(monkeypatch: pytest.MonkeyPatch, asked: int, allowed: int, expected: int) -> None:
    torch.set_num_threads(4)
    monkeypatch.setattr(threads, "cpu_budget", lambda: CpuBudget(allowed, "cgroup v2", None))
    threads.use_threads(asked)
    assert torch.get_num_threads() == expected
