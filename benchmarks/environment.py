"""A virtual environment for each peer, with torch shared from this one instead of reinstalled.

A peer's own packages come first on its path; whatever it did not install (torch, safetensors,
the libraries that ``model`` needs) is found in this environment through a ``.pth`` file. The file
is written after the installation, so that pip sees an empty environment and touches nothing else.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from benchmarks.peers.base import Peer

INSTALL_LIMIT_S = 1200
_MARK = "installed.json"
_SYSTEM_PYTHON = Path("/usr/bin")


class PeerUnavailableError(Exception):
    """The peer cannot be installed or started here; the text says why."""


def peer_python(peer: Peer, cache: Path) -> Path:
    """The interpreter of ``peer``'s environment, which is made if it is not there yet.

    Raises:
        PeerUnavailableError: a program is missing or the installation failed.
    """
    for program in peer.programs:
        if shutil.which(program) is None:
            raise PeerUnavailableError(f"{program} is not installed")
    if not peer.packages:
        return Path(sys.executable)
    folder = cache.resolve() / peer.name
    python = folder / "bin/python"
    wanted = json.dumps({"packages": peer.packages, "shared": str(_shared_packages())})
    mark = folder / _MARK
    if mark.is_file() and mark.read_text() == wanted and python.exists():
        return python
    if folder.exists():
        shutil.rmtree(folder)
    print(f"{peer.name}: installing {', '.join(peer.packages)}", flush=True)
    _install(peer, folder, python)
    _packages_of(folder).joinpath("zz_shared.pth").write_text(f"{_shared_packages()}\n")
    mark.write_text(wanted)
    return python


def _install(peer: Peer, folder: Path, python: Path) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    log = folder.with_name(f"{peer.name}-install.log")
    constraints = folder.with_name(f"{peer.name}-constraints.txt")
    # Decoding is part of what is measured, so every peer decodes with the same library.
    constraints.write_text(f"pillow=={importlib.metadata.version('pillow')}\n")
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--no-input"]
    steps = [
        [str(_interpreter(peer)), "-m", "venv", "--without-pip", str(folder)],
        [*pip, "-c", str(constraints), *peer.packages],
    ]
    with log.open("w") as output:
        for step in steps:
            try:
                code = subprocess.run(
                    step, stdout=output, stderr=subprocess.STDOUT, timeout=INSTALL_LIMIT_S
                ).returncode
            except subprocess.TimeoutExpired as error:
                raise PeerUnavailableError(
                    f"the installation took more than {INSTALL_LIMIT_S} s; see {log.name}"
                ) from error
            if code != 0:
                raise PeerUnavailableError(
                    f"installation failed (exit {code}): {_last_error(log)}; see {log.name}"
                )


def _interpreter(peer: Peer) -> Path:
    """Must have this interpreter's minor version, or the shared torch could not be loaded."""
    if not peer.system_python:
        return Path(sys.executable)
    wanted = _SYSTEM_PYTHON / f"python3.{sys.version_info.minor}"
    if not os.access(wanted, os.X_OK):
        raise PeerUnavailableError(f"needs the distribution's own {wanted.name}")
    return wanted


def _shared_packages() -> Path:
    spec = importlib.util.find_spec("torch")
    if spec is None or spec.origin is None:
        raise PeerUnavailableError("torch is not installed in this environment")
    return Path(spec.origin).parent.parent


def _packages_of(folder: Path) -> Path:
    return folder / f"lib/python3.{sys.version_info.minor}/site-packages"


def _last_error(log: Path) -> str:
    lines = [line for line in log.read_text(errors="replace").splitlines() if "ERROR" in line]
    return lines[-1].strip()[:300] if lines else "no error line"
