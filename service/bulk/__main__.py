"""Entry point of ``python -m service.bulk``."""

from __future__ import annotations

import sys

from service.bulk.cli import main

if __name__ == "__main__":
    sys.exit(main())
