"""Runs on several domains: two attributes of dark pictures, one of light ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from model.batch_norm import BatchNorm
from model.repository import Repository
from tests.training.conftest import tiny, tiny_images, tiny_network
from tests.training.test_run import run
from training.domains import find_domains
from training.errors import SettingsError
from training.prediction import predict_logits
from training.recalibration import recalibrate

MISSING = 255
DOMAINS: dict[str, Any] = {
    "sampler": "domains",
    "compute": "masked",
    "norm": "batch",
    "normalisation": "domain",
    "shift": 2,
}


@pytest.fixture(scope="module")
def pack(tmp_path_factory: pytest.TempPathFactory) -> Path:
    images = tiny_images(60)
    attr = (images.labels[:, [2, 0, 2]] > 0).astype(np.uint8)
    light = np.arange(60) % 3 == 0
    attr[light, :2] = attr[~light, 2] = MISSING
    path = tmp_path_factory.mktemp("data") / "two.npz"
    np.savez(
        path,
        images=images.pixels // 3 + (150 * light[:, None, None, None]).astype(np.uint8),
        attr=attr,
        attr_names=np.array(["left", "bright", "light left"]),
        split=np.array(["train"] * 30 + ["val"] * 15 + ["test"] * 15),
    )
    return path


def test_every_domain_is_trained_and_measured_on_its_own_images(pack: Path, tmp_path: Path) -> None:
    published, _ = run(f"pack:{pack}", tmp_path, **DOMAINS)
    bundle = Repository(tmp_path / "models").read("m")
    left, bright, light = bundle.config.tasks
    assert left.normalisation == bright.normalisation
    assert left.normalisation is not None
    assert light.normalisation is not None
    assert light.normalisation.mean[0] - left.normalisation.mean[0] == pytest.approx(0.59, abs=0.05)
    assert bundle.network().domain_of == (1, 1, 2)
    figures = published.evaluation.figures
    assert [figures[task.name].images for task in bundle.config.tasks] == [10, 10, 5]
    assert published.evaluation.intervals is not None


def test_domain_by_domain_needs_statistics_of_its_own(pack: Path, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"'compute' is 'cut'.*set compute to masked"):
        run(f"pack:{pack}", tmp_path, **DOMAINS | {"compute": "cut"})
    published, _ = run(f"pack:{pack}", tmp_path, **DOMAINS | {"compute": "cut", "arch": "vgg11"})
    assert published.version == 1


def test_adapters_are_trained_domain_by_domain(pack: Path, tmp_path: Path) -> None:
    adapters = {"arch": "resnet26", "adapters": "parallel", "norm": "batch_per_domain"}
    changes = DOMAINS | adapters | {"compute": "cut", "keep": 0.75, "epochs": 3}
    published, _ = run(f"pack:{pack}", tmp_path, **changes)
    network = Repository(tmp_path / "models").read("m", published.version).network()
    norm, routes = network.layers[0].norm, network.routes[0]
    assert norm is not None
    assert routes is not None
    means = norm.running_mean
    both = routes.all(dim=0)
    assert both.any()
    assert torch.allclose(means[0, both], means[1, both])  # measured on the same images
    assert not torch.allclose(means[0, both], means[2, both])


@pytest.mark.parametrize("other", [{"label_balance": True}, {"scheme": "saliency"}])
def test_nothing_else_chooses_the_images(other: dict[str, Any]) -> None:
    with pytest.raises(SettingsError, match="both decide which images train which tasks"):
        tiny(**DOMAINS | other)


def labels_of_two_domains(images: int) -> Any:
    labels = tiny_images(images).labels.copy()
    labels[: images // 2, [0, 2]] = labels[images // 2 :, 1] = -1
    return labels


def test_an_image_is_asked_the_tasks_of_its_domain() -> None:
    network, images = tiny_network(tiny(arch="vgg11")), tiny_images(10)
    labels = labels_of_two_domains(10)
    done: list[tuple[int, int]] = []
    found = predict_logits(
        network, images.pixels, 3, lambda *counts: done.append(counts), labels=labels
    )
    everything = predict_logits(network, images.pixels)
    for task, (some, every) in enumerate(zip(found, everything, strict=True)):
        asked = labels[:, task] != -1
        np.testing.assert_allclose(some[asked], every[asked], atol=1e-5)
        assert not some[~asked].any()
    assert done[-1] == (10, 10)


def test_a_tasks_statistics_are_taken_of_its_domain() -> None:
    network = tiny_network(tiny(norm="batch_per_task"))
    pixels = tiny_images(20).pixels.copy()
    domains = find_domains(labels_of_two_domains(20))

    def statistics(**changes: Any) -> np.ndarray[Any, Any]:
        recalibrate(network, pixels, batches=2, batch_size=5, seed=0, **changes)
        last = [m for m in network.modules() if isinstance(m, BatchNorm) and m.per_task][-1]
        return last.running_mean.numpy().copy()

    before = statistics(domains=domains)
    pixels[:10] = 255 - pixels[:10]
    after = statistics(domains=domains)
    assert [bool((one == other).all()) for one, other in zip(before, after, strict=True)] == [
        True,
        False,
        True,
    ]
