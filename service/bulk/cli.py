"""``python -m service.bulk``: from a folder of images or tar shards to a folder of answers."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import get_args

from rich.console import Console

from model.errors import ConfigError, TaskRouteError, UnknownTaskError
from model.location import is_url, local_path
from model.preprocess import ImageLimits
from service.bulk.errors import BulkUsageError
from service.bulk.job import Outcome, Request, run_job
from service.bulk.part_scorer import BulkOptions
from service.bulk.progress import Progress
from service.bulk.writers import Format
from service.core.errors import RequestError
from service.core.run_options import Precision, RunOptions

_DONE, _FAILED, _USAGE, _SOME_FAILED = 0, 1, 2, 3
_USAGE_ERRORS = (BulkUsageError, UnknownTaskError, ConfigError, RequestError)


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code: 0 all scored, 1 stopped (the same command goes on), 2 wrong usage, 3 all there,
    but some images have an error in place of answers."""
    given = _parser().parse_args(arguments)
    console = Console(stderr=True, soft_wrap=True)
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        outcome = run_job(_request(given), Progress(console))
    except TaskRouteError as error:
        sys.stderr.write(f"error: {error}\n")
        return _USAGE if isinstance(error, _USAGE_ERRORS) else _FAILED
    except KeyboardInterrupt:
        sys.stderr.write("interrupted; the same command goes on with the parts that are missing\n")
        return _FAILED
    sys.stdout.write(_told(outcome, given.out))
    return _SOME_FAILED if outcome.total.failed else _DONE


def _told(outcome: Outcome, out: Path) -> str:
    total, added, plan = outcome.total, outcome.added, outcome.plan
    rate = added.rows / outcome.seconds if outcome.seconds > 0 else 0.0
    failed = f", {total.failed} of them with an error" if total.failed else ""
    return (
        f"{total.images} images in {plan.parts} files in {out}{failed}; {plan.model} version "
        f"{plan.version}; now: {added.images} images, {added.rows} rows in {outcome.seconds:.1f} s "
        f"({rate:.0f} rows/s, batches of {plan.batch_images} images)\n"
    )


def _request(given: argparse.Namespace) -> Request:
    run = RunOptions(
        strategy=given.strategy,
        device=given.device,
        precision=given.precision,
        workers=given.threads,
    )
    return Request(
        input=given.input,
        out=given.out,
        model=given.model,
        options=BulkOptions(
            given.repository,
            run,
            given.decode_threads,
            ImageLimits(given.max_image_bytes, given.max_image_pixels),
        ),
        version=given.version,
        tasks=None if given.tasks is None else tuple(given.tasks.split(",")),
        format=given.format,
        images_per_part=given.images_per_part,
        batch_images=given.batch_images,
        ray_workers=given.ray_workers,
        ray_address=given.ray_address,
    )


def _parser() -> argparse.ArgumentParser:
    limits = ImageLimits()
    parser = argparse.ArgumentParser(
        prog="python -m service.bulk",
        description="Score images offline. Run again after an interruption, it goes on.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    # fmt: off
    add("--repository", required=True, help="of published models")
    add("--model", required=True, help="its name there")
    add("--version", type=_positive, help="of the model; by default what LATEST names at the start")
    add("--input", required=True, metavar="SOURCE",
        help="a directory of images or of tar shards, a tar file, or a URL (s3://bucket/prefix)")
    add("--out", required=True, type=_folder, metavar="DIR", help="folder for the output files")
    add("--tasks", help="names or group:NAME, with commas; by default all")
    add("--format", choices=get_args(Format), default="parquet", help="of the output files")
    add("--images-per-part", type=_positive, default=4096, metavar="N",
        help="images in an output file; of tar shards each is one file")
    add("--batch-images", type=_number, default=0, metavar="N",
        help="images that the engine scores at once; 0: measured when the job begins")
    add("--device", default="cpu", help="cpu, cuda or cuda:N")
    add("--strategy", choices=("auto", "masked", "mixed", "subnet"), default="auto",
        help="how batches are run; auto measures")
    add("--precision", choices=get_args(Precision), default="float32", help="of the convolutions")
    add("--threads", type=_number, default=0, metavar="N",
        help="of the engine; 0: the container's CPU quota, or 1 for each Ray worker")
    add("--decode-threads", type=_number, default=0, metavar="N",
        help="that read and decode images; 0: as many as processors; more for an object store")
    add("--max-image-bytes", type=_positive, default=limits.max_bytes, metavar="N",
        help="larger files get an error")
    add("--max-image-pixels", type=_positive, default=limits.max_pixels, metavar="N",
        help="larger images get an error")
    add("--ray-workers", type=_number, default=0, metavar="N",
        help="score on a Ray cluster with so many processes; 0: in this one")
    add("--ray-address", default="", metavar="ADDRESS",
        help="of the cluster; auto: the one this machine is part of; empty: start one here")
    # fmt: on
    return parser


def _folder(text: str) -> Path:
    if is_url(text):
        raise argparse.ArgumentTypeError(
            f"{text} is no folder: parts are renamed into place, so write to a disk, or to a mount "
            "that can rename, and copy them from there"
        )
    return local_path(text)


def _number(text: str) -> int:
    number = int(text)
    if number < 0:
        raise argparse.ArgumentTypeError(f"{text} is below 0")
    return number


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is not 1 or more")
    return number


def _interrupt(_: int, __: FrameType | None) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # once is enough, while it tidies up
    raise KeyboardInterrupt
