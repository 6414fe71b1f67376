"""A bundle: one immutable published model version in a directory of plain files.

    manifest.json       format version, sha256 and size of every other file, creation time, parent,
    code version config.json         model.config.ModelConfig
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
from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors import SafetensorError
from torch import Tensor

from model.config import ModelConfig
from model.errors import BundleError, ConfigError
from model.network import RoutedNetwork

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

    format_version: int
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
            BundleError: the tensors do not belong to the configuration.
        """
        try:
            network = RoutedNetwork(self.config)
            network.load_state_dict(self.state)
        except (RuntimeError, ConfigError) as error:
            raise BundleError(
                f"{self.path / WEIGHTS} does not fit {CONFIG}: {error}", file=WEIGHTS
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
    """
    contents = {
        CONFIG: config.to_json().encode(),
        WEIGHTS: safetensors.torch.save({k: v.detach().contiguous() for k, v in state.items()}),
        METRICS: (json.dumps(metrics, indent=2, allow_nan=False) + "\n").encode(),
        CARD: card.encode(),
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
    manifest = _parse_manifest(path / MANIFEST, raw)
    contents = {}
    for name in CONTENT:
        if name not in manifest.files:
            raise BundleError(f"{path / MANIFEST} does not list {name}", file=MANIFEST)
        contents[name] = _verified(path / name, manifest.files[name])
    try:
        config = ModelConfig.from_json(contents[CONFIG].decode())
        metrics = json.loads(contents[METRICS])
        state = safetensors.torch.load(contents[WEIGHTS])
    except (ConfigError, UnicodeDecodeError) as error:
        raise BundleError(f"{path / CONFIG}: {error}", file=CONFIG) from error
    except json.JSONDecodeError as error:
        raise BundleError(f"{path / METRICS} is not JSON: {error}", file=METRICS) from error
    except SafetensorError as error:
        raise BundleError(
            f"{path / WEIGHTS} is not a safetensors file: {error}", file=WEIGHTS
        ) from error
    digest = f"sha256:{hashlib.sha256(raw).hexdigest()}"
    return Bundle(path, manifest, digest, config, state, metrics)


def _parse_manifest(path: Path, raw: bytes) -> Manifest:
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
        return Manifest.model_validate(data)
    except (ValueError, TypeError, KeyError, ValidationError) as error:
        raise BundleError(f"{path} is not a bundle manifest: {error}", file=MANIFEST) from error


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
