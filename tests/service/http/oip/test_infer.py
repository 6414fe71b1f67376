"""Inference: JSON, binary tensors and bare files give one answer; every bad input a 400."""

from __future__ import annotations

import asyncio
import base64
import io
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image
from torch import Tensor

from model.rows import RowBatch
from service.core.served import ServedModel
from tests.service.fakes import fake_forward, make_model
from tests.service.http.apps import assert_error, make_app, running, send, services
from tests.service.http.oip.infer_requests import (
    INFER,
    as_binary,
    as_json,
    as_pixels,
    decoded,
    only,
    pack,
)
from tests.service.pictures import GIF, NOT_AN_IMAGE, TRUNCATED, huge_png, picture

PHOTOS = [picture(seed=seed) for seed in range(3)]
PIXELS = np.stack([np.asarray(Image.open(io.BytesIO(photo))) for photo in PHOTOS])
HEADER = "Inference-Header-Content-Length"


def infer(request: dict[str, Any], **settings: Any) -> httpx.Response:
    return send(make_app(**settings), "POST", INFER, **request)


def v1_probabilities() -> dict[str, list[list[float]]]:
    """What /v1/predict says about the photos: task -> image -> class."""
    files = [("image", (str(index), photo)) for index, photo in enumerate(PHOTOS)]
    found: dict[str, list[list[float]]] = {}
    for image in send(make_app(), "POST", "/v1/predict", files=files).json()["results"]:
        for row in image["predictions"]:
            yes = row["probability"]
            values = (
                list(row["probabilities"].values()) if "probabilities" in row else [1 - yes, yes]
            )
            found.setdefault(row["task"], []).append(values)
    return found


@pytest.mark.parametrize(
    "request_",
    [
        as_json(*PHOTOS),
        as_json(*PHOTOS, shape=[3, 1]),
        as_binary(pack(*PHOTOS), [3]),
        as_pixels(PIXELS),
        as_binary(PIXELS.tobytes(), list(PIXELS.shape), "UINT8"),
    ],
    ids=["json", "column", "binary", "pixels", "binary pixels"],
)
def test_every_form_gives_what_predict_gives(request_: dict[str, Any]) -> None:
    response = infer(request_)
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "application/json"
    assert HEADER not in response.headers
    body = response.json()
    assert (body["model_name"], body["model_version"]) == ("fashion", "1")
    assert body["parameters"] == {"digest": f"sha256:{1:064x}"}
    assert "id" not in body
    expected = v1_probabilities()
    assert [output["name"] for output in body["outputs"]] == list(expected)
    for output in body["outputs"]:
        values = np.array(output["data"]).reshape(output["shape"])
        assert output["datatype"] == "FP32"
        np.testing.assert_allclose(values, expected[output["name"]], atol=1e-6)
    assert np.ptp(np.array(body["outputs"][0]["data"])) > 0


def test_outputs_come_in_the_order_asked_and_the_id_comes_back() -> None:
    body = infer(as_json(PHOTOS[0], id="42", outputs=only("kind", "t1"))).json()
    assert body["id"] == "42"
    assert [output["name"] for output in body["outputs"]] == ["kind", "t1"]
    assert [output["shape"] for output in body["outputs"]] == [[1, 4], [1, 2]]


def test_a_group_and_a_star_stand_for_their_tasks_each_once() -> None:
    outputs = [*only("t2", classification=1), *only("group:even"), *only("*")]
    body = infer(as_json(PHOTOS[0], outputs=outputs)).json()
    assert [output["name"] for output in body["outputs"]] == ["t2", "t0", "t1", "kind"]
    assert [output["datatype"] for output in body["outputs"]] == ["BYTES", *["FP32"] * 3]


def test_no_outputs_and_an_empty_list_mean_all_tasks() -> None:
    given: list[dict[str, Any]] = [{}, {"outputs": []}, {"outputs": None}]
    for rest in given:
        assert len(infer(as_json(PHOTOS[0], **rest)).json()["outputs"]) == 4


@pytest.mark.parametrize(("k", "shown"), [(1, 1), (3, 3), (99, 4)])
def test_classification_gives_the_likeliest_classes_in_order(k: int, shown: int) -> None:
    outputs = only("kind", classification=k)
    [output] = infer(as_json(*PHOTOS[:2], outputs=outputs)).json()["outputs"]
    assert (output["datatype"], output["shape"]) == ("BYTES", [2, shown])
    [plain] = infer(as_json(*PHOTOS[:2], outputs=only("kind"))).json()["outputs"]
    labels = ["boot", "coat", "bag", "shirt"]
    for image in range(2):
        values = plain["data"][4 * image : 4 * image + 4]
        best = sorted(range(4), key=lambda index: -values[index])[:shown]
        strings = output["data"][shown * image : shown * (image + 1)]
        assert strings == [f"{values[index]:.6f}:{index}:{labels[index]}" for index in best]


