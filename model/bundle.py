"""A bundle: one immutable published model version in a directory of plain files.

    manifest.json       format version, sha256 and size of every other file; when, how, from what
    config.json         model.config.ModelConfig
    model.safetensors   weights, routes, batch-norm statistics
    metrics.json        held-out figures
    README.md           model card

No pickle anywhere. Every byte is checked against the manifest before it is used.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import safetensors.torch
from pydantic import BaseModel, ConfigDict, Field
from safetensors import SafetensorError
from torch import Tensor

from model.config import ModelConfig
from model.errors import BundleError, ConfigError
from model.families import unfilled
from model.network import RoutedNetwork
from model.task_network import TaskNetwork

FORMAT_VERSION = 1
MANIFEST = "manifest.json"
CONFIG = "config.json"
WEIGHTS = "model.safetensors"
METRICS = "metrics.json"
CARD = "README.md"
CONTENT = (CONFIG, WEIGHTS, METRICS, CARD)


class FileEntry(BaseModel):
    """What the manifest says about one file."""

    sha256: str
    bytes: int


class Parent(BaseModel):
    """The version that a bundle was derived from."""

    version: int
    digest: str


class Manifest(BaseModel):
    """``manifest.json``. Unknown fields are kept out of the way of later minor additions."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    # Strict: "2" must not pass for a 2 that the check for newer formats did not see.
    format_version: int = Field(strict=True, ge=1)
    created_at: str
    code_version: str
    parent: Parent | None = None
    files: dict[str, FileEntry]


@dataclass(frozen=True, eq=False)
class Bundle:
    """A verified bundle in memory."""

    path: Path
    manifest: Manifest
    digest: str  # "sha256:..." of manifest.json, which in turn holds the digest of everything else
    config: ModelConfig
    state: dict[str, Tensor]
    metrics: dict[str, Any]

    def network(self) -> RoutedNetwork:
        """The routed network with these weights, in evaluation mode.

        Raises:
            ConfigError: a network of another family, see :meth:`any_network`.
            BundleError: the tensors do not belong to the configuration.
        """
        network = self.any_network()
        if not isinstance(network, RoutedNetwork):
            raise ConfigError(
                f"{self.path} is a network of family {self.config.family!r}, where every task has "
                "a trunk of its own: there are no routes to plan, cut, extend or merge; this works "
                "on family 'routed' only",
                family=self.config.family,
            )
        return network

    def any_network(self) -> TaskNetwork:
        """The network with these weights, whatever its family, in evaluation mode.

        Raises:
            BundleError: the tensors do not belong to the configuration.
        """
        try:
            network = unfilled(self.config)
            network.load_state_dict(self.state)
        except (RuntimeError, ConfigError) as error:
            reason = " ".join(str(error).split())[:500]  # torch lists every tensor, a line each
            raise BundleError(
                f"{self.path / WEIGHTS} does not fit {CONFIG}: {reason}", file=WEIGHTS
            ) from error
        return network.eval()


def write_bundle(
    path: Path,
    config: ModelConfig,
    state: Mapping[str, Tensor],
    metrics: Mapping[str, Any],
    card: str,
    parent: Parent | None = None,
) -> None:
    """Write and flush every file of a bundle into the existing, empty directory ``path``.

    Readers must not see the directory yet: publishing is
    :meth:`model.repository.Repository.publish`.

    Raises:
        BundleError: metrics or a card that cannot be stored, NaN for one.
        OSError: the files cannot be written.
    """
    contents = {
        CONFIG: config.to_json().encode(),
        WEIGHTS: safetensors.torch.save({k: v.detach().contiguous() for k, v in state.items()}),
        METRICS: _metrics_json(metrics),
        CARD: card.encode(errors="replace"),
    }
    manifest = Manifest(
        format_version=FORMAT_VERSION,
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
        code_version=_code_version(),
        parent=parent,
        files={
            name: FileEntry(sha256=hashlib.sha256(data).hexdigest(), bytes=len(data))
            for name, data in contents.items()
        },
    )
    for name, data in (*contents.items(), (MANIFEST, manifest.model_dump_json(indent=2).encode())):
        with (path / name).open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())


