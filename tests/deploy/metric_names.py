"""The time series that the service exports, and those that a PromQL expression asks for."""

from __future__ import annotations

import re

from prometheus_client.parser import text_string_to_metric_families

from service.metrics import FAMILIES, PREFIX, Metrics

# A name of ours, as metric or as recorded series ("task:taskroute_positive:ratio_rate1h").
_NAME = re.compile(
    r"(?<![\":\w])((?:[a-z_]+:)?taskroute[a-z0-9_:]*|process_[a-z_]+|kube_[a-z_]+)(\{[^}]*\})?"
)
_MATCHER = re.compile(r"(\w+)\s*(=~|!~|!=|=)\s*\"")
_ALWAYS = {"job", "instance"}  # added by the scrape


def exported() -> dict[str, set[str]]:
    """Every series of ours, with its labels."""
    found: dict[str, set[str]] = {}
    for family in FAMILIES:
        suffixes = ["_bucket", "_sum", "_count"] if family.kind == "histogram" else [""]
        for suffix in suffixes:
            extra = {"le"} if suffix == "_bucket" else set()
            found[PREFIX + family.name + suffix] = {*family.labels, *extra}
    return found


def process_series() -> set[str]:
    """Series about the process itself, which are read from the system when scraped."""
    text = Metrics().render().decode()
    return {
        sample.name
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name.startswith("process_")
    }


def asked(expression: str) -> list[tuple[str, set[str]]]:
    """Each series of ``expression`` with the labels it is matched by."""
    found = []
    for name, matchers in _NAME.findall(expression):
        labels = {label for label, _ in _MATCHER.findall(matchers)} - _ALWAYS
        found.append((name, labels))
    return found
