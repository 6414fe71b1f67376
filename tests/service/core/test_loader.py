"""From a repository on disk to a served model."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from model.errors import BundleError, RepositoryError, UnknownModelError, UnknownVersionError
from model.repository import Repository
from model.rows import RowBatch
from service.core.loader import RepositoryLoader


def test_the_latest_version_is_loaded_with_what_the_bundle_says(repository: Path) -> None:
    model = RepositoryLoader(repository, "small", None, "masked", "cpu")()
    bundle = Repository(repository).read("small")
    assert (model.name, model.version, model.digest) == ("small", 1, bundle.digest)
    assert model.config == bundle.config
    assert model.metrics == {"macro": {"accuracy": 0.5}}
    assert model.strategy == "masked"
    assert model.parameters["heads"] > 0
    assert model.image_bytes == 28 * 28 * 3
    batch = RowBatch.all_pairs(torch.zeros(2, 28, 28, 3, dtype=torch.uint8), [0, 11])
    assert model.forward(batch).shape == (4, 4)


@pytest.mark.parametrize(
    ("name", "version", "error"),
    [("large", None, UnknownModelError), ("small", 7, UnknownVersionError)],
)
def test_what_was_never_published(
    repository: Path, name: str, version: int | None, error: type[Exception]
) -> None:
    with pytest.raises(error):
        RepositoryLoader(repository, name, version, "masked", "cpu")()


def test_an_unreadable_repository(tmp_path: Path) -> None:
    with pytest.raises(RepositoryError, match="elsewhere"):
        RepositoryLoader(tmp_path / "elsewhere", "small", None, "masked", "cpu")()


def test_a_damaged_bundle(repository: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(repository, copy)
    weights = copy / "small" / "1" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    with pytest.raises(BundleError, match=r"model\.safetensors"):
        RepositoryLoader(copy, "small", None, "masked", "cpu")()
