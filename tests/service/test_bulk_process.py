"""The real thing: `python -m service.bulk` on 20,000 images, killed twice; and two Ray workers."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.service.pictures import NOT_AN_IMAGE, picture

COUNT = 20_000
BAD = 17


def command(repository: Path, photos: Path, out: Path, *more: str) -> list[str]:
    base = [sys.executable, "-m", "service.bulk", "--repository", str(repository)]
    base += ["--model", "small", "--input", str(photos), "--out", str(out), "--format", "jsonl"]
    base += ["--strategy", "subnet", "--threads", "1", "--batch-images", "64"]
    return [*base, *more]


def write_photos(folder: Path, count: int) -> Path:
    """Many files of few pictures."""
    pictures = [picture(seed=seed, size=(30, 28)) for seed in range(50)]
    folder.mkdir()
    for index in range(count):
        bad = index == BAD
        data = NOT_AN_IMAGE if bad else pictures[index % len(pictures)]
        (folder / f"{index:05}.png").write_bytes(data)
    return folder


def files(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(out.glob("part-*"))}


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_killed_twice_and_resumed_each_image_is_scored_exactly_once(
    repository: Path, tmp_path: Path
) -> None:
    photos, out = write_photos(tmp_path / "photos", COUNT), tmp_path / "out"
    started = command(repository, photos, out, "--images-per-part", "1000")
    before = 0
    for _ in range(2):
        process = subprocess.Popen(started, stderr=subprocess.DEVNULL)
        until = time.monotonic() + 600
        while len(files(out)) < before + 3:
            assert process.poll() is None, "it ended before it could be killed"
            assert time.monotonic() < until
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGKILL)
        process.wait(60)
        before = len(files(out))
        assert 0 < before < COUNT // 1000
    done = subprocess.run(started, capture_output=True, text=True, check=False)
    assert done.returncode == 3, done.stderr
    assert f"{COUNT} images in 20 files" in done.stdout
    lines = [json.loads(line) for data in files(out).values() for line in data.splitlines()]
    assert [line["image"] for line in lines] == [f"{index:05}.png" for index in range(COUNT)]
    assert [index for index, line in enumerate(lines) if "error" in line] == [BAD]
    by_picture: dict[int, set[str]] = {}
    for index, line in enumerate(lines):
        if index != BAD:
            rounded = [round(one["probability"], 4) for one in line["predictions"]]
            by_picture.setdefault(index % 50, set()).add(str(rounded))
    assert max(map(len, by_picture.values())) <= 2, "one picture's answers differ by its neighbours"
    assert not list((out / ".bulk").glob("*.part*"))


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_two_ray_workers_write_the_same_bytes(repository: Path, tmp_path: Path) -> None:
    if importlib.util.find_spec("ray") is None:
        pytest.skip("Ray is not installed (extra ray)")
    photos = write_photos(tmp_path / "photos", 400)
    sizes = ("--images-per-part", "100")
    for name, more in (("alone", ()), ("ray", ("--ray-workers", "2"))):
        made = command(repository, photos, tmp_path / name, *sizes, *more)
        done = subprocess.run(made, capture_output=True, text=True, check=False)
        assert done.returncode == 3, done.stderr
    assert files(tmp_path / "ray") == files(tmp_path / "alone")
    assert len(files(tmp_path / "ray")) == 4
