"""``python -m service``: settings from flags and the environment, then serve."""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Sequence

import prometheus_client
from pydantic import ValidationError

from service.extras import ExtraMissingError
from service.flags import flag, parse
from service.key_file import KeyFileError
from service.logging import configure_logging
from service.server import serve
from service.settings import PREFIX, Settings, unknown_variables
from service.tracing import TracingError

logger = logging.getLogger(__name__)

WRONG_USAGE = 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code: 0 after a clean shutdown, 2 for wrong settings."""
    given, print_config = parse(sys.argv[1:] if arguments is None else arguments)
    try:
        settings = Settings(**given)
    except ValidationError as error:
        sys.stderr.write(explain(error))
        return WRONG_USAGE
    configure_logging(settings.log_level)
    _warn_of_unknown_variables()
    if print_config:
        sys.stdout.write(json.dumps(settings.effective(), indent=2) + "\n")
        return 0
    # For the whole process: a creation time beside every counter would double what is scraped.
    prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]
    try:
        serve(settings)
    except ExtraMissingError as error:
        sys.stderr.write(f"{error}\n")
        return WRONG_USAGE
    except TracingError as error:
        sys.stderr.write(f"{flag('tracing')} ({PREFIX}TRACING): {error}\n")
        return WRONG_USAGE
    except KeyFileError as error:
        sys.stderr.write(f"{flag('api_keys_file')} ({PREFIX}API_KEYS_FILE): {error}\n")
        return WRONG_USAGE
    return 0


def explain(error: ValidationError) -> str:
    """One line for each wrong setting: its flag, its variable, the reason."""
    lines = ["wrong settings:"]
    for problem in error.errors(include_url=False):
        reason = problem["msg"].removeprefix("Value error, ")
        if not problem["loc"]:
            lines.append(f"  {reason}")
            continue
        name = str(problem["loc"][0])
        if problem["type"] == "missing":
            reason = "is required"
        else:
            reason = f"is {str(problem['input'])[:100]!r}: {reason}"
        lines.append(f"  {flag(name)} ({PREFIX}{name.upper()}) {reason}")
    return "\n".join(lines) + "\n"


def _warn_of_unknown_variables() -> None:
    for name, nearest in unknown_variables(os.environ).items():
        hint = f"; did you mean {nearest}?" if nearest else ""
        logger.warning("environment variable %s is no setting and has no effect%s", name, hint)
