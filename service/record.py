"""What is known about one request while it is handled: the source of its log line and its spans."""

from __future__ import annotations

import random
import re
from dataclasses import dataclass

from service.core.prediction import Timing

# Goes into logs and headers: nothing that could break a line, nothing endless.
_DECENT = re.compile(r"[A-Za-z0-9._:/+=-]{1,128}")


def decent_id(given: str) -> str:
    """The id that a caller gave its request, if it is a decent one; else a new one."""
    # Unique, not secret: a system call for randomness on every request would buy nothing.
    return given if _DECENT.fullmatch(given) else f"{random.getrandbits(128):032x}"


@dataclass(slots=True)
class RequestRecord:
    """Filled in by whoever knows; read when the request is over."""

    request_id: str
    started: float  # clock seconds
    images: int | None = None
    tasks: int | None = None
    priority: str | None = None  # if not the usual level
    timing: Timing | None = None  # of a prediction
    bundle: str | None = None  # digest of the model that answered
    code: str | None = None  # of the error, if any
    key: str | None = None  # id of the API key, which is no secret
    trace_id: str | None = None  # of the caller's trace, or of one begun here
    span_id: str | None = None  # of this request in it

    @property
    def rows(self) -> int | None:
        """Images x tasks, once both are known."""
        if self.images is None or self.tasks is None:
            return None
        return self.images * self.tasks

    def fields(self) -> dict[str, object]:
        """The protocol-free part of a log line; what is not known is left out."""
        timing = self.timing
        found: dict[str, object | None] = {
            "request_id": self.request_id,
            "code": self.code,
            "images": self.images,
            "tasks": self.tasks,
            "rows": self.rows,
            "priority": self.priority,
            "decode_ms": timing and round(timing.decode * 1000, 2),
            "queue_ms": timing and round(timing.queue * 1000, 2),
            "compute_ms": timing and round(timing.compute * 1000, 2),
            "bundle": self.bundle,
            "key": self.key,
            "trace_id": self.trace_id,
            "span_id": self.span_id,
        }
        return {name: value for name, value in found.items() if value is not None}
