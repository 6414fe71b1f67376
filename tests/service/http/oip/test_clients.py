"""Clients of others, unmodified, against a server process: tritonclient[http] and KServe's."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from tests.conftest import ROOT
from tests.service.pictures import NOT_AN_IMAGE, picture
from tests.service.server_process import Server, serving
from tests.service.small_model import TASKS

# KServe's client needs an older protobuf and dateutil than ours: an environment of its own.
KSERVE = Path(os.environ.get("KSERVE_PYTHON") or ROOT / "build" / "kserve" / "bin" / "python")
IMAGES = [picture(seed=seed) for seed in range(3)]
KINDS = ("boot", "coat", "bag", "shirt")


@pytest.fixture(scope="module")
def server(repository: Path) -> Iterator[Server]:
    with serving(repository) as found:
        yield found


@pytest.fixture(scope="module")
def expected(server: Server) -> dict[str, list[list[float]]]:
    """Task -> image -> probabilities, by /v1/predict."""
    files = [("image", (str(index), image)) for index, image in enumerate(IMAGES)]
    found: dict[str, list[list[float]]] = {}
    for image in httpx.post(f"{server.url}/v1/predict", files=files).json()["results"]:
        for row in image["predictions"]:
            yes = row["probability"]
            values = (
                list(row["probabilities"].values()) if "probabilities" in row else [1 - yes, yes]
            )
            found.setdefault(row["task"], []).append(values)
    return found


class TestTriton:
    """The package ``tritonclient[http]``."""

    @pytest.fixture
    def http(self) -> Any:
        return pytest.importorskip(
            "tritonclient.http", reason="tritonclient[http] is not installed (extra dev)"
        )

    @pytest.fixture
    def client(self, http: Any, server: Server) -> Iterator[Any]:
        found = http.InferenceServerClient(server.url.removeprefix("http://"))
        yield found
        found.close()

    def test_health_and_metadata(self, client: Any) -> None:
        assert client.is_server_live()
        assert client.is_server_ready()
        assert client.is_model_ready("small")
        assert client.is_model_ready("small", "1")
        assert not client.is_model_ready("small", "2")
        assert not client.is_model_ready("other")
        assert client.get_server_metadata()["name"] == "taskroute"
        outputs = client.get_model_metadata("small")["outputs"]
        assert [output["name"] for output in outputs] == [task.name for task in TASKS]

    @pytest.mark.parametrize("binary", [True, False], ids=["binary", "json"])
    def test_files(
        self, http: Any, client: Any, expected: dict[str, list[list[float]]], binary: bool
    ) -> None:
        tensor = http.InferInput("image", [len(IMAGES)], "BYTES")
        tensor.set_data_from_numpy(np.array(IMAGES, dtype=object))
        outputs = [
            http.InferRequestedOutput("shoe", binary_data=binary),
            http.InferRequestedOutput("kind", binary_data=binary, class_count=2),
        ]
        answer = client.infer(
            "small",
            [tensor],
            model_version="1",
            outputs=outputs,
            request_id="42",
            timeout=30_000_000,
        )
        assert answer.get_response()["id"] == "42"
        np.testing.assert_allclose(answer.as_numpy("shoe"), expected["shoe"], atol=1e-5)
        for strings, values in zip(answer.as_numpy("kind"), expected["kind"], strict=True):
            assert len(strings) == 2
            best = sorted(range(4), key=lambda index: -values[index])[:2]
            for text, index in zip(strings, best, strict=True):
                value, shown, label = (text.decode() if binary else str(text)).split(":")
                assert (int(shown), label) == (index, KINDS[index])
                assert float(value) == pytest.approx(values[index], abs=1e-5)

    def test_without_outputs_every_task_is_answered_in_binary(
        self, http: Any, client: Any, expected: dict[str, list[list[float]]]
    ) -> None:
        tensor = http.InferInput("image", [len(IMAGES), 1], "BYTES")
        tensor.set_data_from_numpy(np.array(IMAGES, dtype=object).reshape(-1, 1))
        answer = client.infer("small", [tensor])
        for task, values in expected.items():
            np.testing.assert_allclose(answer.as_numpy(task), values, atol=1e-5)

    def test_pixels(self, http: Any, client: Any) -> None:
        pixels = np.random.default_rng(0).integers(0, 256, (2, 28, 28, 3), dtype=np.uint8)
        answers = []
        for binary in (True, False):
            tensor = http.InferInput("image", pixels.shape, "UINT8")
            tensor.set_data_from_numpy(pixels, binary_data=binary)
            answers.append(client.infer("small", [tensor]).as_numpy("kind"))
        assert answers[0].shape == (2, 4)
        np.testing.assert_allclose(answers[0], answers[1], atol=1e-5)

    def test_many_at_a_time(
        self, http: Any, server: Server, expected: dict[str, list[list[float]]]
    ) -> None:
        many = http.InferenceServerClient(server.url.removeprefix("http://"), concurrency=8)
        tensor = http.InferInput("image", [len(IMAGES)], "BYTES")
        tensor.set_data_from_numpy(np.array(IMAGES, dtype=object))
        pending = [many.async_infer("small", [tensor]) for _ in range(16)]
        for answer in pending:
            found = answer.get_result().as_numpy("shoe")
            np.testing.assert_allclose(found, expected["shoe"], atol=1e-5)
        many.close()

    def test_errors_are_the_clients_exception_with_our_words(self, http: Any, client: Any) -> None:
        from tritonclient.utils import InferenceServerException

        tensor = http.InferInput("image", [1], "BYTES")
        tensor.set_data_from_numpy(np.array([IMAGES[0]], dtype=object))
        wanted = [http.InferRequestedOutput("sho")]
        with pytest.raises(InferenceServerException, match="did you mean 'shoe'") as caught:
            client.infer("small", [tensor], outputs=wanted)
        assert caught.value.status() == "400"
        tensor.set_data_from_numpy(np.array([NOT_AN_IMAGE], dtype=object))
        with pytest.raises(InferenceServerException):
            client.infer("small", [tensor])
        with pytest.raises(InferenceServerException, match="no model 'other'"):
            client.infer("other", [tensor])

    def test_repository_and_statistics(self, client: Any) -> None:
        from tritonclient.utils import InferenceServerException

        [entry] = client.get_model_repository_index()
        assert entry == {"name": "small", "version": "1", "state": "READY", "reason": ""}
        [stats] = client.get_inference_statistics("small")["model_stats"]
        assert stats["inference_stats"]["success"]["count"] >= 0
        with pytest.raises(InferenceServerException, match="administration is off"):
            client.load_model("small")
        with pytest.raises(InferenceServerException, match="administration is off"):
            client.unload_model("small")


def test_kserve(server: Server, expected: dict[str, list[list[float]]], tmp_path: Path) -> None:
    if not KSERVE.exists():
        pytest.skip(
            f"no KServe client: {sys.executable} -m venv build/kserve && "
            "build/kserve/bin/pip install kserve; or name its python in KSERVE_PYTHON"
        )
    files = []
    for index, image in enumerate(IMAGES):
        files.append(tmp_path / f"{index}.png")
        files[-1].write_bytes(image)
    script = Path(__file__).with_name("kserve_calls.py")
    done = subprocess.run(
        [KSERVE, script, server.url, *files], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    states = [found[name] for name in ("live", "ready", "model", "other")]
    assert states == [True, True, True, False]
    assert found["binary"]["id"] == "42"
    np.testing.assert_allclose(found["binary"]["shoe"], expected["shoe"], atol=1e-5)
    assert len(found["binary"]["kind"]) == 2 * len(IMAGES)
    best = max(range(4), key=lambda index: expected["kind"][0][index])
    assert found["binary"]["kind"][0].endswith(f":{best}:{KINDS[best]}")
    assert list(found["json"]) == [task.name for task in TASKS]
    assert "inputs are none" in found["error"]
