"""Prometheus metrics: what is exported (``families``), and what counts it (``Metrics``)."""

from service.metrics.families import FAMILIES, PREFIX
from service.metrics.metrics import Metrics

__all__ = ["FAMILIES", "PREFIX", "Metrics"]
