"""Errors raised on purpose while reading data and training, and the exit code of each.

TaskRouteError
├── SettingsError        an unknown setting, or a value it cannot take
├── SourceError          a SOURCE argument that names no known kind of data
├── DataError            a data set that cannot be used as it is; names file, row, column
├── StateError           nothing to resume, or a state that does not fit this run
├── DivergedError        the loss stopped being a number
├── RefusedError         a gate's conditions are not met: nothing was published
├── ProcessLostError     another process of a run over several ended, or cannot be reached
└── RunInterruptedError  stopped by Ctrl-C or SIGTERM; the state to resume from is on disk
"""

from __future__ import annotations

from model.errors import ConfigError, TaskRouteError, UnknownTaskError

EXIT_DONE = 0
EXIT_ERROR = 1
EXIT_USAGE = 2
EXIT_REFUSED = 3


class SettingsError(TaskRouteError):
    """An unknown setting, or a value it cannot take; the message has the nearest valid name."""

    code = "invalid_setting"


class SourceError(TaskRouteError):
    """A SOURCE argument that names no known kind of data."""

    code = "unknown_source"


class DataError(TaskRouteError):
    """A data set that cannot be used as it is; the message names the file and the place in it."""

    code = "bad_data"


class StateError(TaskRouteError):
    """Nothing to resume, or a saved training state that does not fit this run."""

    code = "bad_training_state"


class DivergedError(TaskRouteError):
    """The loss stopped being a number; nothing is published."""

    code = "diverged"


class RefusedError(TaskRouteError):
    """A gate's conditions are not met; nothing was published. Names each condition."""

    code = "refused"


class ProcessLostError(TaskRouteError):
    """Another process of a run over several ended, or cannot be reached."""

    code = "process_lost"


class RunInterruptedError(TaskRouteError):
    """Stopped by Ctrl-C or SIGTERM; the state to resume from is on disk."""

    code = "interrupted"


# What the person typed was wrong, as opposed to what it led to.
_USAGE_ERRORS = (SettingsError, SourceError, ConfigError, UnknownTaskError)


def exit_code(error: TaskRouteError) -> int:
    """Exit code of a command that ended in ``error``: 3 where a gate refused, 2 for wrong usage,
    else 1."""
    if isinstance(error, RefusedError):
        return EXIT_REFUSED
    return EXIT_USAGE if isinstance(error, _USAGE_ERRORS) else EXIT_ERROR
