"""The handler a newcomer writes: FastAPI, and for each task a pass of the network. No batching.

The loop runs in FastAPI's thread pool, so that probes and uploads go on meanwhile.
"""

from __future__ import annotations

from benchmarks.peers.base import HOST, Peer, Request, Settings


class PlainFastAPI(Peer):
    name = "fastapi"

    def request(self, jpeg: bytes, tasks: str) -> Request:
        return Request(f"/predict?tasks={tasks}", jpeg, {"Content-Type": "image/jpeg"})


def create_app() -> object:
    """The application; each worker process makes its own."""
    import fastapi
    from fastapi.concurrency import run_in_threadpool

    from benchmarks.peers.handler import Handler

    settings = Settings.from_environment()
    handler = Handler(settings)
    app = fastapi.FastAPI()

    @app.get("/health")
    async def health() -> dict[str, str]:
        return {"status": "ok"}

    async def predict(request: fastapi.Request, tasks: str) -> object:
        jpeg = await request.body()
        if settings.strategy == "masked":
            return await run_in_threadpool(handler.answer_in_a_loop, jpeg, tasks)
        return (await run_in_threadpool(handler.answer, [(jpeg, tasks)]))[0]

    # The annotation is a string here and `fastapi` a local name: FastAPI could not resolve it.
    predict.__annotations__["request"] = fastapi.Request
    app.post("/predict")(predict)
    return app


def serve() -> None:
    import uvicorn

    settings = Settings.from_environment()
    uvicorn.run(
        "benchmarks.peers.fastapi:create_app",
        factory=True,
        host=HOST,
        port=settings.port,
        workers=settings.workers,
        access_log=False,
    )
