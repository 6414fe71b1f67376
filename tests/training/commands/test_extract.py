"""Tasks cut out of a model: served, in ONNX Runtime, and by torch.export."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from model.config import BackboneConfig, ModelConfig, PreprocessConfig, RoutingConfig
from model.network import RoutedNetwork, build
from model.repository import Repository
from model.rows import RowBatch
from model.strategies import make_forward, sample_batch
from model.tasks import Task
from training.cli import main

KEEP = 0.5


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, RoutedNetwork]:
    root = tmp_path_factory.mktemp("repository")
    network = build(
        ModelConfig(
            backbone=BackboneConfig(width=0.25, norm="batch_per_task"),
            routing=RoutingConfig(keep=KEEP),
            preprocess=PreprocessConfig(height=32, width=32),
            tasks=(
                Task(name="boot"),
                Task(name="kind of shoe", classes=("flat", "heel", "wedge")),
                Task(name="hat", group="head"),
            ),
        )
    ).eval()
    Repository(root).publish("wear", network, {}, "# wear\n")
    return root, network


def extract(root: Path, out: Path, *arguments: str) -> int:
    return main(
        ["extract", "--repository", str(root), "--name", "wear", "--out", str(out), *arguments]
    )


def test_wrong_usage_is_a_sentence(
    published: tuple[Path, RoutedNetwork], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root, _ = published
    assert extract(root, tmp_path, "--task", "boot", "--version", "0") == 2
    (tmp_path / "file").write_text("no folder")
    assert extract(root, tmp_path / "file", "--task", "boot") == 2
    assert "file: cannot be made: File exists" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_task_becomes_a_bundle_of_its_own_with_its_sizes_told(
    published: tuple[Path, RoutedNetwork], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root, network = published
    assert extract(root, tmp_path, "--task", "kind of shoe", "--as", "shoe") == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "convolution weights" in told
    assert "multiply-adds for one image" in told
    bundle = Repository(tmp_path).read("shoe")
    small = bundle.network()
    assert small.tasks.names == ("kind of shoe",)
    assert bundle.metrics["extracted_from"]["model"] == "wear"
    images = sample_batch(network, 4).images
    found = make_forward(small, "subnet")(RowBatch.all_pairs(images, [0]))
    assert torch.allclose(found, network(images, 1), atol=1e-5)


def test_several_tasks_stay_together(published: tuple[Path, RoutedNetwork], tmp_path: Path) -> None:
    root, network = published
    assert extract(root, tmp_path, "--task", "hat", "--task", "boot") == 0
    small = Repository(tmp_path).read("wear").network()
    assert small.tasks.names == ("hat", "boot")
    images = sample_batch(network, 2).images
    for index, task in enumerate((2, 0)):
        assert torch.allclose(small(images, index), network(images, task), atol=1e-5)


def test_what_is_not_there_is_wrong_usage(
    published: tuple[Path, RoutedNetwork], tmp_path: Path
) -> None:
    assert extract(published[0], tmp_path, "--task", "boots") == 2


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of the exporters themselves
def test_onnx_runtime_and_torch_export_answer_as_the_network_at_keep_squared_of_its_size(
    published: tuple[Path, RoutedNetwork], tmp_path: Path
) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    root, network = published
    assert extract(root, tmp_path, "--task", "kind of shoe", "--onnx", "--torch-export") == 0
    session = onnxruntime.InferenceSession(
        tmp_path / "wear.onnx", providers=["CPUExecutionProvider"]
    )
    program = torch.export.load(tmp_path / "wear.pt2").module()
    for count in (1, 7):
        images = sample_batch(network, count).images
        expected = network(images, 1)
        (by_onnx,) = session.run(["kind of shoe"], {"pixels": images.numpy()})
        assert torch.allclose(torch.from_numpy(by_onnx), expected, rtol=0, atol=1e-4)
        (by_export,) = program(images)
        assert torch.allclose(by_export, expected, rtol=0, atol=1e-4)
    about = json.loads(session.get_modelmeta().custom_metadata_map["taskroute"])
    assert about["tasks"][0]["classes"] == ["flat", "heel", "wedge"]
    assert about["preprocess"]["height"] == 32
    whole = 4 * sum(layer.conv.weight.numel() for layer in network.layers)
    share = (tmp_path / "wear.onnx").stat().st_size / whole
    assert share == pytest.approx(KEEP**2, rel=0.2)  # the graph, biases and the head come on top


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of the exporters themselves
@pytest.mark.parametrize("routed_layers", ["all", "last:2"])
def test_a_residual_networks_tasks_are_exported_and_checked(
    tmp_path: Path, routed_layers: str
) -> None:
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    network = build(
        ModelConfig(
            backbone=BackboneConfig(arch="resnet18", width=0.125),
            routing=RoutingConfig(keep=KEEP, routed_layers=routed_layers),
            preprocess=PreprocessConfig(height=32, width=32),
            tasks=(Task(name="boot"), Task(name="hat")),
        )
    ).eval()
    Repository(tmp_path / "models").publish("wear", network, {}, "# wear\n")
    arguments = ("--task", "boot", "--task", "hat", "--onnx", "--torch-export")
    assert extract(tmp_path / "models", tmp_path / "out", *arguments) == 0
    assert (tmp_path / "out" / "wear.onnx").stat().st_size > 0
    assert (tmp_path / "out" / "wear.pt2").stat().st_size > 0
