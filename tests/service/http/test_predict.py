"""POST /v1/predict: three forms, one answer; every bad input its own status and code."""

from __future__ import annotations

import asyncio
import base64
import errno
import json
import math
import random
import re
import tempfile
from collections import Counter
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import pytest
from torch import Tensor

from model.rows import RowBatch
from service.core.served import ServedModel
from tests.service.fakes import expected_logit, fake_forward, make_model
from tests.service.http.apps import assert_error, make_app, post, running, services
from tests.service.pictures import EMPTY, GIF, NOT_AN_IMAGE, TRUNCATED, huge_png, picture

PHOTO = picture(100)


def as_json(*images: bytes, **rest: Any) -> dict[str, Any]:
    content = [{"content": base64.b64encode(image).decode()} for image in images]
    return {"json": {"images": content, **rest}}


def as_form(*images: bytes, tasks: list[str] | str | None = None) -> dict[str, Any]:
    files = [("image", ("photo.png", image, "image/png")) for image in images]
    return {"files": files, "data": {} if tasks is None else {"tasks": tasks}}


def as_body(image: bytes, tasks: str | None = None, kind: str = "image/png") -> dict[str, Any]:
    params = {} if tasks is None else {"tasks": tasks}
    return {"content": image, "headers": {"Content-Type": kind}, "params": params}


@pytest.mark.parametrize(
    "request_",
    [
        as_form(PHOTO, tasks=["t1", "kind"]),
        as_form(PHOTO, tasks="t1, kind"),
        as_form(PHOTO, tasks=["t1,kind"]),
        as_body(PHOTO, "t1,kind"),
        as_body(PHOTO, "t1 ,group:kinds"),
        as_body(picture(100, kind="WEBP"), "t1,kind", "image/webp"),
        as_json(PHOTO, tasks=["t1", "kind"]),
    ],
    ids=["repeated", "commas", "one field", "raw", "group", "webp", "json"],
)
def test_three_forms_one_answer(request_: dict[str, Any]) -> None:
    response = post(make_app(), **request_)
    assert response.status_code == 200, response.text
    body = response.json()
    assert list(body) == ["request_id", "model", "results", "timing_ms"]
    assert body["request_id"] == response.headers["x-request-id"]
    assert body["model"] == {"name": "fashion", "version": 1, "digest": f"sha256:{1:064x}"}
    assert sorted(body["timing_ms"]) == ["compute", "decode", "queue"]
    [result] = body["results"]
    assert result["id"] == "0"
    binary, kinds = result["predictions"]
    logit = expected_logit(100, 1)
    assert binary == {
        "task": "t1",
        "label": "yes",
        "probability": pytest.approx(1 / (1 + math.exp(-logit)), abs=1e-4),
        "threshold": 0.55,
        "calibrated": False,
    }
    assert kinds["task"] == "kind"
    assert kinds["label"] == "shirt"
    assert list(kinds["probabilities"]) == ["boot", "coat", "bag", "shirt"]
    assert kinds["probability"] == kinds["probabilities"]["shirt"]
    assert sum(kinds["probabilities"].values()) == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize("tasks", [None, "*"])
def test_no_selection_and_a_star_mean_all_tasks(tasks: str | None) -> None:
    for request_ in (as_form(PHOTO, tasks=tasks), as_body(PHOTO, tasks)):
        [result] = post(make_app(), **request_).json()["results"]
        assert [answer["task"] for answer in result["predictions"]] == ["t0", "t1", "t2", "kind"]


def test_several_images_keep_their_order_and_their_ids() -> None:
    content = [
        {"id": "left", "content": base64.b64encode(picture(10)).decode()},
        {"content": base64.encodebytes(picture(200)).decode()},  # with line breaks
    ]
    body = post(make_app(), json={"images": content, "tasks": ["t1"]}).json()
    assert [result["id"] for result in body["results"]] == ["left", "1"]
    first, second = (result["predictions"][0]["probability"] for result in body["results"])
    assert first < second


def test_with_several_images_a_bad_one_carries_its_own_error() -> None:
    response = post(make_app(), **as_form(PHOTO, TRUNCATED, NOT_AN_IMAGE, PHOTO, tasks="t0"))
    assert response.status_code == 200
    good, truncated, text, again = response.json()["results"]
    assert good["predictions"] == again["predictions"]
    assert truncated["code"] == "invalid_image"
    assert text["code"] == "unsupported_image_type"
    assert sorted(text) == ["code", "details", "error", "id"]


