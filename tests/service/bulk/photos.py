"""Folders and tar shards of small pictures."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Mapping
from pathlib import Path

from tests.service.pictures import NOT_AN_IMAGE, TRUNCATED, picture


def contents(count: int) -> dict[str, bytes]:
    """Pictures by name, the third no picture and the sixth a truncated one."""
    found = {f"{index:05}.png": picture(seed=index) for index in range(count)}
    return found | {"00002.png": NOT_AN_IMAGE, "00005.png": TRUNCATED}


def write_folder(folder: Path, files: Mapping[str, bytes]) -> Path:
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return folder


def write_shard(path: Path, files: Mapping[str, bytes]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", format=tarfile.GNU_FORMAT) as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path
