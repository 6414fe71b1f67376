"""Which rows of a batch went well."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from service.core.decisions import Indices
from service.core.job import Slice


def outcomes(slices: Sequence[Slice]) -> dict[str, Indices]:
    """Task index of each row of ``slices``, by outcome: ok or error; no outcome is empty."""
    well: list[Indices] = []
    badly: list[Indices] = []
    for job, start, stop in slices:
        tasks = job.row_tasks(start, stop)
        bad = [row - start for row in job.errors if start <= row < stop]
        well.append(np.delete(tasks, bad) if bad else tasks)
        badly.append(tasks[bad])
    found = {"ok": well, "error": badly}
    joined = {name: np.concatenate(parts) for name, parts in found.items() if parts}
    return {name: tasks for name, tasks in joined.items() if len(tasks)}
