"""Entry point of ``python -m service``."""

from __future__ import annotations

import signal
import sys


def _end(_: int, __: object) -> None:
    sys.exit(0)


if __name__ == "__main__":
    # Before the imports, which take seconds: the first process of a container is not ended by a
    # signal that it has no handler for, and would be waited for until it is killed.
    signal.signal(signal.SIGTERM, _end)

    from service.cli import main

    sys.exit(main())
