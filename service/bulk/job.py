"""One bulk job: planned once, gone on with until every part is there."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from model.errors import UnknownVersionError
from service.bulk.errors import BulkError, BulkUsageError
from service.bulk.inputs import absolute, parts
from service.bulk.journal import Counts, Journal, Plan, add
from service.bulk.part_scorer import BulkOptions, PartScorer, latest_version, load_model
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
    try:
        with journal.locked():
            return _run_locked(request, journal, progress, clock)
    except OSError as error:
        raise BulkError(f"stopped: {error}; the same command goes on") from error


def _run_locked(
    request: Request, journal: Journal, progress: Progress, clock: Callable[[], float]
) -> Outcome:
    journal.tidy()
    before = journal.plan()
    model, plan = _begun(request, journal) if before is None else _resumed(request, before)
    finished, total = journal.done(plan)
    if before is not None:
        progress.say(_resumption(request, plan, finished))
    added, began = Counts(images=0, failed=0, rows=0), clock()
    with progress:
        progress.begin(finished, plan.parts, total.images)
        for counts in _score(request, journal, plan, model, progress):
            added = add(added, counts)
    seconds = clock() - began
    return Outcome(plan, add(total, added), added, seconds, before is not None)


def _begun(request: Request, journal: Journal) -> tuple[ServedModel, Plan]:
    """A new job, written down."""
    model = load_model(request.model, request.version, request.options)
    plan = Plan(
        tasks=_task_names(request, model),
        version=model.version,
        digest=model.digest,
        **_settings(request),
    )
    plan = journal.begin(_measured(plan, model), parts(plan.input, plan.images_per_part))
    return model, plan


def _resumed(request: Request, before: Plan) -> tuple[ServedModel, Plan]:
    """The job that was begun here, if it is the same one."""
    before = before.model_copy(update={"input": absolute(before.input)})
    asked = _settings(request)
    if request.version is not None:
        asked["version"] = request.version
    if not request.batch_images:
        asked["batch_images"] = before.batch_images
    _check_same(request, before, asked)
    try:
        model = load_model(before.model, before.version, request.options)
    except UnknownVersionError as error:
        raise BulkUsageError(
            f"--out {request.out} holds a job of version {before.version}, which is gone: "
            f"{error.message}; begin again in another --out"
        ) from error
    _check_same(request, before, {"tasks": _task_names(request, model), "digest": model.digest})
    return model, before


def _resumption(request: Request, plan: Plan, finished: int) -> str:
    """What a person should know who gives the command once more."""
    newest = latest_version(plan.model, request.options)
    newer = f"; LATEST is {newest} now, for which take another --out"
    return (
        f"going on: {finished} of {plan.parts} parts are there, {plan.model} version "
        f"{plan.version}{newer if newest != plan.version else ''}"
    )


def _settings(request: Request) -> dict[str, Any]:
    """What a plan takes from the request as it is."""
    limits = request.options.limits
    return {
        "input": absolute(request.input),
        "model": request.model,
        "format": request.format,
        "images_per_part": request.images_per_part,
        "batch_images": request.batch_images,
        "precision": request.options.run.precision,
        "max_image_bytes": limits.max_bytes,
        "max_image_pixels": limits.max_pixels,
    }


def _task_names(request: Request, model: ServedModel) -> tuple[str, ...]:
    return tuple(model.tasks[index].name for index in select_tasks(model.tasks, request.tasks))


def _measured(plan: Plan, model: ServedModel) -> Plan:
    if plan.batch_images:
        return plan
    tasks = [model.tasks.position(name) for name in plan.tasks]
    return plan.model_copy(update={"batch_images": Scorer(model, tasks).best_batch()})


def _check_same(request: Request, before: Plan, asked: Mapping[str, Any]) -> None:
    """Raise BulkUsageError where going on would mix two jobs."""
    changed = [
        f"{name} (was {expected!r}, is {asked[name]!r})"
        for name in asked
        if asked[name] != (expected := getattr(before, name))
    ]
    if changed:
        raise BulkUsageError(
            f"--out {request.out} holds a job that differs in {', '.join(changed)}: go on with its "
            "own command, or take another --out"
        )


def _score(
    request: Request, journal: Journal, plan: Plan, model: ServedModel, progress: Progress
) -> Iterator[Counts]:
    """Score what is pending; yields what is in each part when its file is there."""
    pending = journal.pending(plan)
    if request.ray_workers:
        workers, address = request.ray_workers, request.ray_address
        listed = list(pending)
        for _, counts in score_with_ray(
            request.out, plan, request.options, listed, workers, address
        ):
            progress.part_done(counts.images)
            yield counts
        return
    scorer = PartScorer(request.out, plan, request.options, model)
    try:
        for _, counts in scorer.score(pending, progress.advance):
            progress.part_done()
            yield counts
    finally:
        scorer.close()
