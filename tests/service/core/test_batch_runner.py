"""Details of running a batch that the scheduler's rules do not name."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from model.rows import RowBatch
from service.core.batch_runner import EngineBrokenError, is_out_of_memory
from service.core.errors import ForwardError
from tests.service.fakes import Bench


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (MemoryError(), True),
        (torch.OutOfMemoryError("CUDA out of memory"), True),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"), True),
        (RuntimeError("shape mismatch"), False),
        (ValueError("can't allocate memory"), False),
    ],
)
def test_what_counts_as_out_of_memory(error: Exception, expected: bool) -> None:
    assert is_out_of_memory(error) is expected


def test_a_strategy_that_answers_the_wrong_shape_is_a_broken_engine() -> None:
    bench = Bench()

    def wrong_shape(batch: RowBatch, logits: Tensor) -> None:
        logits.resize_(len(batch), 1)

    bench.forward.fault = wrong_shape
    bench.ask()
    with pytest.raises(EngineBrokenError, match="expected"):
        bench.step()


def test_bisection_skips_the_rows_of_jobs_that_are_over_meanwhile() -> None:
    bench = Bench()
    bad, gone = bench.ask(values=(66,)), bench.ask(values=range(4))

    def fault(batch: object, logits: object) -> None:
        values = bench.forward.batches[-1].images[:, 0, 0, 0]
        if (values == 66).any():
            bench.scheduler.withdraw(gone, "cancelled")
            raise ValueError("guilty")

    bench.forward.fault = fault
    bench.run_all()
    assert isinstance(bad.errors[0], ForwardError)
    assert bench.done == [bad]
    run = [batch.images[:, 0, 0, 0].tolist() for batch in bench.forward.batches]
    assert run == [[66, 0, 1, 2, 3], [127], [66], [127]]


def test_the_error_of_a_row_names_its_task_and_no_traceback() -> None:
    bench = Bench()
    bad = bench.ask(tasks=(1,), values=(66,))

    def fault(batch: object, logits: object) -> None:
        if (bench.forward.batches[-1].images == 66).any():
            raise ValueError("secret internals")

    bench.forward.fault = fault
    bench.run_all()
    assert bad.errors[0].details == {"task": "t1"}
    assert "secret" not in bad.errors[0].message
