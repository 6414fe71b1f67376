"""Whether a run may start, or go on, given what an earlier one left behind."""

from __future__ import annotations

from training.config import RESUMABLE_CHANGES, TrainSettings
from training.errors import StateError
from training.settings_files import load_settings
from training.sources import Dataset
from training.state import StateFile


def check_resumable(state_file: StateFile, settings: TrainSettings, dataset: Dataset) -> None:
    """Refuse to go on with a run of other settings or other data.

    Raises:
        StateError: nothing to resume, or a state of another run; names what differs.
    """
    state = state_file.peek()
    now = settings.model_dump(mode="json")
    # A setting newer than the state: a new setting's default is what was done without it.
    then = load_settings(TrainSettings).model_dump(mode="json") | state.settings
    changed = [
        f"{name} (was {then.get(name)!r}, is {now.get(name)!r})"
        for name in sorted(now.keys() | then.keys())
        if now.get(name) != then.get(name) and name not in RESUMABLE_CHANGES
    ]
    if state.data["digest"] != dataset.digest:
        changed.append(f"data (was {state.data['source']}, is {dataset.source} or has changed)")
    if changed:
        raise StateError(
            f"the interrupted run differs in {', '.join(changed)}; resume with the command that "
            "began it, or start anew with --restart",
            changed=changed,
        )


def check_startable(state_file: StateFile) -> None:
    """Refuse to overwrite an interrupted run that nobody said to throw away.

    Raises:
        StateError: there is one.
    """
    if not state_file.exists():
        return
    state = state_file.peek()
    raise StateError(
        f"{state_file.path} holds an interrupted run (step {state.step} of {state.total_steps}): "
        "--resume goes on with it, --restart throws it away"
    )
