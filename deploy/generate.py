"""Writes the files of deployment that repeat what is said elsewhere; a test keeps them equal.

    python -m deploy.generate

- ``kubernetes/shared/settings.env``: every setting of the service, with what a container needs;
- ``monitoring/prometheusrule.yaml``: ``monitoring/rules.yml`` for the Prometheus operator.
"""

from __future__ import annotations

import sys
import textwrap
from pathlib import Path

import yaml

from service.settings import PREFIX, Settings

ROOT = Path(__file__).resolve().parent
SETTINGS_FILE = ROOT / "kubernetes/shared/settings.env"
RULES_FILE = ROOT / "monitoring/rules.yml"
PROMETHEUS_RULE_FILE = ROOT / "monitoring/prometheusrule.yaml"

# Where a container wants something else than a shell does.
CONTAINER = {
    "repository": "/models",
    "model": "fashion",
    "host": "0.0.0.0",  # noqa: S104  # the network policy says who reaches it
    # On a volume of 1 GiB; a repository on an object store only.
    "bundle_cache_bytes": 768 * 2**20,
    # Together with the weights within the 2 GiB that the Deployment allows.
    "subnet_budget_bytes": 512 * 2**20,
    "max_queue_bytes": 256 * 2**20,
    "max_inflight_body_bytes": 256 * 10**6,
}


def settings_env() -> str:
    """Every setting as ``TASKROUTE_NAME=value`` below its description; unset ones as comments."""
    lines = [
        "# Written by `python -m deploy.generate`: all settings of the service, for a container."
    ]
    for name, field in Settings.model_fields.items():
        value = CONTAINER.get(name, None if field.is_required() else field.default)
        lines += ["", *textwrap.wrap(field.description or "", 98, initial_indent="# ",
                                     subsequent_indent="# ")]  # fmt: skip
        variable = PREFIX + name.upper()
        lines.append(f"# {variable}=" if value is None else f"{variable}={_text(value)}")
    return "\n".join(lines) + "\n"


def _text(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)


def prometheus_rule() -> str:
    """The rules as a custom resource of the Prometheus operator."""
    labels = {"app.kubernetes.io/name": "taskroute", "app.kubernetes.io/part-of": "taskroute"}
    document = {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": "taskroute", "labels": labels},
        "spec": yaml.safe_load(RULES_FILE.read_text(encoding="utf-8")),
    }
    head = "# Written by `python -m deploy.generate` from rules.yml.\n"
    return head + yaml.safe_dump(document, sort_keys=False, width=110)


def main() -> int:
    for path, text in ((SETTINGS_FILE, settings_env()), (PROMETHEUS_RULE_FILE, prometheus_rule())):
        path.write_text(text, encoding="utf-8")
        print(f"wrote {path.relative_to(ROOT.parent)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
