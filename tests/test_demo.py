"""The parts of `make demo` that need neither a trained model nor a running service."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deploy import demo
from training.sources import open_source


def test_a_taken_port_is_reported_before_any_training(root: Path, tmp_path: Path) -> None:
    with socket.create_server((demo.HOST, 0)) as taken:
        port = taken.getsockname()[1]
        done = subprocess.run(
            [sys.executable, "deploy/demo.py", "--repository", tmp_path, "--port", str(port)],
            cwd=root,
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 1
    assert f"make demo DEMO_PORT={port + 1}" in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_a_free_port_is_accepted() -> None:
    with socket.create_server((demo.HOST, 0)) as probe:
        port = probe.getsockname()[1]
    demo.require_free_port(port)


def test_the_photos_are_one_unseen_image_of_each_class(tmp_path: Path) -> None:
    photos = demo.write_photos(tmp_path)
    data = open_source(demo.DATA)
    unseen = {
        np.asarray(data.images.read(int(index)), dtype=np.uint8).tobytes()
        for index in data.indices("test")
    }
    assert len({photo.truth["category"] for photo in photos}) == len(photos) == 10
    for photo in photos:
        with Image.open(photo.path) as image:
            assert np.asarray(image).tobytes() in unseen
    boot = next(photo for photo in photos if photo.truth["category"] == "Ankle boot")
    assert boot.truth == {
        "category": "Ankle boot",
        "footwear": "yes",
        "long_sleeves": "no",
        "worn_on": "feet",
    }


def test_a_failed_training_is_an_error_that_names_the_exit_code(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(demo, "RECIPE", tmp_path / "missing.toml")
    with pytest.raises(demo.DemoError, match=r"exit code [12]"):
        demo.train(tmp_path / "repository")


def test_a_service_that_ends_at_once_is_reported_with_its_log(tmp_path: Path) -> None:
    with (
        pytest.raises(demo.DemoError, match=rf"exit code \d+; see {tmp_path}/service\.log"),
        demo.service(tmp_path, port=99_999),
    ):
        pass
