from __future__ import annotations

import hashlib
import json
import math
import random
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import Tensor

from model.bundle import CONTENT, FORMAT_VERSION, Parent, read_bundle, write_bundle
from model.errors import BundleError
from model.network import RoutedNetwork
from tests.model.networks import TASKS, make_config, make_network, random_images

METRICS = {"accuracy": 0.9, "tasks": {"boot": {"ap": None}}}


@pytest.fixture(scope="module")
def network() -> RoutedNetwork:
    return make_network(backbone={"norm": "batch_per_task"})


@pytest.fixture
def path(tmp_path: Path, network: RoutedNetwork) -> Path:
    """A whole bundle."""
    folder = tmp_path / "bundle"
    folder.mkdir()
    write_bundle(folder, network.config, network.state_dict(), METRICS, "# Card\n")
    return folder


def rewrite(path: Path, name: str, content: bytes) -> None:
    """Replace a file and its entry in the manifest: damage that no checksum shows."""
    (path / name).write_bytes(content)
    manifest = json.loads((path / "manifest.json").read_text())
    manifest["files"][name] = {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
    (path / "manifest.json").write_text(json.dumps(manifest))


def refused(path: Path, file: str, message: str) -> None:
    with pytest.raises(BundleError, match=message) as caught:
        read_bundle(path).network()
    assert caught.value.details["file"] == file
    assert str(path / file) in caught.value.message


# --- round trip -------------------------------------------------------------------------------


def test_a_network_comes_back_whole(path: Path, network: RoutedNetwork) -> None:
    bundle = read_bundle(path)
    assert bundle.config == network.config
    assert bundle.metrics == METRICS
    assert bundle.path == path
    for name, values in network.state_dict().items():
        assert torch.equal(bundle.state[name], values)
        assert bundle.state[name].dtype == values.dtype
    again = bundle.network()
    assert not again.training
    images = random_images(network, 2)
    for task in range(len(TASKS)):
        assert torch.equal(again(images, task), network(images, task))
        assert torch.equal(again.forward_cut(images, task), network.forward_cut(images, task))


@pytest.mark.parametrize(
    "parts",
    [
        {"backbone": {"arch": "vgg13"}, "head": {"embedding": 0}},
        {"routing": {"routed_layers": "none"}},
        {"routing": {"scheme": "partition", "keep": 0.0, "routed_layers": "last:2"}},
        {"routing": {"scheme": "tree", "group_layers": 3}},
    ],
)
def test_other_kinds_of_network_come_back_too(parts: dict[str, Any], tmp_path: Path) -> None:
    network = make_network(**parts)
    write_bundle(tmp_path, network.config, network.state_dict(), {}, "")
    images = random_images(network, 2)
    rows = torch.tensor([1, 2])
    assert torch.equal(read_bundle(tmp_path).network()(images, rows), network(images, rows))


def test_the_files_are_those_of_the_format_and_nothing_is_pickled(path: Path) -> None:
    assert sorted(p.name for p in path.iterdir()) == sorted(["manifest.json", *CONTENT])
    assert (path / "README.md").read_text() == "# Card\n"
    for file in path.iterdir():
        assert not file.read_bytes().startswith((b"\x80", b"PK"))


def test_the_manifest_describes_every_other_file(path: Path) -> None:
    manifest = json.loads((path / "manifest.json").read_text())
    assert manifest["format_version"] == FORMAT_VERSION
    assert manifest["parent"] is None
    assert manifest["code_version"]
    age = datetime.now(UTC) - datetime.fromisoformat(manifest["created_at"])
    assert abs(age.total_seconds()) < 60
    for name, entry in manifest["files"].items():
        content = (path / name).read_bytes()
        assert entry == {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
    assert set(manifest["files"]) == set(CONTENT)


def test_the_digest_is_that_of_the_manifest_and_so_of_everything(
    path: Path, network: RoutedNetwork, tmp_path: Path
) -> None:
    digest = read_bundle(path).digest
    assert digest == "sha256:" + hashlib.sha256((path / "manifest.json").read_bytes()).hexdigest()
    other = tmp_path / "other"
    other.mkdir()
    write_bundle(other, network.config, network.state_dict(), {"accuracy": 0.91}, "# Card\n")
    assert read_bundle(other).digest != digest


def test_a_parent_is_recorded(network: RoutedNetwork, tmp_path: Path) -> None:
    parent = Parent(version=4, digest="sha256:abc")
    write_bundle(tmp_path, network.config, network.state_dict(), {}, "", parent)
    assert read_bundle(tmp_path).manifest.parent == parent


def test_tensors_that_are_views_or_have_gradients_are_stored(tmp_path: Path) -> None:
    network = make_network()
    weight = network.layers[1].conv.weight
    with torch.no_grad():
        weight.data = weight.detach().clone(memory_format=torch.channels_last).transpose(2, 3)
    assert not weight.is_contiguous()
    write_bundle(tmp_path, network.config, network.state_dict(), {}, "")
    assert torch.equal(read_bundle(tmp_path).state["layers.1.conv.weight"], weight)


def test_unknown_fields_of_a_later_minor_addition_are_ignored(path: Path) -> None:
    manifest = json.loads((path / "manifest.json").read_text())
    (path / "manifest.json").write_text(json.dumps(manifest | {"signature": "abc"}))
    (path / "extra.txt").write_text("not in the manifest")
    assert read_bundle(path).metrics == METRICS


def test_code_that_is_not_installed_has_no_version(
    network: RoutedNetwork, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def not_found(_: str) -> str:
        raise PackageNotFoundError

    monkeypatch.setattr("model.bundle.version", not_found)
    write_bundle(tmp_path, network.config, network.state_dict(), {}, "")
    assert read_bundle(tmp_path).manifest.code_version == "unknown"


# --- what cannot be written -------------------------------------------------------------------


@pytest.mark.parametrize(
    "metrics", [{"ap": math.nan}, {"ap": math.inf}, {"ap": torch.tensor(1.0)}, {"ap": {1, 2}}]
)
def test_metrics_that_are_no_json_are_refused_before_anything_is_written(
    metrics: dict[str, Any], network: RoutedNetwork, tmp_path: Path
) -> None:
    with pytest.raises(BundleError, match=r"metrics\.json cannot be written") as caught:
        write_bundle(tmp_path, network.config, network.state_dict(), metrics, "")
    assert caught.value.details == {"file": "metrics.json"}
    assert list(tmp_path.iterdir()) == []


def test_a_card_of_any_text_is_stored(network: RoutedNetwork, tmp_path: Path) -> None:
    write_bundle(tmp_path, network.config, network.state_dict(), {}, "größe \udcff")
    assert read_bundle(tmp_path)
    assert (tmp_path / "README.md").read_text().startswith("größe ")


# --- damage -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["manifest.json", *CONTENT])
def test_a_missing_file_is_named(path: Path, name: str) -> None:
    (path / name).unlink()
    refused(path, name, "No such file")


@pytest.mark.parametrize("name", ["manifest.json", *CONTENT])
def test_a_file_that_is_a_directory_is_named(path: Path, name: str) -> None:
    (path / name).unlink()
    (path / name).mkdir()
    refused(path, name, "cannot be read: Is a directory")


def test_a_missing_or_odd_bundle_folder(path: Path, tmp_path: Path) -> None:
    refused(tmp_path / "nothing", "manifest.json", "No such file")
    refused(path / "README.md", "manifest.json", "Not a directory")


@pytest.mark.parametrize("name", CONTENT)
@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_a_truncated_file_is_refused(path: Path, name: str, share: float) -> None:
    content = (path / name).read_bytes()
    (path / name).write_bytes(content[: min(len(content) - 1, int(share * len(content)))])
    refused(path, name, r"has \d+ bytes, the manifest says \d+: truncated or altered")


@pytest.mark.parametrize("name", CONTENT)
def test_appended_bytes_are_refused(path: Path, name: str) -> None:
    with (path / name).open("ab") as file:
        file.write(b"\n")
    refused(path, name, "truncated or altered")


@pytest.mark.parametrize("name", CONTENT)
def test_one_flipped_bit_anywhere_is_refused(path: Path, name: str) -> None:
    content = (path / name).read_bytes()
    generator = random.Random(name)
    for at in {0, len(content) - 1, *(generator.randrange(len(content)) for _ in range(8))}:
        damaged = bytearray(content)
        damaged[at] ^= 1 << generator.randrange(8)
        (path / name).write_bytes(damaged)
        refused(path, name, "the manifest says [0-9a-f]{12}.*altered")


@pytest.mark.parametrize("seed", range(60))
def test_a_damaged_manifest_is_refused_or_means_the_same(path: Path, seed: int) -> None:
    file = path / "manifest.json"
    whole = read_bundle(path)
    content = bytearray(file.read_bytes())
    generator = random.Random(seed)
    for _ in range(generator.randrange(1, 3)):
        at = generator.randrange(len(content))
        if generator.random() < 0.5:
            content[at] = generator.randrange(256)
        else:
            del content[at : at + generator.randrange(1, 30)]
    file.write_bytes(content)
    try:
        found = read_bundle(path)
    except BundleError as error:
        assert str(path) in str(error)  # noqa: PT017
        return
    assert found.config == whole.config
    assert all(torch.equal(found.state[name], values) for name, values in whole.state.items())


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "Expecting value"),
        ("not json", "Expecting value"),
        ("[]", "is not a bundle manifest"),
        ("null", "is not a bundle manifest"),
        ("{}", "'format_version' is missing"),
        ('{"format_version": 1}', "is not a bundle manifest"),
        ('{"format_version": null}', "is not a bundle manifest"),
        ('{"format_version": "1"}', "is not a bundle manifest"),
        ('{"format_version": "2"}', "is not a bundle manifest"),
        ('{"format_version": true}', "is not a bundle manifest"),
        ('{"format_version": 0}', "is not a bundle manifest"),
        ("[" * 100_000, "is not a bundle manifest"),
        ("\ud800", "is not a bundle manifest"),
    ],
)
def test_a_manifest_of_another_kind(path: Path, text: str, reason: str) -> None:
    (path / "manifest.json").write_bytes(text.encode(errors="surrogatepass"))
    refused(path, "manifest.json", reason)


