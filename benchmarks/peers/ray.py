"""Ray Serve: replicas as actors, ``@serve.batch`` in front of each."""

from __future__ import annotations

import importlib
import signal
from typing import Any

from benchmarks.peers.base import HOST, Peer, Request, Settings


class RayServe(Peer):
    name = "ray"
    packages = ("ray[serve]==2.60.0",)
    ready_path = "/-/healthz"

    def environment(self, settings: Settings) -> dict[str, str]:
        return {"RAY_USAGE_STATS_ENABLED": "0", "RAY_DEDUP_LOGS": "0"}

    def request(self, jpeg: bytes, tasks: str) -> Request:
        return Request(f"/predict?tasks={tasks}", jpeg, {"Content-Type": "image/jpeg"})


def _deployment(settings: Settings) -> Any:
    serve: Any = importlib.import_module("ray.serve")

    class TaskRoute:
        def __init__(self) -> None:
            from benchmarks.peers.handler import Handler

            self.handler = Handler(settings)

        @serve.batch(  # type: ignore[untyped-decorator]
            max_batch_size=settings.max_batch, batch_wait_timeout_s=settings.wait_ms / 1000
        )
        async def answer(self, asked: list[tuple[bytes, str]]) -> list[dict[str, Any]]:
            return self.handler.answer(asked)

        async def __call__(self, request: Any) -> Any:
            jpeg = await request.body()
            return await self.answer((jpeg, request.query_params["tasks"]))

    # Two batches' worth of requests per replica: one in work, one gathering.
    deployed = serve.deployment(
        num_replicas=settings.workers,
        max_ongoing_requests=2 * settings.max_batch,
        ray_actor_options={"num_cpus": 1},
    )(TaskRoute)
    return deployed.bind()


def serve() -> None:
    ray: Any = importlib.import_module("ray")
    ray_serve: Any = importlib.import_module("ray.serve")
    settings = Settings.from_environment()
    ray.init(
        _node_ip_address=HOST,
        include_dashboard=False,
        num_cpus=settings.workers + 1,
        configure_logging=False,
    )
    ray_serve.start(http_options={"host": HOST, "port": settings.port, "access_log": False})
    ray_serve.run(_deployment(settings), route_prefix="/predict")
    signal.sigwait({signal.SIGTERM, signal.SIGINT})
    ray_serve.shutdown()
    ray.shutdown()
