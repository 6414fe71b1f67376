"""The scheduler's bounds, in seconds, rows and bytes."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class SchedulerLimits:
    """Settings of the same names say what each is for; see ``service.settings``."""

    max_batch_rows: int = 256
    max_batch_delay_s: float = 0.002
    max_batch_duration_s: float = 0.2
    max_request_share: float = 0.5
    ageing_s: float = 2.0
    bulk_interval_s: float = 2.0
    max_queue_rows: int = 8192
    max_queue_bytes: int = 256 * 2**20
    max_queue_delay_s: float = 1.0
    engine_stall_s: float = 30.0