def edited(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    manifest = json.loads((path / "manifest.json").read_text())
    change(manifest)
    (path / "manifest.json").write_text(json.dumps(manifest))


def test_a_newer_format_says_what_to_do_whatever_else_it_holds(path: Path) -> None:
    edited(path, lambda manifest: manifest.update(format_version=FORMAT_VERSION + 1))
    refused(path, "manifest.json", "format version 2; this code reads up to 1: upgrade")
    (path / "manifest.json").write_text('{"format_version": 7, "files": "elsewhere"}')
    refused(path, "manifest.json", "format version 7")


@pytest.mark.parametrize("name", CONTENT)
def test_a_manifest_that_leaves_out_a_file(path: Path, name: str) -> None:
    edited(path, lambda manifest: manifest["files"].pop(name))
    refused(path, "manifest.json", f"does not list {name}")


def test_a_manifest_with_odd_fields(path: Path) -> None:
    edited(path, lambda manifest: manifest["files"].update({"config.json": {"sha256": 5}}))
    refused(path, "manifest.json", "is not a bundle manifest")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "Invalid JSON"),
        (b"\xff\xfe", "codec can't decode"),
        (b"{}", "tasks: Field required"),
        (b'{"tasks": []}', "at least one"),
        (b'{"tasks": [{"name": "a"}, {"name": "a"}]}', "names occur twice: a"),
        (b'{"tasks": [{"name": "a"}], "backbone": {"width": -1}}', r"backbone\.width"),
        (b'{"tasks": [{"name": "a"}], "later": 1}', "later: Extra inputs"),
        (b"[" * 100_000, "Invalid JSON"),
    ],
)
def test_a_configuration_that_does_not_validate(path: Path, content: bytes, reason: str) -> None:
    rewrite(path, "config.json", content)
    refused(path, "config.json", reason)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is not JSON"),
        (b"{", "is not JSON"),
        (b'{"a": "\xff"}', "is not JSON"),
        (b"[" * 100_000, "is not JSON"),
        (b"[1, 2]", "holds a JSON list, not an object"),
        (b"null", "not an object"),
    ],
)
def test_metrics_of_another_kind(path: Path, content: bytes, reason: str) -> None:
    rewrite(path, "metrics.json", content)
    refused(path, "metrics.json", reason)


