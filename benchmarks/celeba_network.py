"""The network on the pack of CelebA that several measurements look at, trained once."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.packs import packs

if TYPE_CHECKING:
    from model.bundle import Bundle

NAME = "celeba"
SETTINGS = (
    "--image-size", "44x36", "--width", "0.25", "--precision", "bfloat16", "--threads", "1",
)  # fmt: skip


def source() -> str:
    """SOURCE of the pack; ends the program where the packs' folder is not named."""
    return f"pack:{packs() / 'celeba10k' / 'celeba10k.npz'}"


def published(place: str) -> Bundle:
    """The latest version of the model at ``REPOSITORY/NAME``."""
    from model.repository import Repository

    repository, _, name = place.rpartition("/")
    return Repository(repository).read(name)


def about(bundle: Bundle) -> str:
    """How the bundle's network was trained, in a sentence."""
    training = bundle.metrics["training"]
    epochs = training["steps"] * training["settings"]["batch_size"]
    epochs /= bundle.metrics["data"]["images"]["train"]
    return (
        f"The network: {training['steps']} steps ({epochs:.1f} epochs) in {training['seconds']:g} "
        f"s of training, seed {training['settings']['seed']}."
    )


def trained(build: Path, settings: tuple[str, ...]) -> Bundle:
    """The bundle below ``build`` that was trained with ``settings``; trained now if there is none.

    Args:
        settings: flags of ``train``; they name the folder, so other ones are another network.
    """
    from model.repository import Repository

    folder = build / "_".join(word.removeprefix("--") for word in settings).replace("/", "-")
    repository = Repository(folder)
    if not repository.versions(NAME):
        place = ["--data", source(), "--repository", str(folder), "--name", NAME]
        subprocess.run(
            [sys.executable, "-m", "training", "train", *place, "--restart", *settings], check=True
        )
    return repository.read(NAME)
