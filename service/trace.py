"""W3C Trace Context: the header ``traceparent``."""

from __future__ import annotations

import random
import re
from typing import NamedTuple

TRACEPARENT = "traceparent"
_FORM = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")


class Trace(NamedTuple):
    """This request's place in its caller's trace."""

    trace_id: str  # 32 hexadecimal digits
    span_id: str  # 16, of this request
    flags: str  # 2, as they came

    @property
    def header(self) -> str:
        return f"00-{self.trace_id}-{self.span_id}-{self.flags}"


def continue_trace(header: str) -> Trace | None:
    """A span of our own in the caller's trace; None without a valid header (W3C, section 3.2)."""
    found = _FORM.fullmatch(header.strip())
    if found is None:
        return None
    version, trace_id, parent_id, flags, more = found.groups()
    # Only versions to come may have more fields; ff and ids of zeros are invalid in all of them.
    if (
        version == "ff"
        or (version == "00" and more)
        or not (int(trace_id, 16) * int(parent_id, 16))
    ):
        return None
    return Trace(trace_id, f"{random.getrandbits(64) or 1:016x}", flags)
