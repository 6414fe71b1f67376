"""The same parts over several machines, by Ray Data: each of its actors is a part scorer.

Input, repository and output must be where every machine sees them. A part that Ray runs twice, for
a machine was lost, is written twice with the same bytes under one name.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from service.bulk.errors import BulkUsageError
from service.bulk.inputs import Part
from service.bulk.journal import Counts, Plan
from service.bulk.part_scorer import BulkOptions, PartScorer


class RayPartScorer:
    """A part scorer as ``map_batches`` wants it: parts in, counts out."""

    def __init__(self, out: str, plan: str, options: BulkOptions) -> None:
        self._scorer = PartScorer(Path(out), Plan.model_validate_json(plan), options)

    def __call__(self, batch: dict[str, np.ndarray[Any, Any]]) -> dict[str, list[Any]]:
        parts = [Part.model_validate_json(text) for text in batch["part"]]
        done = list(self._scorer.score(parts))
        return {
            "index": [index for index, _ in done],
            "counts": [counts.model_dump_json() for _, counts in done],
        }


def score_with_ray(
    out: Path, plan: Plan, options: BulkOptions, parts: Sequence[Part], workers: int, address: str
) -> Iterator[tuple[int, Counts]]:
    """Score ``parts`` by ``workers`` actors; yields in the order in which they are finished.

    Args:
        address: of a running cluster (``auto``: the one that this machine is part of); empty: one
            is started here, for this job.

    Raises:
        BulkUsageError: Ray is not installed, or no cluster is there.
    """
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise BulkUsageError("--ray-workers needs Ray: install the extra ray") from error
    try:
        ray.init(address=address or None, log_to_driver=False, include_dashboard=False)
    except ConnectionError as error:
        raise BulkUsageError(f"--ray-address {address}: {error}") from error
    try:
        yield from _scored(ray, out, plan, options, parts, workers)
    finally:
        ray.shutdown()


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
        num_cpus=options.run.workers or 1,
        num_gpus=1 if options.run.device.startswith("cuda") else 0,
    )
    for row in done.iter_rows():
        yield int(row["index"]), Counts.model_validate(json.loads(row["counts"]))
