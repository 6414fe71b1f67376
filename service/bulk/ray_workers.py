"""The same parts over several machines, by Ray Data: each of its actors is a part scorer.

Input, repository and output must be where every machine sees them. A part that Ray runs twice, for
a machine was lost, is written twice with the same bytes under one name.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from model.errors import TaskRouteError
from service.bulk.errors import BulkError, BulkUsageError
from service.bulk.inputs import Part, absolute
from service.bulk.journal import Counts, Plan
from service.bulk.part_scorer import BulkOptions, PartScorer

_DECODERS = 2


class RayPartScorer:
    """A part scorer as ``map_batches`` wants it: parts in, counts or an error out.

    An error that is raised here would reach the driver as a page of Ray's frames.
    """

    def __init__(self, out: str, plan: str, options: BulkOptions) -> None:
        self._made_of = Path(out), Plan.model_validate_json(plan), options
        self._scorer: PartScorer | None = None

    def __call__(self, batch: dict[str, np.ndarray[Any, Any]]) -> dict[str, list[Any]]:
        parts = [Part.model_validate_json(text) for text in batch["part"]]
        try:
            self._scorer = self._scorer or PartScorer(*self._made_of)
            done = list(self._scorer.score(parts))
        except TaskRouteError as error:
            return {"index": [part.index for part in parts], "counts": [""] * len(parts),
                    "error": [str(error)] * len(parts)}  # fmt: skip
        return {"index": [index for index, _ in done],
                "counts": [counts.model_dump_json() for _, counts in done],
                "error": [""] * len(done)}  # fmt: skip


def score_with_ray(
    out: Path, plan: Plan, options: BulkOptions, parts: Sequence[Part], workers: int, address: str
) -> Iterator[tuple[int, Counts]]:
    """Score ``parts`` by ``workers`` actors; yields in the order in which they are finished.

    Args:
        options: of each actor; the number of threads is 1 where it is left open.
        address: of a running cluster (``auto``: the one that this machine is part of); empty: one
            is started here, for this job.

    Raises:
        BulkUsageError: Ray is not installed, or no cluster is there.
        BulkError: an actor stopped.
    """
    if not parts:
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # else it reports to its makers
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise BulkUsageError("--ray-workers needs Ray: install the extra ray") from error
    options = _of_each(options)
    with _cluster(ray, address, workers * options.run.workers):
        try:
            yield from _scored(ray, out, plan, options, parts, workers)
        except ray.exceptions.RayError as error:
            raise BulkError(
                f"stopped: {_last_line(error)} (Ray's log has the rest); the same command goes on"
            ) from error


def _of_each(options: BulkOptions) -> BulkOptions:
    """Several actors may share a machine, so that none takes all of its processors."""
    return replace(
        options,
        repository=absolute(options.repository),
        run=replace(options.run, workers=options.run.workers or 1),
        decode_threads=options.decode_threads or _DECODERS,
    )


@contextmanager
def _cluster(ray: Any, address: str, cpus: int) -> Iterator[None]:
    """Connected to the cluster; one that is started here has what the actors ask for."""
    here = {} if address else {"num_cpus": cpus + 1, "include_dashboard": False}
    with _own_sigterm():
        try:
            ray.init(address=address or None, log_to_driver=False, **here)
        except ConnectionError as error:
            raise BulkUsageError(f"--ray-address {address}: {error}") from error
    try:
        yield
    finally:
        ray.shutdown()


@contextmanager
def _own_sigterm() -> Iterator[None]:
    """Ray takes the signal for itself; a job is to end as it does without Ray."""
    handler = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, handler)


def _scored(
    ray: Any, out: Path, plan: Plan, options: BulkOptions, parts: Sequence[Part], workers: int
) -> Iterator[tuple[int, Counts]]:
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False  # the job has its own
    listed = ray.data.from_items(
        [{"part": part.model_dump_json()} for part in parts], override_num_blocks=len(parts)
    )
    done = listed.map_batches(
        RayPartScorer,
        fn_constructor_args=(str(out.resolve()), plan.model_dump_json(), options),
        batch_size=1,
        compute=ray.data.ActorPoolStrategy(size=min(workers, len(parts))),
        num_cpus=options.run.workers,
        num_gpus=1 if options.run.device.startswith("cuda") else 0,
    )
    for row in done.iter_rows():
        if row["error"]:
            raise BulkError(row["error"])
        yield int(row["index"]), Counts.model_validate_json(row["counts"])


def _last_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[-1]
