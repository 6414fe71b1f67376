"""One bulk job: planned once, gone on with until every part is there."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from service.bulk.errors import BulkUsageError
from service.bulk.inputs import parts
from service.bulk.journal import Counts, Journal, Plan, add
from service.bulk.part_scorer import BulkOptions, PartScorer, load_model
from service.bulk.progress import Progress
from service.bulk.ray_workers import score_with_ray
from service.bulk.scorer import Scorer
from service.bulk.writers import Format, check_format
from service.core.selection import select_tasks
from service.core.served import ServedModel


@dataclass(frozen=True)
class Request:
    """What to score, with what, and where the answers go."""

    input: str
    out: Path
    model: str
    options: BulkOptions
    version: int | None = None
    tasks: tuple[str, ...] | None = None
    format: Format = "parquet"
    images_per_part: int = 4096
    batch_images: int = 0
    """0: measured when the job begins."""
    ray_workers: int = 0
    ray_address: str = ""


@dataclass(frozen=True)
class Outcome:
    """What is in the output now, and what this process added to it."""

    plan: Plan
    total: Counts
    added: Counts
    seconds: float
    """Of scoring, without loading and measuring."""
    resumed: bool = field(default=False)


def run_job(
    request: Request, progress: Progress, clock: Callable[[], float] = time.perf_counter
) -> Outcome:
    """Score what is not scored yet.

    Raises:
        BulkUsageError: wrong usage, or a job of another kind was begun in the same folder.
        TaskRouteError: it stopped; what is finished stays, and the same request goes on.
    """
    check_format(request.format)
    journal = Journal(request.out)
    with journal.locked():
        journal.tidy()
        before = journal.plan()
        version = request.version if before is None else before.version
        model = load_model(request.model, version, request.options)
        plan = _planned(request, model)
        if before is None:
            plan = journal.begin(_measured(plan, model), parts(plan.input, plan.images_per_part))
        else:
            _check_same(request, plan, before)
            plan = before
        finished, total = journal.done(plan)
        added, began = Counts(images=0, failed=0, rows=0), clock()
        with progress:
            progress.begin(finished, plan.parts, total.images)
            for _, counts in _score(request, journal, plan, model, progress):
                added = add(added, counts)
                progress.part_done()
        seconds = clock() - began
        return Outcome(plan, add(total, added), added, seconds, before is not None)


def _planned(request: Request, model: ServedModel) -> Plan:
    chosen = select_tasks(model.tasks, request.tasks)
    return Plan(
        input=request.input,
        tasks=tuple(model.tasks[index].name for index in chosen),
        model=model.name,
        version=model.version,
        digest=model.digest,
        format=request.format,
        images_per_part=request.images_per_part,
        batch_images=request.batch_images,
    )


def _measured(plan: Plan, model: ServedModel) -> Plan:
    if plan.batch_images:
        return plan
    tasks = [model.tasks.position(name) for name in plan.tasks]
    return plan.model_copy(update={"batch_images": Scorer(model, tasks).best_batch()})


def _check_same(request: Request, wanted: Plan, before: Plan) -> None:
    """Raise BulkUsageError where going on would mix two jobs."""
    expected = before.model_dump(exclude={"parts"})
    asked: dict[str, Any] = wanted.model_dump(exclude={"parts"})
    if request.version is not None:
        asked["version"] = request.version
    if not request.batch_images:
        asked["batch_images"] = before.batch_images
    changed = [
        f"{name} (was {expected[name]!r}, is {asked[name]!r})"
        for name in expected
        if asked[name] != expected[name]
    ]
    if changed:
        raise BulkUsageError(
            f"--out {request.out} holds a job that differs in {', '.join(changed)}: go on with its "
            "own command, or take another --out"
        )


def _score(
    request: Request, journal: Journal, plan: Plan, model: ServedModel, progress: Progress
) -> Iterator[tuple[int, Counts]]:
    pending = journal.pending(plan)
    if request.ray_workers:
        listed = list(pending)
        if listed:
            yield from score_with_ray(
                request.out, plan, request.options, listed, request.ray_workers, request.ray_address
            )
        return
    scorer = PartScorer(request.out, plan, request.options, model)
    try:
        yield from scorer.score(pending, progress.advance)
    finally:
        scorer.close()