def test_binary_outputs_follow_the_json_in_order() -> None:
    outputs = [
        *only("kind", binary_data=True, classification=2),
        *only("t0"),
        *only("t1", binary_data=True),
    ]
    response = infer(as_json(*PHOTOS, outputs=outputs))
    assert response.headers["content-type"] == "application/octet-stream"
    header, tensors = decoded(response.content, int(response.headers[HEADER]))
    plain = infer(as_json(*PHOTOS, outputs=[*only("kind", classification=2), *only("t0", "t1")]))
    kind, first, second = plain.json()["outputs"]
    assert tensors["kind"] == kind["data"]
    assert header["outputs"][1] == first
    assert tensors["t1"].shape == (3, 2)
    np.testing.assert_allclose(tensors["t1"].ravel(), second["data"], atol=1e-7)


def test_one_parameter_makes_all_outputs_binary_but_those_that_object() -> None:
    parameters = {"binary_data_output": True}
    response = infer(as_json(PHOTOS[0], parameters=parameters))
    _, tensors = decoded(response.content, int(response.headers[HEADER]))
    assert list(tensors) == ["t0", "t1", "t2", "kind"]
    outputs = [*only("t0"), *only("t1", binary_data=False)]
    response = infer(as_json(PHOTOS[0], parameters=parameters, outputs=outputs))
    header, tensors = decoded(response.content, int(response.headers[HEADER]))
    assert list(tensors) == ["t0"]
    assert len(header["outputs"][1]["data"]) == 2


def test_a_bare_file_is_a_request() -> None:
    response = infer({"content": PHOTOS[1], "headers": {HEADER: "0"}})
    assert response.status_code == 200, response.text
    _, tensors = decoded(response.content, int(response.headers[HEADER]))
    for task, values in v1_probabilities().items():
        np.testing.assert_allclose(tensors[task], [values[1]], atol=1e-6)


def test_the_version_in_the_path_must_be_the_one_that_answers() -> None:
    request = as_json(PHOTOS[0], outputs=only("t0"))
    path = "/v2/models/fashion/versions/{}/infer"
    assert send(make_app(), "POST", path.format(1), **request).json()["model_version"] == "1"
    for asked in (*map(path.format, ("2", "01", "latest")), "/v2/models/fashion/infer?version=2"):
        response = send(make_app(), "POST", asked, **request)
        assert assert_error(response, 404, "unknown_version")["served"] == [1]
    response = send(make_app(), "POST", "/v2/models/other/infer", **request)
    assert assert_error(response, 404, "unknown_model")["served"] == ["fashion"]


def test_fields_and_parameters_that_nobody_knows_are_let_pass() -> None:
    parameters = {"priority": 1, "sequence_id": 7, "mine": {"x": 1}}
    request = as_json(PHOTOS[0], model_name="fashion", parameters=parameters)
    assert infer(request).status_code == 200


IMAGE: dict[str, Any] = {"name": "image", "datatype": "BYTES", "shape": [1], "data": ["AAAA"]}


def bad(**changes: Any) -> dict[str, Any]:
    return {"json": {"inputs": [IMAGE | changes]}}


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        ({"content": b"{"}, "malformed_request"),
        ({"content": b'\xff{"inputs": []}'}, "malformed_request"),
        ({"content": b"[" * 10_000}, "malformed_request"),
        ({"json": {}}, "invalid_field"),
        ({"json": {"inputs": []}}, "invalid_field"),
        ({"json": {"inputs": [IMAGE, IMAGE]}}, "invalid_field"),
        ({"json": {"inputs": [IMAGE], "id": 7}}, "invalid_field"),
        (bad(name="pixels"), "invalid_field"),
        (bad(datatype="FP32"), "invalid_field"),
        (bad(shape=[2]), "invalid_field"),
        (bad(shape=[-1]), "invalid_field"),
        (bad(shape=[True]), "invalid_field"),
        (bad(shape=[0]), "no_images"),
        (bad(data=None), "invalid_field"),
        (bad(data=[1]), "invalid_field"),
        (bad(data=["not base64!"]), "invalid_image"),
        (bad(parameters={"content_type": "str"}), "invalid_field"),
        (bad(parameters={"shared_memory_region": "x"}), "invalid_field"),
        (bad(parameters={"binary_data_size": 4}), "invalid_field"),
        (bad(datatype="UINT8", shape=[1, 2, 2]), "invalid_field"),
        (bad(datatype="UINT8", shape=[1, 2, 2, 4], data=[0] * 16), "invalid_field"),
        (bad(datatype="UINT8", shape=[1, 0, 2, 3], data=[]), "invalid_field"),
        (bad(datatype="UINT8", shape=[1, 1, 1, 3], data=[1, 2]), "invalid_field"),
        (bad(datatype="UINT8", shape=[1, 1, 1, 3], data=[1, 2, 256]), "invalid_field"),
        (bad(datatype="UINT8", shape=[1, 1, 1, 3], data=[1, 2, -1]), "invalid_field"),
        (bad(datatype="UINT8", shape=[1, 1, 1, 3], data=[1, 2, 0.5]), "invalid_field"),
        (bad(datatype="UINT8", shape=[1, 1, 1, 3], data=[1, 2, 10**30]), "invalid_field"),
        (bad(datatype="UINT8", shape=[1, 1, 1, 3], data=[[1], [2, 3]]), "invalid_field"),
        (as_binary(pack(PHOTOS[0])[:-1], [1]), "malformed_request"),
        (as_binary(pack(PHOTOS[0]) + b"x", [1]), "malformed_request"),
        (as_binary(b"\x01", [1]), "malformed_request"),
        (as_binary(pack(PHOTOS[0]), [1], size=7), "malformed_request"),
        (as_binary(pack(PHOTOS[0]), [1], size="7"), "malformed_request"),
        (as_binary(bytes(11), [1, 2, 2, 3], "UINT8"), "malformed_request"),
        ({"content": b"{}", "headers": {HEADER: "3"}}, "malformed_request"),
        ({"content": b"{}", "headers": {HEADER: "-1"}}, "malformed_request"),
        ({"content": b"{}", "headers": {HEADER: "9" * 30}}, "malformed_request"),
        ({"content": b"x", "headers": {"Content-Encoding": "gzip"}}, "unsupported_media_type"),
        (as_json(PHOTOS[0], outputs=only("t9")), "unknown_task"),
        (as_json(PHOTOS[0], outputs=only("t0", "t0")), "duplicate_task"),
        (as_json(PHOTOS[0], outputs=only("t0", classification=-1)), "invalid_field"),
        (as_json(PHOTOS[0], outputs=only("t0", classification="1")), "invalid_field"),
        (as_json(PHOTOS[0], outputs=only("t0", binary_data=1)), "invalid_field"),
        (as_json(PHOTOS[0], parameters={"binary_data_output": "yes"}), "invalid_field"),
        (as_json(PHOTOS[0], parameters={"timeout": 0.5}), "invalid_field"),
        (as_json(TRUNCATED), "invalid_image"),
        (as_json(NOT_AN_IMAGE), "unsupported_image_type"),
        (as_json(GIF), "unsupported_image_type"),
    ],
)
def test_bad_input_is_400_and_says_which(request_: dict[str, Any], code: str) -> None:
    assert_error(infer(request_), 400, code)