def with_state(path: Path, change: Callable[[dict[str, Tensor]], object]) -> None:
    state = safetensors.torch.load_file(path / "model.safetensors")
    change(state)
    rewrite(path, "model.safetensors", safetensors.torch.save(state))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda state: state.clear(), "Missing key"),
        (lambda state: state.pop("heads.bias"), r"Missing key.*heads\.bias"),
        (lambda state: state.pop("layers.0.route.mask"), r"Missing key.*layers\.0\.route\.mask"),
        (lambda state: state.update(more=torch.zeros(1)), "Unexpected key.*more"),
        (
            lambda state: state.update({"heads.bias": torch.zeros(3)}),
            "size mismatch for heads.bias",
        ),
        (
            lambda state: state.update({"layers.3.norm.running_var": torch.ones(1, 8)}),
            "size mismatch for layers.3.norm.running_var",
        ),
    ],
)
def test_tensors_that_do_not_belong_to_the_configuration(
    path: Path, change: Callable[[dict[str, Tensor]], object], reason: str
) -> None:
    with_state(path, change)
    with pytest.raises(BundleError, match=reason) as caught:
        read_bundle(path).network()
    assert len(caught.value.message) < 800
    refused(path, "model.safetensors", r"does not fit config\.json")


@pytest.mark.parametrize("arch", ["resnet", "vgg13_bn", "vgg11"])
def test_a_configuration_of_another_network(path: Path, arch: str) -> None:
    config = make_config(backbone={"arch": arch, "norm": "batch_per_task"})
    rewrite(path, "config.json", config.to_json().encode())
    refused(path, "model.safetensors", r"does not fit config\.json")


def test_files_that_are_no_safetensors(path: Path) -> None:
    whole = (path / "model.safetensors").read_bytes()
    pickled = b"\x80\x04\x95\x10\0\0\0\0\0\0\0}."
    for content in (
        b"",
        b"\0" * 8,
        pickled,
        whole[:100],
        b"\xff" * 100,
        whole[:8] + b"x" + whole[9:],
    ):
        rewrite(path, "model.safetensors", content)
        refused(path, "model.safetensors", "is not a safetensors file")


def test_damaged_safetensors_headers_are_our_errors(path: Path) -> None:
    whole = (path / "model.safetensors").read_bytes()
    generator = random.Random(0)
    errors = 0
    for _ in range(150):
        damaged = bytearray(whole)
        damaged[generator.randrange(2000)] = generator.choice(b'{}[]":,0123456789FBIU')
        rewrite(path, "model.safetensors", bytes(damaged))
        try:
            read_bundle(path).network()
        except BundleError:
            errors += 1
    assert errors > 75
