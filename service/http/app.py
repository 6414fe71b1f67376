"""The application, made by a factory: nothing happens at import."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI

from model.cpu import CpuBudget, cpu_budget
from service.core.clock import Clock, SystemClock
from service.core.loader import RepositorySources
from service.core.serving import ServingCore
from service.core.source import ModelSources
from service.extras import ExtraMissingError
from service.http.errors import install_error_handlers
from service.http.middleware.access import Access
from service.http.middleware.body_limit import BodyLimit
from service.http.middleware.keys import Keys
from service.http.middleware.last_answer import LastAnswer
from service.http.middleware.overload_status import OverloadStatus
from service.http.middleware.ports import Ports
from service.http.middleware.request_id import RequestId
from service.http.middleware.room import Room
from service.http.middleware.shield import Shield
from service.http.middleware.tracing import Tracing
from service.http.openapi import complete
from service.http.routes import (
    admin,
    catalogue,
    health,
    metrics,
    oip,
    oip_repository,
    playground,
    predict,
)
from service.http.services import Services
from service.key_file import KeyRing
from service.metrics import Metrics
from service.settings import Settings
from service.tracing import RequestSpans, request_spans

if TYPE_CHECKING:
    from service.grpc.server import GrpcServer


class App(FastAPI):
    """FastAPI, whose description of itself tells what middleware answers, too."""

    def openapi(self) -> dict[str, Any]:
        services: Services = self.state.services
        return complete(super().openapi(), keys=services.settings.api_keys_file is not None)


def create_app(
    settings: Settings,
    *,
    sources: ModelSources | None = None,
    clock: Clock | None = None,
    cpu: CpuBudget | None = None,
    spans: RequestSpans | None = None,
) -> FastAPI:
    """One app that serves what the settings name.

    Args:
        sources: where models are read; by default in ``settings.repository``.
        clock: for tests.
        cpu: processors to use; by default what the cgroup allows.
        spans: for tests; by default made where ``settings.tracing`` is on.

    Raises:
        ExtraMissingError: gRPC is on, but what it needs is not installed.
        TracingError: tracing is on, but what it needs is not installed.
    """
    clock = clock or SystemClock()
    cpu = cpu or cpu_budget()
    counts = Metrics()
    sources = sources or RepositorySources(
        settings.repository, settings.run_options(cpu.cpus), settings.remote_options()
    )
    core = ServingCore(settings.core_options(cpu.cpus), sources, counts, clock)
    if settings.tracing and spans is None:
        spans = request_spans(clock, _version())

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await core.start()
        if grpc is not None:
            await grpc.start()
        yield
        if grpc is not None:
            await grpc.stop()
        await core.stop()
        if spans is not None:
            await asyncio.to_thread(spans.close)

    app = App(
        title="TaskRoute",
        summary="Many image attributes from one routed network.",
        version=_version(),
        lifespan=lifespan,
        docs_url=None,  # our own, which loads nothing from elsewhere
        redoc_url=None,
        redirect_slashes=False,
    )
    keys = KeyRing(settings.api_keys_file, clock) if settings.api_keys_file else None
    grpc = None
    if settings.grpc_port is not None:
        grpc = _grpc_server(settings, core, counts, keys, spans)
    app.state.services = Services(settings, core, counts, cpu, grpc)
    install_error_handlers(app)
    app.include_router(predict.router)
    app.include_router(oip.inference_router)
    for routes in (catalogue, admin, health, metrics, playground, oip, oip_repository):
        app.include_router(routes.router)
    # The last one added is the outermost: id, status of overload, spans, access log, shield, keys,
    # limits, room, then routing.
    app.add_middleware(Room, core=core, settings=settings)
    app.add_middleware(
        BodyLimit,
        max_bytes=settings.max_body_bytes,
        max_inflight_bytes=settings.max_inflight_body_bytes,
        max_s=settings.max_request_timeout_ms / 1000,
        telemetry=counts,
    )
    if keys is not None:
        app.add_middleware(Keys, ring=keys)
    if settings.admin_port is not None:
        app.add_middleware(Ports, admin_port=settings.admin_port)
    app.add_middleware(LastAnswer, core=core)
    app.add_middleware(Shield)
    app.add_middleware(Access, clock=clock, metrics=counts)
    if spans is not None:
        app.add_middleware(Tracing, spans=spans)
    if settings.overload_status == "503":
        app.add_middleware(OverloadStatus)
    app.add_middleware(RequestId, clock=clock)
    return app


def _grpc_server(
    settings: Settings,
    core: ServingCore,
    metrics: Metrics,
    keys: KeyRing | None,
    spans: RequestSpans | None,
) -> GrpcServer:
    try:
        from service.grpc.server import GrpcServer
    except ImportError as error:
        raise ExtraMissingError(
            f"grpc_port is set, but {error.name or error} is not installed: "
            "pip install 'taskroute[grpc]'"
        ) from None
    return GrpcServer(settings, core, metrics, keys, spans, _version())


def _version() -> str:
    try:
        return version("taskroute")
    except PackageNotFoundError:
        return "0"
