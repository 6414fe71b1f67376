"""Do pictures that reach the network as other files get the answers of a pack's own test images?

    TASKROUTE_DATA=/data python -m benchmarks.other_files

A network is trained on the pack of CelebA; then its test images are asked again as what clients
might send of them: other formats, qualities and sizes, turned by EXIF, and framed, cropped or lit
otherwise. Every difference is paired: the same people are in both, and chance is in neither.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from PIL import Image, ImageEnhance, ImageOps

from benchmarks.celeba_network import SETTINGS, about, published, source, trained
from benchmarks.report import RESULTS, Report

if TYPE_CHECKING:
    from model.bundle import Bundle
    from training.sources.base import Images

RESAMPLES = 200
WHITE = (255, 255, 255)
ORIENTATION, TURN_RIGHT = 0x0112, 6
"""The EXIF tag, and its value for "turn me by 90 degrees to the right"."""

Change = Callable[[Image.Image], bytes]
"""A picture in RGB to the file that is sent of it."""


def saved(image: Image.Image, format: str = "JPEG", quality: int = 90) -> bytes:
    """The picture as a file."""
    file = io.BytesIO()
    image.save(file, format, quality=quality)
    return file.getvalue()


def resized(image: Image.Image, factor: float) -> bytes:
    """Larger or smaller."""
    size = (round(image.width * factor), round(image.height * factor))
    return saved(image.resize(size, Image.Resampling.BICUBIC))


def turned(image: Image.Image) -> bytes:
    """Stored lying on its side, with EXIF to say so, as phones do."""
    exif = Image.Exif()
    exif[ORIENTATION] = TURN_RIGHT
    file = io.BytesIO()
    image.transpose(Image.Transpose.ROTATE_90).save(file, "JPEG", quality=90, exif=exif)
    return file.getvalue()


def framed(image: Image.Image, share: float) -> bytes:
    """With a white margin of ``share`` of each side; negative: that much cut off."""
    across, down = round(image.width * share), round(image.height * share)
    if share < 0:
        return saved(image.crop((-across, -down, image.width + across, image.height + down)))
    return saved(ImageOps.expand(image, (across, down), WHITE))


def landscape(image: Image.Image) -> bytes:
    """In the middle of a white picture of 4:3."""
    return saved(ImageOps.pad(image, (image.height * 4 // 3, image.height), color=WHITE))


def darker(image: Image.Image) -> bytes:
    """At 60 % of its brightness."""
    return saved(ImageEnhance.Brightness(image).enhance(0.6))


SAME_PICTURE: Mapping[str, Change] = {
    "PNG": partial(saved, format="PNG"),
    "WebP, quality 80": partial(saved, format="WEBP", quality=80),
    "JPEG again, quality 50": partial(saved, quality=50),
    "JPEG again, quality 30": partial(saved, quality=30),
    "twice the size": partial(resized, factor=2),
    "four times the size": partial(resized, factor=4),
    "half the size": partial(resized, factor=0.5),
    "on its side, by EXIF": turned,
}
OTHER_PICTURE: Mapping[str, Change] = {
    "10 % cut off each side": partial(framed, share=-0.1),
    "white margin of 10 %": partial(framed, share=0.1),
    "landscape, 4:3": landscape,
    "60 % of the light": darker,
    "grey": lambda image: saved(image.convert("L")),
}


@dataclass(frozen=True)
class Changed:
    """Images of a data set, as other files."""

    images: Images
    change: Change

    def __len__(self) -> int:
        return len(self.images)

    def name(self, index: int) -> str:
        return self.images.name(index)

    def read(self, index: int) -> bytes:
        data = self.images.read(index)
        assert isinstance(data, bytes), "a pack of files, not of raw pixels"
        with Image.open(io.BytesIO(data)) as image:
            return self.change(image.convert("RGB"))


def main(
    epochs: Annotated[float, typer.Option(help="Passes over the training images.")] = 6,
    images: Annotated[int, typer.Option(help="The first so many test images; 0: all.")] = 0,
    flags: Annotated[str, typer.Option(help="Further ones of `train`, as one word.")] = "",
    network: Annotated[
        str, typer.Option(help="REPOSITORY/NAME of one to look at instead of training it.")
    ] = "",
    build: Annotated[Path, typer.Option(help="For the network.")] = Path("build/celeba"),
    out: Annotated[Path, typer.Option(help="Where results go.")] = RESULTS
    / "training"
    / "other_files",
) -> None:
    """Train on the pack, ask its test images as they are and as other files."""
    train = (*SETTINGS, f"--epochs={epochs:g}", *flags.split())
    bundle = published(network) if network else trained(build, train)
    found: dict[str, dict[str, Any]] = {}
    for name, one in measure(bundle, {**SAME_PICTURE, **OTHER_PICTURE}, images):
        found[name] = one
        write(bundle, found, out)  # at once: the rest takes a while


def write(bundle: Bundle, found: Mapping[str, Mapping[str, Any]], out: Path) -> None:
    """The page, of what has been found so far."""
    own = next(iter(found.values()))
    report = Report(out, "Test images of a pack, sent as other files")
    report.text(
        f"CelebA, 40 tasks, {own['images']} test images. {about(bundle)} With the pack's own files "
        f"its macro average precision is {own['average_precision']['old']:.3f} and its ECE "
        f"{own['ece']['old']:.3f}. Below, both with other files, and the difference (95 % of "
        f"{RESAMPLES} paired resamples); how far a probability moved in the mean; and the share of "
        "answers on the other side of their threshold."
    )
    for title, kinds in (
        ("The same picture in another file", SAME_PICTURE),
        ("Another picture", OTHER_PICTURE),
    ):
        report.section(title)
        report.table(
            ["file", "AP", "difference", "ECE", "difference", "moved", "other side"],
            [_line(name, found[name]) for name in kinds if name in found],
        )
    report.write({"training": bundle.metrics["training"], "found": found})


def measure(
    bundle: Bundle, changes: Mapping[str, Change], images: int
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Name of each change, with macro figures before and after, and how far answers moved.

    Args:
        images: the first so many test images; 0: all.
    """
    import numpy as np
    import torch

    from training.decoding import Decoder
    from training.prediction import predict
    from training.refresh.comparison import Answers, compare_answers
    from training.sources import SourceOptions, open_source

    torch.set_num_threads(1)
    network, spec = bundle.network(), bundle.config.preprocess
    tasks = bundle.config.task_set
    dataset = open_source(source(), SourceOptions(0, tuple(tasks))).aligned(tasks)
    if images:
        split = dataset.split.copy()
        split[dataset.indices("test")[images:]] = ""
        dataset = replace(dataset, split=split)
    own = Decoder().decode(dataset, "test", spec)
    before = Answers(tasks, predict(network, own.pixels))
    for name, change in changes.items():
        other = replace(dataset, images=Changed(dataset.images, change))
        after = Answers(tasks, predict(network, Decoder().decode(other, "test", spec).pixels))
        compared = compare_answers(before, after, own.labels, "test", RESAMPLES)
        found = {figure: asdict(one) for figure, one in compared.macro.items()}
        moved = {
            "moved": float(np.mean([one.moved.mean for one in compared.tasks])),
            "relabelled": float(np.mean([one.moved.relabelled for one in compared.tasks])),
        }
        print(name, found["average_precision"], flush=True)
        yield name, {"images": len(own), **found, **moved}


def _line(name: str, one: Mapping[str, Any]) -> list[str]:
    cells = [name]
    for figure in ("average_precision", "ece"):
        change = one[figure]
        low, high = change["interval"]
        difference = change["new"] - change["old"]
        cells += [f"{change['new']:.3f}", f"{difference:+.3f} ({low:+.3f} to {high:+.3f})"]
    return [*cells, f"{one['moved']:.3f}", f"{one['relabelled']:.1%}"]


if __name__ == "__main__":
    typer.run(main)
