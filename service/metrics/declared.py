"""The families of the table, made in a registry of the app's own."""

from __future__ import annotations

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)

from service.metrics.families import FAMILIES, PREFIX


class Declared:
    """Makes families by their names; each once, by who counts it."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._families = {family.name: family for family in FAMILIES}
        ProcessCollector(registry=self._registry)
        PlatformCollector(registry=self._registry)

    def counter(self, name: str) -> Counter:
        family = self._families[name]
        return Counter(PREFIX + name, family.help, family.labels, registry=self._registry)

    def gauge(self, name: str) -> Gauge:
        family = self._families[name]
        return Gauge(PREFIX + name, family.help, family.labels, registry=self._registry)

    def histogram(self, name: str) -> Histogram:
        family = self._families[name]
        return Histogram(
            PREFIX + name,
            family.help,
            family.labels,
            registry=self._registry,
            buckets=family.buckets,
        )

    def render(self) -> bytes:
        """The text format; takes milliseconds for hundreds of tasks: not on the event loop."""
        return generate_latest(self._registry)