def test_bytes_behind_the_json_that_no_tensor_claims_are_refused() -> None:
    request = as_binary(b"", [1])
    content = request["content"].replace(b'"binary_data_size": 0', b'"x": 0') + b"more"
    header = {HEADER: str(len(content) - 4)}
    assert_error(infer({"content": content, "headers": header}), 400, "malformed_request")


def test_limits_keep_their_413() -> None:
    assert_error(infer(as_json(*PHOTOS), max_images=2), 413, "too_many_images")
    assert_error(infer(as_pixels(PIXELS), max_images=2), 413, "too_many_images")
    assert_error(infer(as_json(huge_png())), 413, "image_too_large")
    assert_error(
        infer(as_json(PHOTOS[0]), max_body_bytes=100, max_image_bytes=50), 413, "body_too_large"
    )


def test_one_bad_image_fails_the_request() -> None:
    response = infer(as_json(PHOTOS[0], TRUNCATED))
    assert_error(response, 400, "invalid_image")


def test_a_row_that_cannot_be_computed_fails_the_request() -> None:
    def spoil(batch: RowBatch, logits: Tensor) -> None:
        logits[batch.task_index == 1] = float("nan")

    async def scenario() -> None:
        app = make_app()
        async with running(app) as client:
            fake_forward(services(app).core.holder.current()).fault = spoil
            response = await client.post(INFER, **as_json(PHOTOS[0]))
            assert_error(response, 500, "non_finite_logits")
            response = await client.post(INFER, **as_json(PHOTOS[0], outputs=only("t0")))
            assert response.status_code == 200

    asyncio.run(scenario())


def test_the_timeout_counts_microseconds_and_bounds_the_request() -> None:
    def answer(timeout: int, **rest: Any) -> httpx.Response:
        request = as_json(PHOTOS[0], parameters={"timeout": timeout})
        return infer(request | rest)

    assert_error(answer(1), 504, "deadline_exceeded")
    assert answer(20_000_000).status_code == 200
    assert answer(0).status_code == 200  # as if none was given
    headers = {"X-Request-Timeout-Ms": "0.001"}
    assert_error(answer(20_000_000, headers=headers), 504, "deadline_exceeded")


def test_before_a_model_is_ready_requests_are_told_to_come_back() -> None:
    def never() -> ServedModel:
        raise MemoryError

    assert_error(send(make_app(never), "POST", INFER), 503, "model_unavailable")


def test_large_json_is_parsed_off_the_event_loop() -> None:
    photo = picture(size=(200, 200))
    assert len(base64.b64encode(photo)) > 64 * 1024
    assert infer(as_json(photo, outputs=only("t0"))).status_code == 200


def test_requests_are_logged_and_counted_by_route_template() -> None:
    async def scenario() -> str:
        async with running(make_app(make_model)) as client:
            await client.post(INFER, **as_json(PHOTOS[0]))
            return (await client.get("/metrics")).text

    assert 'route="/v2/models/{name}/infer"' in asyncio.run(scenario())
