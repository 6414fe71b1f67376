"""Apps with a fake network behind them, and clients that speak to them without a socket."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
from fastapi import FastAPI

from model.cpu import CpuBudget
from service.http.app import create_app
from service.http.services import Services
from service.settings import Settings
from tests.service.fakes import Load, make_model, sources_of


def make_settings(**changes: Any) -> Settings:
    given: dict[str, Any] = {"repository": "nowhere", "model": "fashion", "warmup_ms": 0} | changes
    return Settings(**given)


def make_app(load: Load = make_model, **changes: Any) -> FastAPI:
    settings = make_settings(**changes)
    sources = sources_of(load, settings.model_plans()[0].name)
    return create_app(settings, sources=sources, cpu=CpuBudget(2, "affinity", None))


def services(app: FastAPI) -> Services:
    found: Services = app.state.services
    return found


@asynccontextmanager
async def running(app: FastAPI, *, ready: bool = True) -> AsyncIterator[httpx.AsyncClient]:
    """The app between its start and its stop, and a client of it."""
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with app.router.lifespan_context(app):
        if ready:
            async with asyncio.timeout(20):
                while services(app).core.holder.state == "loading":  # noqa: ASYNC110
                    await asyncio.sleep(0.002)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            yield client


def post(app: FastAPI, *args: Any, **kwargs: Any) -> httpx.Response:
    """One ``POST /v1/predict`` to an app that is started and stopped for it."""
    return send(app, "POST", "/v1/predict", *args, **kwargs)


def send(app: FastAPI, method: str, path: str, **kwargs: Any) -> httpx.Response:
    """One request to an app that is started and stopped for it."""

    async def scenario() -> httpx.Response:
        async with running(app) as client:
            return await client.request(method, path, **kwargs)

    return asyncio.run(scenario())


def assert_error(response: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """The one shape of errors; returns the details."""
    body: dict[str, Any] = response.json()
    assert (response.status_code, body["code"]) == (status, code), body
    assert sorted(body) == ["code", "details", "error", "request_id"]
    assert body["error"]
    assert body["request_id"] == response.headers["x-request-id"]
    assert response.headers["content-type"] == "application/json"
    assert ("retry-after" in response.headers) == (status in (429, 503))
    details: dict[str, Any] = body["details"]
    return details
