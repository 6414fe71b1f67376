"""From a repository on disk to a served model."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from model.config import BackboneConfig, ModelConfig, PreprocessConfig
from model.errors import (
    BundleError,
    ConfigError,
    RepositoryError,
    UnknownModelError,
    UnknownVersionError,
)
from model.network import build
from model.repository import Repository
from model.rows import RowBatch
from model.tasks import Task
from service.core.loader import RepositorySources
from service.core.run_options import RunOptions
from service.core.served import ServedModel


def load(
    root: Path, options: RunOptions, name: str = "small", version: int | None = None
) -> ServedModel:
    source = RepositorySources(root, options).of(name)
    return source.load(source.published(version))


def test_the_latest_version_is_loaded_with_what_the_bundle_says(repository: Path) -> None:
    model = load(repository, RunOptions("masked"))
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
        load(repository, RunOptions("masked"), name, version)


def test_an_unreadable_repository(tmp_path: Path) -> None:
    with pytest.raises(RepositoryError, match="elsewhere"):
        load(tmp_path / "elsewhere", RunOptions("masked"))


def test_a_damaged_bundle(repository: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(repository, copy)
    weights = copy / "small" / "1" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    with pytest.raises(BundleError, match=r"model\.safetensors"):
        load(copy, RunOptions("masked"))


@pytest.fixture(scope="module")
def unsaturated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose probabilities lie where rounding can be seen."""
    root = tmp_path_factory.mktemp("unsaturated")
    config = ModelConfig(
        backbone=BackboneConfig(width=0.125),
        preprocess=PreprocessConfig(height=28, width=28),
        tasks=(Task(name="a"), Task(name="b")),
    )
    Repository(root).publish("small", build(config, seed=0), {}, "# small\n")
    return root


def test_precision_is_checked_against_masked_float32(unsaturated: Path) -> None:
    exact = load(unsaturated, RunOptions("subnet"))
    assert exact.precision_error <= 1e-5
    options = RunOptions("subnet", precision="bfloat16")
    rough = load(unsaturated, options)
    assert rough.precision == "bfloat16"
    assert 1e-5 < rough.precision_error <= 0.02


def test_a_precision_beyond_the_bound_is_refused(unsaturated: Path) -> None:
    options = RunOptions("subnet", precision="bfloat16", max_probability_error=1e-6)
    with pytest.raises(ConfigError, match="max_probability_error"):
        load(unsaturated, options)


def test_versions_share_the_cut_weights_that_are_equal(unsaturated: Path, tmp_path: Path) -> None:
    root = tmp_path / "models"
    shutil.copytree(unsaturated, root)
    store = Repository(root)
    network = store.read("small").network()
    with torch.no_grad():
        for parameter in network.heads.parameters():
            parameter.add_(1)
    store.publish("small", network, {}, "# small\n")
    shutil.copytree(root / "small", root / "other")
    sources = RepositorySources(root, RunOptions("subnet"))
    models = []
    for name, version in (("small", 1), ("small", 2), ("other", 1)):
        source = sources.of(name)
        models.append(source.load(source.published(version)))
        held = sources.cache.held_bytes
        if len(models) == 1:
            alone = held
    assert alone > 0
    assert held == alone