BAD: dict[str, tuple[dict[str, Any], int, str]] = {
    "empty file": (as_form(EMPTY), 422, "invalid_image"),
    "empty body": (as_body(EMPTY), 422, "invalid_image"),
    "truncated": (as_form(TRUNCATED), 422, "invalid_image"),
    "truncated body": (as_body(TRUNCATED, kind="image/jpeg"), 422, "invalid_image"),
    "text": (as_form(NOT_AN_IMAGE), 415, "unsupported_image_type"),
    "text as json": (as_json(NOT_AN_IMAGE), 415, "unsupported_image_type"),
    "gif": (as_form(GIF), 415, "unsupported_image_type"),
    "100 megapixels": (as_form(huge_png()), 413, "image_too_large"),
    "100 megapixels body": (as_body(huge_png()), 413, "image_too_large"),
    "too many bytes in an image": (as_form(picture(size=(300, 300))), 413, "image_too_large"),
    "too many bytes in a body": (as_body(bytes(600_000)), 413, "body_too_large"),
    "far too many images": (as_form(*[b"x"] * 1001), 413, "too_many_images"),
    "too many images": (as_form(*[PHOTO] * 5), 413, "too_many_images"),
    "unknown task": (as_form(PHOTO, tasks="t0,nope"), 422, "unknown_task"),
    "unknown group": (as_body(PHOTO, "group:nope"), 422, "unknown_task"),
    "duplicate task": (as_form(PHOTO, tasks=["t0", "t1", "t0"]), 422, "duplicate_task"),
    "no tasks in the query": (as_body(PHOTO, ""), 422, "no_tasks"),
    "no tasks but commas": (as_form(PHOTO, tasks=" , ,"), 422, "no_tasks"),
    "no tasks in json": (as_json(PHOTO, tasks=[]), 422, "no_tasks"),
    "no image field": ({"files": {"tasks": (None, "t0")}}, 422, "no_images"),
    "no images in json": (as_json(tasks=["t0"]), 422, "no_images"),
    "image as text": ({"files": {"image": (None, "abc")}}, 422, "invalid_field"),
    "tasks as file": (
        {"files": [("image", ("a", PHOTO)), ("tasks", ("b", b"t0"))]},
        422,
        "invalid_field",
    ),
    "unknown form field": (
        {"files": [("image", ("a", PHOTO)), ("task", (None, "t0"))]},
        422,
        "invalid_field",
    ),
    "unknown query parameter": (as_body(PHOTO) | {"params": {"task": "t0"}}, 422, "invalid_field"),
    "version no number": (as_body(PHOTO) | {"params": {"version": "one"}}, 422, "invalid_field"),
    "version zero": (as_body(PHOTO) | {"params": {"version": "0"}}, 422, "invalid_field"),
    "version empty": (as_body(PHOTO) | {"params": {"version": ""}}, 422, "invalid_field"),
    "endless version": (as_body(PHOTO) | {"params": {"version": "9" * 5000}}, 422, "invalid_field"),
    "no such version": (as_body(PHOTO) | {"params": {"version": "9"}}, 404, "unknown_version"),
    "no such model": (as_body(PHOTO) | {"params": {"model": "nope"}}, 404, "unknown_model"),
    "query with json": (as_json(PHOTO) | {"params": {"tasks": "t0"}}, 422, "invalid_field"),
    "unknown json field": (as_json(PHOTO, task="t0"), 422, "invalid_field"),
    "wrong json type": (as_json(PHOTO, tasks="t0"), 422, "invalid_field"),
    "content missing": ({"json": {"images": [{"id": "a"}]}}, 422, "invalid_field"),
    "same id twice": (
        {"json": {"images": [{"id": "1", "content": "aaaa"}, {"id": "1", "content": "aaaa"}]}},
        422,
        "invalid_field",
    ),
    "not base64": ({"json": {"images": [{"content": "!!!"}]}}, 422, "invalid_image"),
    "not json": (
        {"content": b'{"images": [', "headers": {"Content-Type": "application/json"}},
        400,
        "malformed_request",
    ),
    "not utf-8": (
        {"content": b'{"images": "\xff"}', "headers": {"Content-Type": "application/json"}},
        400,
        "malformed_request",
    ),
    "deep json": (
        {"content": b"[" * 100_000, "headers": {"Content-Type": "application/json"}},
        400,
        "malformed_request",
    ),
    "multipart without boundary": (
        {"content": b"abc", "headers": {"Content-Type": "multipart/form-data"}},
        400,
        "malformed_request",
    ),
    "no content type": ({"content": PHOTO}, 415, "unsupported_media_type"),
    "form urlencoded": ({"data": {"tasks": "t0"}}, 415, "unsupported_media_type"),
    "compressed": (
        as_body(PHOTO) | {"headers": {"Content-Type": "image/png", "Content-Encoding": "gzip"}},
        415,
        "unsupported_media_type",
    ),
    "timeout not a number": (
        as_body(PHOTO) | {"headers": {"Content-Type": "image/png", "X-Request-Timeout-Ms": "soon"}},
        422,
        "invalid_field",
    ),
    "timeout over": (
        as_body(PHOTO)
        | {"headers": {"Content-Type": "image/png", "X-Request-Timeout-Ms": "0.0001"}},
        504,
        "deadline_exceeded",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_each_bad_input_has_its_status_and_code_and_leaves_the_service_as_it_was(case: str) -> None:
    request_, status, code = BAD[case]

    async def scenario() -> None:
        app = make_app(max_images=4, max_image_bytes=100_000, max_body_bytes=500_000)
        async with running(app) as client:
            before = (await client.post("/v1/predict", **as_form(PHOTO))).json()["results"]
            assert_error(await client.post("/v1/predict", **request_), status, code)
            after = (await client.post("/v1/predict", **as_form(PHOTO))).json()["results"]
            assert after == before
            assert services(app).core.scheduler.queue_bytes == 0
            assert services(app).core.scheduler.unanswered_requests == 0

    asyncio.run(scenario())


def test_a_form_with_endless_tasks_is_refused_before_they_are_split() -> None:
    response = post(make_app(), **as_form(PHOTO, tasks=["t0," * 300_000] * 2))
    assert_error(response, 422, "invalid_field")
    assert "1800000 characters" in response.json()["error"]


def test_a_form_needs_no_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(**_: object) -> None:
        raise OSError(errno.ENOSPC, "no space left on device")

    monkeypatch.setattr(tempfile, "TemporaryFile", full)
    photo = picture() + bytes(2_000_000)  # what follows the image is not looked at
    assert post(make_app(), **as_form(photo, tasks="t0")).status_code == 200


def test_an_error_never_repeats_the_image() -> None:
    secret = base64.b64encode(b"private pixels" * 10).decode()
    response = post(make_app(), json={"images": [{"content": [secret]}], "tasks": [secret, 3]})
    assert_error(response, 422, "invalid_field")
    assert secret not in response.text


def test_unknown_tasks_come_with_the_nearest_names() -> None:
    details = assert_error(post(make_app(), **as_form(PHOTO, tasks="knd")), 422, "unknown_task")
    assert details == {"unknown": ["knd"], "nearest": {"knd": ["kind"]}, "count": 1}


def test_a_large_json_body_is_parsed_off_the_event_loop() -> None:
    noise = picture(size=(200, 200))  # above the size that is parsed in place
    response = post(make_app(), **as_json(noise, tasks=["t0"]))
    assert response.status_code == 200
    assert_error(post(make_app(), **as_json(noise, tasks=[])), 422, "no_tasks")


def broken(fault: Any) -> Any:
    def load() -> ServedModel:
        model = make_model()
        real = fake_forward(model)

        def guilty(batch: RowBatch, logits: Tensor) -> None:
            if (batch.images == 66).all(dim=(1, 2, 3)).any():
                fault(batch, logits)

        real.fault = guilty
        return model

    return load


def test_one_failed_row_stands_beside_the_answers() -> None:
    def fault(batch: RowBatch, logits: Tensor) -> None:
        logits[batch.task_index == 1] = math.nan

    response = post(make_app(broken(fault)), **as_form(picture(66), tasks="t0,t1"))
    assert response.status_code == 200
    good, bad = response.json()["results"][0]["predictions"]
    assert good["label"] in ("yes", "no")
    assert bad["task"] == "t1"
    assert bad["code"] == "non_finite_logits"
    assert "probability" not in bad


@pytest.mark.parametrize("images", [1, 2])
def test_a_request_that_failed_by_our_fault_is_a_500_without_a_traceback(images: int) -> None:
    def fault(batch: RowBatch, logits: Tensor) -> None:
        raise ValueError("secret internals")

    response = post(make_app(broken(fault)), **as_form(*[picture(66)] * images))
    assert_error(response, 500, "forward_failed")
    assert "secret" not in response.text


def test_nobody_expected_this() -> None:
    async def scenario() -> httpx.Response:
        app = make_app()
        async with running(app) as client:

            async def explode(*_: object) -> None:
                raise LookupError("secret internals")

            services(app).core.predictor.predict = explode  # type: ignore[assignment,method-assign]
            response = await client.post("/v1/predict", **as_form(PHOTO))
            assert (await client.get("/v2/health/ready")).status_code == 200
            return response

    response = asyncio.run(scenario())
    assert_error(response, 500, "internal_error")
    assert "secret" not in response.text
    assert "Traceback" not in response.text


PNG = {"Content-Type": "image/png"}


@pytest.mark.parametrize("status", [429, 503])
def test_a_full_queue_is_a_429_with_retry_after_or_a_503_by_setting(status: int) -> None:
    app = make_app(max_queue_rows=4, max_batch_rows=4)
    details = assert_error(post(app, **as_form(PHOTO, PHOTO)), 413, "too_many_rows")
    assert details == {"rows": 8, "max_queue_rows": 4}

    async def scenario() -> None:
        app = make_app(max_queue_rows=4, max_batch_rows=4, overload_status=str(status))
        async with running(app) as client:
            core = services(app).core
            waiting = core.scheduler.admit(
                core.holder.current(),
                np.arange(4),
                images=1,
                encoded_bytes=0,
                deadline=core.clock.now() + 60,
                on_done=lambda job: None,
            )
            response = await client.post("/v1/predict", **as_form(PHOTO, tasks="t0"))
            assert assert_error(response, status, "overloaded")["reason"] == "queue_rows"
            assert int(response.headers["retry-after"]) >= 1

            pulled = 0

            async def body() -> Any:
                nonlocal pulled
                pulled += 1
                yield PHOTO

            refused = await client.post("/v1/predict", content=body(), headers=PNG)
            assert_error(refused, status, "overloaded")
            assert pulled == 0
            counted = (await client.get("/metrics")).text
            # Refused before routing; whatever status is sent, to alerts it is no failure.
            assert 'route="/v1/predict",status="429"' in counted
            assert 'route="/v1/predict",status="503"' not in counted
            core.scheduler.withdraw(waiting, "cancelled")
            assert (await client.post("/v1/predict", **as_form(PHOTO))).status_code == 200

    asyncio.run(scenario())


def test_while_loading_nothing_of_the_body_is_read() -> None:
    def never() -> ServedModel:
        raise AssertionError("not asked")

    async def scenario() -> None:
        app = make_app(never)
        async with running(app) as client:
            sent = 0

            async def body() -> Any:
                nonlocal sent
                while True:
                    sent += 1
                    yield bytes(1000)

            response = await client.post("/v1/predict", content=body(), headers=PNG)
            assert_error(response, 503, "model_unavailable")
            assert sent == 0

    asyncio.run(scenario())


def test_a_draining_server_says_so() -> None:
    async def scenario() -> None:
        app = make_app()
        async with running(app) as client:
            services(app).core.begin_drain()
            response = await client.post("/v1/predict", **as_form(PHOTO))
            assert_error(response, 503, "draining")
            assert response.headers["connection"] == "close"

    asyncio.run(scenario())


def mutations(count: int) -> Iterator[dict[str, Any]]:
    """Requests with flipped, cut, doubled and shuffled bytes; the same every time."""
    chosen = random.Random(20)
    kinds = ("PNG", "JPEG", "WEBP")
    body = json.dumps(as_json(PHOTO, tasks=["t0"])["json"]).encode()
    for _ in range(count):
        sort = chosen.choice(["image", "json", "form"])
        data = bytearray(body if sort == "json" else picture(kind=chosen.choice(kinds)))
        for _ in range(chosen.randint(1, 8)):
            at = chosen.randrange(len(data))
            data[at : at + chosen.choice([0, 1, 40])] = chosen.randbytes(chosen.choice([0, 1, 9]))
        if chosen.random() < 0.5:
            del data[chosen.randint(1, len(data)) :]
        if sort == "json":
            yield {"content": bytes(data), "headers": {"Content-Type": "application/json"}}
        elif sort == "form":
            yield as_form(bytes(data), tasks=chosen.choice(["t0", "", "t0\x00", "группа"]))
        else:
            yield as_body(bytes(data), kind=chosen.choice(["image/png", "image/jpeg", "a/b", ";"]))


def test_mutated_requests_never_meet_a_fault_of_ours() -> None:
    async def scenario() -> Counter[int]:
        statuses: Counter[int] = Counter()
        async with running(make_app()) as client:
            for request_ in mutations(300):
                response = await client.post("/v1/predict", **request_)
                statuses[response.status_code] += 1
                if response.is_error:
                    assert_error(response, response.status_code, response.json()["code"])
        return statuses

    statuses = asyncio.run(scenario())
    assert set(statuses) <= {200, 400, 413, 415, 422}
    assert min(statuses[status] for status in (200, 400, 415, 422)) > 5, statuses


def test_many_tasks_and_images_in_one_request() -> None:
    app = make_app(lambda: make_model(tasks=312))
    response = post(app, **as_form(*[picture(value) for value in range(8)]))
    assert response.status_code == 200
    results = response.json()["results"]
    assert [len(result["predictions"]) for result in results] == [312] * 8
    assert re.fullmatch(r"[0-9a-f]{32}", response.json()["request_id"])
    assert json.loads(response.content)["timing_ms"]["compute"] > 0
