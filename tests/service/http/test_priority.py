"""Levels by header and by parameter, to the scheduler and into the metrics."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from service.core.job import Job
from service.core.priority import Priority
from tests.service.http.apps import assert_error, make_app, running, send, services
from tests.service.http.oip.infer_requests import INFER, as_json
from tests.service.pictures import picture

BULK = {"X-Request-Priority": "bulk"}


def levels_of(*requests: dict[str, Any]) -> tuple[list[Priority], str]:
    """The levels at which jobs were let in, and the metrics afterwards."""
    app = make_app()
    found: list[Priority] = []
    admit = services(app).core.scheduler.admit

    def watched(*args: Any, **kwargs: Any) -> Job:
        job = admit(*args, **kwargs)
        found.append(job.priority)
        return job

    services(app).core.scheduler.admit = watched  # type: ignore[method-assign]

    async def scenario() -> str:
        async with running(app) as client:
            for request in requests:
                assert (await client.post(**request)).status_code == 200
            return (await client.get("/metrics")).text

    return found, asyncio.run(scenario())


def test_header_and_parameter_name_the_level() -> None:
    image = {"content": picture(), "headers": {"content-type": "image/png"}}
    found, metrics = levels_of(
        {"url": "/v1/predict"} | image,
        {"url": "/v1/predict"} | image | {"headers": {"content-type": "image/png"} | BULK},
        {"url": INFER} | as_json(picture()),
        {"url": INFER, "headers": BULK} | as_json(picture()),
        {"url": INFER} | as_json(picture(), parameters={"priority": 2}),
        {"url": INFER} | as_json(picture(), parameters={"priority": 0}),
        {"url": INFER, "headers": BULK} | as_json(picture(), parameters={"priority": 1}),
    )
    assert [level.label[0] for level in found] == list("ibibbii")
    assert 'taskroute_predictions_total{outcome="ok",priority="bulk"} 3.0' in metrics
    assert 'taskroute_predictions_total{outcome="ok",priority="interactive"} 4.0' in metrics
    assert 'taskroute_prediction_queue_seconds_count{priority="bulk"} 3.0' in metrics
    assert 'taskroute_waiting_rows{priority="bulk"} 0.0' in metrics


def test_an_unknown_level_is_refused() -> None:
    headers = {"X-Request-Priority": "urgent", "content-type": "image/png"}
    answer = send(make_app(), "POST", "/v1/predict", content=picture(), headers=headers)
    assert_error(answer, 422, "invalid_field")
    assert "interactive or bulk" in answer.json()["error"]


@pytest.mark.parametrize("value", [3, -1, "bulk", True])
def test_an_unknown_number_is_refused(value: Any) -> None:
    answer = send(make_app(), "POST", INFER, **as_json(picture(), parameters={"priority": value}))
    assert_error(answer, 400, "invalid_field")
