"""How a shadow version compares with the one that answers."""

from __future__ import annotations

from service.core.comparison import Comparison
from service.core.shadow import ShadowTotals
from service.metrics.declared import Declared

_OUTCOMES = ("compared", "failed", "incomparable", "dropped")
Version = tuple[str, str]  # the model's name, the version's number


class ShadowMetrics:
    """Series by shadow version."""

    def __init__(self, declared: Declared) -> None:
        self._rows = declared.counter("shadow_rows_total")
        self._flips = declared.counter("shadow_label_flips_total")
        self._differences = declared.histogram("shadow_probability_difference")
        self._largest = declared.gauge("shadow_probability_difference_max")

    def compared(self, version: Version, found: Comparison) -> None:
        """Rows were compared, or could not be."""
        counts = (len(found.differences), found.failed, found.incomparable, found.dropped)
        for outcome, count in zip(_OUTCOMES, counts, strict=True):
            self._rows.labels(*version, outcome).inc(count)
        self._flips.labels(*version).inc(found.flips.total())
        differences = self._differences.labels(*version)
        for difference in found.differences.tolist():
            differences.observe(difference)

    def show(self, totals: dict[Version, ShadowTotals]) -> None:
        """What is known of the present shadows."""
        self._largest.clear()
        for version, found in totals.items():
            self._largest.labels(*version).set(found.max_difference)

    def forget(self, version: Version) -> None:
        """It has left memory."""
        for outcome in _OUTCOMES:
            self._rows.remove(*version, outcome)
        self._flips.remove(*version)
        self._differences.remove(*version)
