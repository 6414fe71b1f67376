"""Builds both images from a clean clone, as somebody would who has just got the repository."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

from tests.conftest import ROOT
from tests.deploy.docker_engine import Engine, cache_folder

SERVICE = "taskroute-service:test"
TRAINING = "taskroute-training:test"
WITHOUT_KERNELS = "taskroute-service:test-without-kernels"
_BUILD_LIMIT_S = 3600  # two busy cores, and PyTorch for each
# Layers of earlier sources, a gigabyte or two each time; the libraries' stay, being in use.
_KEPT_LAYERS = "12gb"
_CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")


# Target and further arguments of each image.
_IMAGES = {
    SERVICE: ("service", ()),
    TRAINING: ("training", ()),
    WITHOUT_KERNELS: ("service", ("--build-arg", "BUILD_PACKAGES=")),
}


def build(engine: Engine, folder: Path) -> None:
    """Clone into ``folder`` and build every image.

    With an engine of our own the base images are made here, and what this machine's pip is
    configured to use (certificates, wheels on disk) is visible to the builder only.
    """
    clone = folder / "clone"
    subprocess.run(["git", "clone", "--quiet", "--no-local", ROOT, clone], check=True)
    given = [] if not engine.environment else _own_bases(engine, folder)
    for tag, (target, more) in _IMAGES.items():
        arguments = ["build", "--network", "host", "--progress", "plain", "--target", target]
        arguments += [*given, *more, "--tag", tag]
        done = engine.attempt(*arguments, clone, limit_s=_BUILD_LIMIT_S)
        assert done.returncode == 0, f"{tag}: {done.stderr[-6000:]}"
    if engine.environment:  # our own: somebody else's layers are not ours to remove
        engine.docker("image", "prune", "--force")
        engine.docker("builder", "prune", "--force", "--keep-storage", _KEPT_LAYERS, limit_s=600)


def _own_bases(engine: Engine, folder: Path) -> list[str]:
    """Make the base and builder images; returns the build arguments that name them."""
    cache = cache_folder()
    assert cache is not None
    base, builder = "taskroute-base:test", "taskroute-builder:test"
    if engine.attempt("image", "inspect", base).returncode != 0:
        packed = ["tar", "-C", str(cache / "base"), "-c", "."]
        with subprocess.Popen(packed, stdout=subprocess.PIPE) as archive:
            subprocess.run(
                ["docker", "import", "-", base],
                stdin=archive.stdout,
                env=engine.environment,
                check=True,
                capture_output=True,
            )
        assert archive.returncode == 0
    context = folder / "builder"
    arguments = _pip_of_this_machine(context)
    (context / "Dockerfile").write_text(f"FROM {base}\nCOPY files /\n")
    engine.docker("build", "--tag", builder, context, limit_s=_BUILD_LIMIT_S)
    named = ["--build-arg", f"BASE_IMAGE={base}", "--build-arg", f"BUILDER_IMAGE={builder}"]
    return [*named, *arguments]


def _pip_of_this_machine(context: Path) -> list[str]:
    """Lay out the builder's certificates, pip.conf and wheels; returns further build arguments."""
    files = context / "files"
    lines = ["[global]"]
    if _CERTIFICATES.exists():
        _copy(_CERTIFICATES, files)
        lines.append(f"cert = {_CERTIFICATES}")
    arguments = []
    wheels = _pip_setting("find-links")
    if wheels and Path(wheels).is_dir():
        lines.append(f"find-links = {wheels}")
        for wheel in sorted(Path(wheels).glob("torch-*+cpu-*.whl")):
            _copy(wheel, files)
            version = re.sub(r"^torch-([^-]+)-.*", r"\1", wheel.name)
            arguments = ["--build-arg", f"TORCH_VERSION={version}"]
    if arguments:  # a wheel for the CPU at hand: no other index
        arguments += ["--build-arg", "TORCH_INDEX="]
    configuration = files / "etc/pip.conf"
    configuration.parent.mkdir(parents=True, exist_ok=True)
    configuration.write_text("\n".join(lines) + "\n")
    return arguments


def _copy(source: Path, files: Path) -> None:
    target = files / source.relative_to("/")
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(source.read_bytes())


def _pip_setting(name: str) -> str:
    command = [sys.executable, "-m", "pip", "config", "get", f"global.{name}"]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    return found.stdout.strip()


def describe(engine: Engine, image: str) -> dict[str, object]:
    """``docker image inspect``."""
    found: list[dict[str, object]] = json.loads(engine.docker("image", "inspect", image))
    return found[0]
