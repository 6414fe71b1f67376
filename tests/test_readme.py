"""Every command that the README and the pages for its readers show works when pasted.

The blocks are run as they stand, in a folder that looks like a checkout after `make demo`. Replaced
are the port and the interpreter's path; `train` gets flags that make it short. `make demo` and
`make test` themselves are too slow here; that they and all other targets exist is checked.
"""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from PIL import Image

from deploy import demo
from tests.conftest import ROOT
from training.sources import open_source

PAGES = ("README.md", "docs/api.md", "docs/bulk.md", "docs/training.md", "docs/new-data.md")
TEXT = "\n".join((ROOT / page).read_text(encoding="utf-8") for page in PAGES)
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
LINES = [line for kind, text in BLOCKS if kind == "sh" for line in text.splitlines() if line]
CURL = [line for line in LINES if line.startswith("curl ")]
TRAINING = [line for line in LINES if line.startswith(".venv/bin/python -m training ")]
SERVICE = [line for line in LINES if line.startswith(".venv/bin/python -m service ")]
BULK = [line for line in LINES if line.startswith(".venv/bin/python -m service.bulk ")]
PROGRAMS = [text for kind, text in BLOCKS if kind == "python"]
TABLES = [text for kind, text in BLOCKS if kind == "csv"]
ANSWERS = [text for kind, text in BLOCKS if kind == "json"]
# Enough to answer, not to answer well: what the commands do is under test, not the model.
QUICK = "--epochs 0.2 --width 0.125 --image-size 28 --norm batch --routed-layers last:1"
DEMO_TASKS = "category,footwear,outerwear,group:cut,worn_on"


def free_port() -> int:
    with socket.create_server((demo.HOST, 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


def run(command: str, folder: Path) -> str:
    """Run one pasted line; returns what it printed."""
    done = subprocess.run(
        ["bash", "-c", command.replace(".venv/bin/python", sys.executable)],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what `make demo` leaves behind: a published bundle, and unseen images."""
    folder = tmp_path_factory.mktemp("readme")
    repository = folder / "build/demo"
    command = [sys.executable, "-m", "training", "train", "--data", demo.DATA]
    command += ["--repository", str(repository), "--name", demo.NAME]
    command += ["--tasks", DEMO_TASKS, *QUICK.split()]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    demo.write_photos(repository / "images")
    return folder


@pytest.fixture(scope="module")
def url(workspace: Path) -> Iterator[str]:
    """A running service, as `make serve` starts it, on a free port."""
    with demo.service(workspace / "build/demo", free_port()) as (_, base):
        yield base


def test_every_block_is_of_a_kind_that_is_tested() -> None:
    assert {kind for kind, _ in BLOCKS} == {"sh", "python", "csv", "json"}
    make = {line for line in LINES if line.startswith("make ")}
    assert set(LINES) == make | {*CURL, *TRAINING, *SERVICE, *BULK}
    assert min(map(len, (make, CURL, TRAINING, SERVICE, BULK, PROGRAMS, TABLES))) > 0


@pytest.mark.parametrize("target", sorted(set(re.findall(r"\bmake ([a-z][a-z-]*)", TEXT))))
def test_every_make_target_exists(target: str) -> None:
    make = shutil.which("make")
    assert make
    dry = subprocess.run(
        [make, "-n", target], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert dry.returncode == 0, dry.stderr
    assert re.search(rf"^{target}:.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE)


@pytest.mark.parametrize("command", CURL)
def test_curl(command: str, workspace: Path, url: str) -> None:
    printed = run(command.replace("http://127.0.0.1:8000", url), workspace)
    answer = json.loads(printed)
    assert "error" not in answer, printed


def test_the_first_curl_answers_what_was_asked(workspace: Path, url: str) -> None:
    printed = run(CURL[0].replace("http://127.0.0.1:8000", url), workspace)
    predictions = json.loads(printed)["results"][0]["predictions"]
    assert [p["task"] for p in predictions] == ["category", "footwear"]
    assert predictions[1]["label"] in {"yes", "no"}
    assert 0.0 <= predictions[1]["probability"] <= 1.0


def test_the_answer_that_is_shown_has_the_fields_of_a_real_one(workspace: Path, url: str) -> None:
    real = json.loads(run(CURL[0].replace("http://127.0.0.1:8000", url), workspace))
    [shown] = map(json.loads, ANSWERS)
    assert shown.keys() == real.keys()
    assert shown["model"].keys() == real["model"].keys()
    assert shown["timing_ms"].keys() == real["timing_ms"].keys()
    [shown_result], [real_result] = shown["results"], real["results"]
    assert shown_result.keys() == real_result.keys()
    fields = {one["task"]: one.keys() for one in real_result["predictions"]}
    assert {one["task"]: one.keys() for one in shown_result["predictions"]} == fields


@pytest.mark.parametrize("program", PROGRAMS)
def test_python_programs(program: str, workspace: Path, url: str) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-"],
        input=program.replace("http://127.0.0.1:8000", url),
        cwd=workspace,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 10  # one for each image in build/demo/images


def test_the_demo_marks_every_answer_right_or_wrong(
    workspace: Path, url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    photos = demo.write_photos(workspace / "build/demo/images")
    right, asked = demo.show_answers(url, photos)
    printed = capsys.readouterr().out
    assert asked == len(photos) * len(demo.TASKS) == printed.count("✓") + printed.count("✗")
    assert right == printed.count("✓")


def test_bulk_scores_every_image(workspace: Path) -> None:
    assert "10 images in 1 files" in run(BULK[0], workspace)
    lines = (workspace / "build/scores/part-000000.jsonl").read_text().splitlines()
    assert [len(json.loads(line)["predictions"]) for line in lines] == [5] * 10


def write_own_images(folder: Path) -> None:
    """Write the README's own tables, repeated until they can be trained on, and their images."""
    (folder / "photos").mkdir(parents=True)
    for name, table in zip(("photos.csv", "pockets.csv"), TABLES, strict=True):
        write_table(folder, name, table)


def write_table(folder: Path, name: str, table: str) -> None:
    rows = list(csv.DictReader(io.StringIO(table)))
    data = open_source(demo.DATA)
    with (folder / name).open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        for number in range(8):
            for position, row in enumerate(rows):
                path = Path(row["image"])
                path = path.with_stem(f"{path.stem}-{number}") if number else path
                pixels = data.images.read(len(rows) * number + position)
                assert not isinstance(pixels, bytes)
                Image.fromarray(pixels).save(folder / path)
                writer.writerow(row | {"image": path})


def test_own_images_are_trained_on_evaluated_given_a_task_and_served(workspace: Path) -> None:
    write_own_images(workspace / "mine")
    for command in TRAINING:
        run(f"{command} {QUICK}" if " train " in command else command, workspace)
    assert json.loads((workspace / "build/mine/test.json").read_text())
    port = free_port()
    command = SERVICE[0].replace(".venv/bin/python", sys.executable).replace("8001", str(port))
    log = workspace / "mine.log"
    with log.open("wb") as output:
        process = subprocess.Popen(command.split(), cwd=workspace, stdout=output, stderr=output)
    try:
        base = f"http://127.0.0.1:{port}"
        demo.wait_until_ready(process, base, log)
        names = [task["name"] for task in httpx.get(f"{base}/v1/tasks").json()["tasks"]]
        assert names == ["colour", "striped", "pocket"]
    finally:
        process.terminate()
        code = process.wait(demo.STOP_LIMIT_S)
    assert code in (0, -signal.SIGTERM)  # uvicorn passes the signal on once it has stopped
