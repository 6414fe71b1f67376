"""Starts without routes, each trained once for all cells that differ in their routes only.

Where routes come from evidence, a run is the same whatever they will be until they are chosen. Its
state at that moment is kept; a further cell begins there, with the time it took on its account, and
ends as if it had trained its own.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from training.compare.cells import ROUTE_SETTINGS, asked, fingerprint
from training.config import TrainSettings
from training.state import StateFile

# What plays no part before routes are chosen.
_LATER = (ROUTE_SETTINGS - {"shared_start", "routed_lr_factor"}) | {
    "keep", "routed_layers", "sampler", "calibration", "threshold_objective",
    "bootstrap_resamples",
}  # fmt: skip


def start_file(folder: Path, settings: TrainSettings, digest: str) -> StateFile | None:
    """Where below ``folder`` the start of such a run is kept; None where it has none.

    Args:
        digest: of the data.
    """
    if settings.scheme != "saliency" or not settings.shared_start:
        return None
    wanted: dict[str, Any] = asked(settings, digest)
    before = {name: value for name, value in wanted["settings"].items() if name not in _LATER}
    return StateFile(folder / "starts" / fingerprint(wanted | {"settings": before}))


def begin(state: StateFile, start: StateFile, settings: TrainSettings) -> None:
    """Make ``state`` that of a run of ``settings`` at the end of ``start``."""
    planned = {"epochs": start.peek().settings["epochs"]}
    state.adopt(start, settings.model_dump(mode="json") | planned)
