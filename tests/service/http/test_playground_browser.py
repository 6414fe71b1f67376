"""The pages in a real browser: right answers, errors shown, nothing loaded from elsewhere.

Needs Chromium, Node.js and the npm package playwright-core; axe-core, where it is installed beside
it, checks accessibility. TASKROUTE_NODE_MODULES names the folder with the packages.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from model.network import build
from model.repository import Repository
from service.key_file import make_key, write_keys
from tests.service.pictures import NOT_AN_IMAGE, picture
from tests.service.server_process import Server, serving

pytestmark = pytest.mark.browser

PROGRAM = Path(__file__).with_name("playground_in_browser.cjs")
WITH_KEY = Path(__file__).with_name("playground_with_key.cjs")
WITH_MODELS = Path(__file__).with_name("playground_with_models.cjs")
PACKAGES = Path(os.environ.get("TASKROUTE_NODE_MODULES", "node_modules")).resolve()


@pytest.fixture(scope="module")
def server(repository: Path) -> Iterator[Server]:
    with serving(repository) as found:
        yield found


@pytest.fixture(scope="module")
def seen(server: Server, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the browser saw; ``shot`` names the screenshot."""
    folder = tmp_path_factory.mktemp("browser")
    (folder / "photo.png").write_bytes(picture(seed=3))
    (folder / "text.txt").write_bytes(NOT_AN_IMAGE)
    found = drive(PROGRAM, server.url, str(folder), *axe())
    return found | {"shot": folder / "playground.png"}


def axe() -> list[str]:
    """The program that checks accessibility, where it is installed."""
    path = PACKAGES / "axe-core" / "axe.js"
    return [str(path)] if path.exists() else []


def drive(program: Path, *arguments: str) -> dict[str, Any]:
    """Run a program of Chromium's; what it saw."""
    chromium, node = shutil.which("chromium"), shutil.which("node")
    playwright = PACKAGES / "playwright-core"
    if chromium is None or node is None or not playwright.is_dir():
        pytest.skip(f"needs chromium, node, and {playwright} (set TASKROUTE_NODE_MODULES)")
    command = [node, str(program), str(playwright), chromium, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_the_answers_are_those_of_the_api(seen: dict[str, Any], server: Server) -> None:
    files = {"image": ("photo.png", picture(seed=3), "image/png")}
    body = httpx.post(f"{server.url}/v1/predict", files=files, data={"tasks": "shoe,kind"}).json()
    predictions = body["results"][0]["predictions"]
    assert seen["answers"] == [f"{p['task']}: {p['label']}" for p in predictions]
    assert seen["meters"] == [round(100 * p["probability"], 1) for p in predictions]
    assert seen["count"] == "2 of 12 chosen"
    assert not seen["choice"], "one model: nothing to choose"
    assert seen["model"].startswith("small, version 1: 12 tasks")
    assert "compute" in seen["cost"]
    assert "-F 'image=@photo.png'" in seen["curl"]
    assert "tasks=shoe,kind" in seen["curl"]


def test_a_text_file_is_refused_in_the_servers_words_and_the_page_goes_on(
    seen: dict[str, Any],
) -> None:
    assert "415 unsupported_image_type" in seen["problem"]
    assert seen["problemAfterwards"] == ""


def test_nothing_is_loaded_from_elsewhere_and_no_error_is_logged(seen: dict[str, Any]) -> None:
    assert seen["foreign"] == []
    assert seen["consoleBeforeError"] == []
    # The browser itself logs the refused upload; anything else would be ours.
    assert [line for line in seen["console"] if "status of 415" not in line] == []


@pytest.mark.parametrize("width", ["360", "800", "1920"])
def test_it_fits_every_width(seen: dict[str, Any], width: str) -> None:
    assert seen["overflow"][width] == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_accessibility_violation(seen: dict[str, Any], scheme: str) -> None:
    if seen["axe"][scheme] is None:
        pytest.skip("axe-core is not installed beside playwright-core")
    assert seen["axe"][scheme] == []


def test_the_api_is_shown(seen: dict[str, Any]) -> None:
    assert seen["operations"] >= 4
    assert seen["shot"].stat().st_size > 10_000


def test_with_keys_the_page_takes_one_and_keeps_it_nowhere(
    repository: Path, tmp_path: Path
) -> None:
    key, entry = make_key(["predict"])
    write_keys(tmp_path / "keys.json", [entry])
    (tmp_path / "photo.png").write_bytes(picture(seed=3))
    with serving(repository, "--api-keys-file", str(tmp_path / "keys.json")) as server:
        seen = drive(WITH_KEY, server.url, str(tmp_path / "photo.png"), key)
        assert not [line for line in server.log if key.rsplit("_", 1)[1] in str(line)]
    assert "401 key_required" in seen["without"]
    assert seen["with"] == ""
    assert seen["answers"] == 12
    assert "$TASKROUTE_API_KEY" in seen["curl"]
    assert key not in seen["curl"]
    assert not [url for url in seen["urls"] if key in url]
    assert (seen["stored"], seen["kept"]) == ([0, 0, 0], "")


def test_of_several_models_one_is_chosen_by_keyboard(repository: Path, tmp_path: Path) -> None:
    shutil.copytree(repository, tmp_path / "models")
    network = Repository(tmp_path / "models").read("small").network()
    two = network.config.model_copy(update={"tasks": network.config.tasks[:2]})
    Repository(tmp_path / "models").publish("other", build(two, seed=1), {}, "# other\n")
    (tmp_path / "photo.png").write_bytes(picture(seed=3))
    with serving(tmp_path / "models", "--model", "small,other") as server:
        photo = str(tmp_path / "photo.png")
        seen = drive(WITH_MODELS, server.url, photo, "small", "other", *axe())
        files = {"image": ("photo.png", picture(seed=3), "image/png")}
        body = httpx.post(f"{server.url}/v1/predict?model=other", files=files).json()
    assert seen["choices"] == ["small", "other"]
    assert seen["tasks"] == ["t0", "t1"]
    assert seen["answers"] == [
        f"{p['task']}: {p['label']}" for p in body["results"][0]["predictions"]
    ]
    assert "/v1/predict?model=small'" in seen["curlFirst"]
    assert "/v1/predict?model=other'" in seen["curl"]
    assert (seen["focus"], seen["console"], seen["overflow"]) == ("choice", [], 0)
    assert seen["axe"] in ([], None)
