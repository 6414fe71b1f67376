"""``python -m service.client predict *.jpg --tasks a,b --url http://...``: answers about files."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import get_args

from rich.console import Console
from rich.progress import track

from service.client.asking import Level
from service.client.clients import DEFAULT_TIMEOUT_S, Client
from service.client.errors import ClientError
from service.client.files import ask_about_files
from service.client.writers import FORMATS

KEY_VARIABLE = "TASKROUTE_API_KEY"
_FAILED, _SOME_FAILED = 1, 3


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code: 0 all answered, 1 the server could not be asked, 2 wrong usage, 3 some files
    without an answer."""
    given = _parser().parse_args(arguments)
    tasks = None if given.tasks is None else given.tasks.split(",")
    console = Console(stderr=True)
    failures = 0
    with ExitStack() as stack:
        output = stack.enter_context(given.out.open("w", newline="")) if given.out else sys.stdout
        write = FORMATS[given.format](output)
        client = stack.enter_context(
            Client(
                given.url,
                key=os.environ.get(KEY_VARIABLE),
                model=given.model,
                version=given.version,
                priority=given.priority,
                timeout_s=given.timeout_s,
            )
        )
        asked = ask_about_files(client, given.files, tasks, given.batch)
        bar = track(
            asked, "asking", len(given.files), console=console, disable=not console.is_terminal
        )
        try:
            for path, answer in bar:
                failures += write(path, answer)
        except ClientError as error:
            sys.stderr.write(f"{error}\n")
            return _FAILED
    if failures:
        sys.stderr.write(f"{failures} of {len(given.files)} files not, or not wholly, answered\n")
    return _SOME_FAILED if failures else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m service.client",
        description="Ask a running service.",
        epilog=f"An API key is read from the environment variable {KEY_VARIABLE}.",
    )
    commands = parser.add_subparsers(dest="command", required=True)
    predict = commands.add_parser("predict", help="answers about image files")
    predict.add_argument("files", nargs="+", type=Path, metavar="FILE")
    predict.add_argument("--tasks", help="names or group:NAME, with commas; default: all")
    predict.add_argument("--model", help="default: the server's first")
    predict.add_argument("--version", type=_positive, help="default: the one that answers")
    predict.add_argument("--url", default="http://127.0.0.1:8000", help="default: %(default)s")
    predict.add_argument(
        "--format", choices=sorted(FORMATS), default="jsonl", help="default: %(default)s"
    )
    predict.add_argument("--out", type=Path, help="file to write; default: standard output")
    predict.add_argument(
        "--batch", type=_positive, default=16, help="images a request; default: %(default)s"
    )
    predict.add_argument(
        "--priority",
        choices=get_args(Level),
        help="bulk lets others go first; default: interactive",
    )
    predict.add_argument(
        "--timeout-s",
        type=float,
        default=DEFAULT_TIMEOUT_S,
        help="for each request, retries included; default: %(default)s",
    )
    return parser


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is not 1 or more")
    return number


if __name__ == "__main__":
    sys.exit(main())