def read_bundle(path: Path) -> Bundle:
    """Read and verify a bundle.

    Raises:
        BundleError: a file is missing, truncated, altered or malformed, or the format is newer than
            this code; the message names the file and the reason.
    """
    raw = _read(path / MANIFEST)
    manifest = parse_manifest(path / MANIFEST, raw)
    contents = {name: _verified(path / name, manifest.files[name]) for name in CONTENT}
    config = _parse_config(path / CONFIG, contents[CONFIG])
    metrics = _parse_metrics(path / METRICS, contents[METRICS])
    try:
        state = safetensors.torch.load(contents[WEIGHTS])
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise BundleError(
            f"{path / WEIGHTS} is not a safetensors file: {error}", file=WEIGHTS
        ) from error
    digest = f"sha256:{hashlib.sha256(raw).hexdigest()}"
    return Bundle(path, manifest, digest, config, state, metrics)


def _metrics_json(metrics: Mapping[str, Any]) -> bytes:
    try:
        return (json.dumps(metrics, indent=2, allow_nan=False) + "\n").encode()
    except (ValueError, TypeError) as error:
        raise BundleError(
            f"{METRICS} cannot be written: {error} (an undefined figure is None, not NaN)",
            file=METRICS,
        ) from error


def _parse_config(path: Path, raw: bytes) -> ModelConfig:
    try:
        return ModelConfig.from_json(raw.decode())
    except (ConfigError, UnicodeDecodeError) as error:
        raise BundleError(f"{path}: {error}", file=CONFIG) from error


def _parse_metrics(path: Path, raw: bytes) -> dict[str, Any]:
    try:
        metrics = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise BundleError(f"{path} is not JSON: {error}", file=METRICS) from error
    if not isinstance(metrics, dict):
        raise BundleError(
            f"{path} holds a JSON {type(metrics).__name__}, not an object", file=METRICS
        )
    return metrics


def parse_manifest(path: Path | str, raw: bytes) -> Manifest:
    """The manifest in ``raw``; ``path`` is for messages.

    Raises:
        BundleError: it is none, or of a newer format.
    """
    try:
        data = json.loads(raw)
        found = data["format_version"]
        if isinstance(found, int) and found > FORMAT_VERSION:
            # Before validation: a newer format may have other fields.
            raise BundleError(
                f"{path} has format version {found}; this code reads up to {FORMAT_VERSION}: "
                "upgrade the software or publish with the older one",
                file=MANIFEST,
                format_version=found,
            )
        manifest = Manifest.model_validate(data)
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        reason = f"{error} is missing" if isinstance(error, KeyError) else error
        raise BundleError(f"{path} is not a bundle manifest: {reason}", file=MANIFEST) from error
    if missing := [name for name in CONTENT if name not in manifest.files]:
        raise BundleError(f"{path} does not list {', '.join(missing)}", file=MANIFEST)
    return manifest


def _verified(path: Path, entry: FileEntry) -> bytes:
    data = _read(path)
    if len(data) != entry.bytes:
        raise BundleError(
            f"{path} has {len(data)} bytes, the manifest says {entry.bytes}: truncated or altered",
            file=path.name,
        )
    found = hashlib.sha256(data).hexdigest()
    if found != entry.sha256:
        raise BundleError(
            f"{path} has sha256 {found[:12]}..., the manifest says {entry.sha256[:12]}...: altered",
            file=path.name,
        )
    return data


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        reason = error.strerror or str(error)
        raise BundleError(f"{path} cannot be read: {reason}", file=path.name) from error


def _code_version() -> str:
    try:
        return version("taskroute")
    except PackageNotFoundError:
        return "unknown"
