"""The real thing: `python -m service.bulk` on 20,000 images, killed twice; and two Ray workers.

The Ray test needs an interpreter that has Ray Data: this one (extra ray), or the one that
TASKROUTE_RAY_PYTHON names, where torch and `ray[data]` are installed.
"""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.service.pictures import NOT_AN_IMAGE, picture

COUNT = 20_000
BAD = 17
DISTINCT = 50
PER_PART = 2000
RAY_PYTHON = "TASKROUTE_RAY_PYTHON"


def command(
    repository: Path, photos: Path, out: Path, *more: str, python: str = sys.executable
) -> list[str]:
    base = [python, "-m", "service.bulk", "--repository", str(repository)]
    base += ["--model", "small", "--input", str(photos), "--out", str(out), "--format", "jsonl"]
    base += ["--strategy", "subnet", "--threads", "1", "--batch-images", "64"]
    return [*base, *more]


def write_photos(folder: Path, count: int) -> Path:
    """Many names of few files."""
    distinct = folder.with_name("distinct")
    distinct.mkdir()
    for number in range(DISTINCT):
        data = picture(seed=number, size=(30, 28), kind="JPEG")
        (distinct / f"{number}.jpg").write_bytes(data)
    folder.mkdir()
    for index in range(count):
        if index != BAD:
            (folder / f"{index:05}.jpg").hardlink_to(distinct / f"{index % DISTINCT}.jpg")
    (folder / f"{BAD:05}.jpg").write_bytes(NOT_AN_IMAGE)
    return folder


def files(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(out.glob("part-*"))}


def parts(out: Path) -> int:
    return len(list(out.glob("part-*")))


def lines_of_unfinished_part(out: Path) -> int:
    """Whole lines in what is being written."""
    staged = list((out / ".bulk").glob("*.part"))
    return sum(path.read_bytes().count(b"\n") for path in staged)


def signalled(started: list[str], sign: int, seen: Callable[[], bool]) -> tuple[int, str]:
    """Run the command until ``seen``, and send it a signal while that is so."""
    process = subprocess.Popen(started, stderr=subprocess.PIPE, text=True)
    until = time.monotonic() + 600
    while True:
        if process.poll() is not None or time.monotonic() > until:
            process.kill()
            pytest.fail(f"not seen before it ended: {process.communicate()[1]}")
        if seen():
            process.send_signal(signal.SIGSTOP)
            os.waitid(os.P_PID, process.pid, os.WSTOPPED)
            if seen():  # and stays so
                break
            process.send_signal(signal.SIGCONT)
        time.sleep(0.005)
    process.send_signal(sign)
    process.send_signal(signal.SIGCONT)
    _, said = process.communicate(timeout=120)
    return process.returncode, said


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_killed_twice_and_resumed_each_image_is_scored_exactly_once(
    repository: Path, tmp_path: Path
) -> None:
    photos, out = write_photos(tmp_path / "photos", COUNT), tmp_path / "out"
    sizes = ("--images-per-part", str(PER_PART))
    started = command(repository, photos, out, *sizes)
    code, _ = signalled(started, signal.SIGKILL, lambda: parts(out) == 2)
    assert (code, parts(out)) == (-signal.SIGKILL, 2)

    def in_the_middle_of_the_sixth() -> bool:
        return parts(out) == 5 and 200 < lines_of_unfinished_part(out) < PER_PART

    code, _ = signalled(started, signal.SIGKILL, in_the_middle_of_the_sixth)
    assert code == -signal.SIGKILL
    assert in_the_middle_of_the_sixth()

    done = subprocess.run(started, capture_output=True, text=True, check=False)
    assert done.returncode == 3, done.stderr
    assert f"{COUNT} images in 10 files" in done.stdout
    assert "going on: 5 of 10 parts are there, small version 1\n" in done.stderr
    lines = [json.loads(line) for data in files(out).values() for line in data.splitlines()]
    assert [line["image"] for line in lines] == [f"{index:05}.jpg" for index in range(COUNT)]
    assert [index for index, line in enumerate(lines) if "error" in line] == [BAD]
    assert not list((out / ".bulk").glob("*.part*"))

    whole = subprocess.run(
        command(repository, photos, tmp_path / "whole", *sizes), capture_output=True, check=False
    )
    assert whole.returncode == 3
    assert files(out) == files(tmp_path / "whole")


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_sigterm_leaves_whole_parts_and_says_how_it_goes_on(
    repository: Path, tmp_path: Path
) -> None:
    photos, out = write_photos(tmp_path / "photos", 3000), tmp_path / "out"
    started = command(repository, photos, out, "--images-per-part", "500")
    code, said = signalled(
        started, signal.SIGTERM, lambda: parts(out) == 2 and 0 < lines_of_unfinished_part(out) < 300
    )
    assert (code, parts(out)) == (1, 2)
    assert said.endswith("interrupted; the same command goes on with the parts that are missing\n")
    assert not list((out / ".bulk").glob("*.part"))
    assert all(data.endswith(b"}\n") for data in files(out).values())
    assert [data.count(b"\n") for data in files(out).values()] == [500, 500]


def ray_python() -> str:
    """The interpreter that has Ray."""
    if importlib.util.find_spec("ray") is not None:
        return sys.executable
    if RAY_PYTHON not in os.environ:
        pytest.skip(f"Ray is not installed (extra ray), and {RAY_PYTHON} names no other Python")
    return os.environ[RAY_PYTHON]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_two_ray_workers_write_the_same_bytes(repository: Path, tmp_path: Path) -> None:
    python = ray_python()
    photos = write_photos(tmp_path / "photos", 400)
    sizes = ("--images-per-part", "100")
    for name, more in (("alone", ()), ("ray", ("--ray-workers", "2"))):
        made = command(repository, photos, tmp_path / name, *sizes, *more, python=python)
        done = subprocess.run(made, capture_output=True, text=True, check=False)
        assert done.returncode == 3, done.stderr
    assert files(tmp_path / "ray") == files(tmp_path / "alone")
    assert len(files(tmp_path / "ray")) == 4
