"""What could not be run for real on this machine: the last lines of `make deploy-test`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

NOWHERE = (  # no package that Debian, PyPI or npm has
    "a kubelet: manifests are checked against Kubernetes' schemas and the application, not applied",
    "Grafana: its files are checked and each query is sent to a live Prometheus",
    "a GPU: TASKROUTE_DEVICE=cuda and the CUDA flavour of the images",
)
"""What no test here needs, because so few machines have it."""


def lacking(skipped: Iterable[str]) -> Iterator[str]:
    """A line for each part: those of `NOWHERE`, then why tests were skipped, each reason once.

    Args:
        skipped: the reason of each test that was skipped.
    """
    yield from NOWHERE
    for reason, count in Counter(skipped).items():
        yield f"{reason} ({count} test{'s' if count > 1 else ''} skipped)"
