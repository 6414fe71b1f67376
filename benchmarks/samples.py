"""What a load run saw, and the figures drawn from it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

SHED = 429


@dataclass(slots=True)
class Sample:
    """One request's fate. Times in seconds from the start of the run."""

    intended: float
    sent: float
    done: float
    rows: int
    status: int = 0  # 0: no answer
    error: str | None = None
    retry_after: str | None = None

    @property
    def ok(self) -> bool:
        return self.status == 200


@dataclass
class Run:
    """What a run saw."""

    samples: list[Sample] = field(default_factory=list)
    answers: list[tuple[Any, bytes]] = field(default_factory=list)  # (key, body) of kept answers
    seconds: float = 0.0  # length of the load, without the wait for the last answers
    started_at: float = 0.0  # time.monotonic() of the run's zero


@dataclass(frozen=True)
class Summary:
    """Figures of one run. Latencies in milliseconds, of answered (200) requests only."""

    requests: int
    ok: int
    shed: int  # 429
    shed_share: float
    errors: dict[str, int]  # everything that is neither, by status or kind
    offered_rows_per_s: float
    rows_per_s: float  # answered
    p50_ms: float | None
    p95_ms: float | None
    p99_ms: float | None
    max_ms: float | None
    send_delay_p99_ms: float | None  # intended arrival to bytes written: the generator's own lag

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def capacity_rows_per_s(run: Run, warmup_s: float) -> float:
    """Answered rows per second of a closed loop, without its start and its end.

    Batching servers answer in bursts, so the window runs from the last answer of the warm-up to
    the last answer before the load ended; only that makes whole bursts count whole.
    """
    done = sorted((sample.done, sample.rows) for sample in run.samples if sample.ok)
    done = [(time, rows) for time, rows in done if time <= run.seconds]
    warm = [time for time, _ in done if time <= warmup_s]
    start = warm[-1] if warm else (done[0][0] if done else 0.0)
    counted = [(time, rows) for time, rows in done if time > start]
    if not counted:
        return 0.0
    return sum(rows for _, rows in counted) / (counted[-1][0] - start)


def summarise(run: Run) -> Summary:
    """Figures of an open-loop or closed-loop run."""
    samples = run.samples
    ok = [sample for sample in samples if sample.ok]
    shed = sum(sample.status == SHED for sample in samples)
    errors = Counter(
        sample.error or str(sample.status)
        for sample in samples
        if not sample.ok and sample.status != SHED
    )
    latencies = np.array([sample.done - sample.intended for sample in ok]) * 1000
    delays = np.array([sample.sent - sample.intended for sample in samples]) * 1000
    span = max([run.seconds, *(sample.done for sample in ok)]) if samples else 0.0
    return Summary(
        requests=len(samples),
        ok=len(ok),
        shed=shed,
        shed_share=shed / len(samples) if samples else 0.0,
        errors=dict(errors),
        offered_rows_per_s=_rate(samples, run.seconds),
        rows_per_s=_rate(ok, span),
        p50_ms=_percentile(latencies, 50),
        p95_ms=_percentile(latencies, 95),
        p99_ms=_percentile(latencies, 99),
        max_ms=_percentile(latencies, 100),
        send_delay_p99_ms=_percentile(delays, 99),
    )


def _rate(samples: Sequence[Sample], seconds: float) -> float:
    return sum(sample.rows for sample in samples) / seconds if seconds > 0 else 0.0


def _percentile(values: np.ndarray[Any, Any], percent: float) -> float | None:
    return round(float(np.percentile(values, percent)), 3) if len(values) else None
