"""The protocol's methods."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import grpc

from model.repository import Repository
from service.administration import check_administration
from service.core.canary import HEADER as CANARY
from service.core.canary import KEY_HEADER as CANARY_KEY
from service.core.canary import Lot
from service.core.errors import OverloadedError
from service.core.serving import ServingCore
from service.grpc import messages
from service.grpc import open_inference_pb2 as pb
from service.grpc.call import Call, Calls, as_mapping, deadline_of
from service.metrics import Metrics
from service.oip.infer import infer
from service.oip.metadata import model_metadata, server_metadata
from service.oip.models import choose_model, find_model, version_number
from service.oip.repository import published_entries, served_entries
from service.oip.statistics import all_statistics
from service.oip.versions import asked_version
from service.priority import HEADER as PRIORITY
from service.priority import header_priority
from service.settings import Settings

NAME = "inference.GRPCInferenceService"
# Larger messages are read in the decode pool: their copies would stall the event loop.
_INLINE_BYTES = 64 * 1024
_RETRY_S = 1


class Inference:
    """Handlers by method: parse, call the core, render."""

    def __init__(
        self, settings: Settings, core: ServingCore, metrics: Metrics, version: str
    ) -> None:
        self._settings = settings
        self._core = core
        self._metrics = metrics
        self._version = version
        self._inflight_bytes = 0

    async def server_live(self, _: pb.ServerLiveRequest, __: Call) -> pb.ServerLiveResponse:
        return pb.ServerLiveResponse(live=self._core.not_live() is None)

    async def server_ready(self, _: pb.ServerReadyRequest, __: Call) -> pb.ServerReadyResponse:
        self._core.check_ready()
        return pb.ServerReadyResponse(ready=True)

    async def model_ready(self, request: pb.ModelReadyRequest, _: Call) -> pb.ModelReadyResponse:
        models, version = self._core.models, request.version or None
        version_number(models, request.name, version)
        self._core.check_running()
        find_model(models, request.name, version)
        return pb.ModelReadyResponse(ready=True)

    async def server_metadata(
        self, _: pb.ServerMetadataRequest, __: Call
    ) -> pb.ServerMetadataResponse:
        return pb.ServerMetadataResponse(**server_metadata(self._version).model_dump())

    async def model_metadata(
        self, request: pb.ModelMetadataRequest, _: Call
    ) -> pb.ModelMetadataResponse:
        models = self._core.models
        model = find_model(models, request.name, request.version or None)
        served = sorted(models.get(request.name).serving())
        return messages.render_metadata(model_metadata(model, served))

    async def model_infer(self, request: pb.ModelInferRequest, call: Call) -> pb.ModelInferResponse:
        size = request.ByteSize()
        limit = self._settings.max_inflight_body_bytes
        if self._inflight_bytes + size > limit:
            self._metrics.shed("body_bytes")
            raise OverloadedError(
                f"messages in flight hold {self._inflight_bytes} bytes; the limit is {limit} "
                f"(max_inflight_body_bytes); try again in {_RETRY_S} s",
                retry_after_s=_RETRY_S,
                reason="body_bytes",
            )
        self._inflight_bytes += size
        try:
            return await self._infer(request, call, size)
        finally:
            self._inflight_bytes -= size

    async def _infer(
        self, request: pb.ModelInferRequest, call: Call, size: int
    ) -> pb.ModelInferResponse:
        settings, core, record = self._settings, self._core, call.record
        most = settings.max_request_timeout_ms / 1000
        deadline = deadline_of(call, settings.request_timeout_ms / 1000, most)
        metadata = call.metadata
        key = metadata.get(CANARY_KEY.lower()) or record.request_id
        lot = Lot(key, metadata.get(CANARY.lower()))
        model = choose_model(core.models, request.model_name, request.model_version or None, lot)
        priority = header_priority(metadata.get(PRIORITY.lower()))
        core.predictor.check_room(deadline, priority)
        arguments = (request, settings.max_images)
        if size <= _INLINE_BYTES:
            asked = messages.read_request(*arguments)
        else:
            asked = await core.decoder.run(messages.read_request, *arguments)
        if asked.timeout_s is not None:
            allowed = min(asked.timeout_s, most)
            deadline = (
                record.started + allowed
                if call.deadline is None
                else min(deadline, record.started + allowed)
            )
        prediction, forms = await infer(core.predictor, model, asked, record, deadline, priority)
        return messages.render_inference(prediction, forms, asked.id)

    async def model_statistics(
        self, request: pb.ModelStatisticsRequest, _: Call
    ) -> pb.ModelStatisticsResponse:
        found = all_statistics(
            self._metrics.statistics,
            self._core.models,
            request.name or None,
            request.version or None,
        )
        return messages.render_statistics(found)

    async def repository_index(
        self, request: pb.RepositoryIndexRequest, _: Call
    ) -> pb.RepositoryIndexResponse:
        models = self._core.models
        if request.ready:
            entries = served_entries(models)
        else:
            settings = self._settings
            repository = Repository(settings.repository, settings.remote_options())
            entries = await asyncio.to_thread(published_entries, repository, models)
        return pb.RepositoryIndexResponse(
            models=[
                pb.RepositoryIndexResponse.ModelIndex(**entry.model_dump()) for entry in entries
            ]
        )

    async def repository_model_load(
        self, request: pb.RepositoryModelLoadRequest, _: Call
    ) -> pb.RepositoryModelLoadResponse:
        check_administration(self._settings)
        version = asked_version(messages.repository_parameters(request.parameters))
        await self._core.models.load(request.model_name, version)
        return pb.RepositoryModelLoadResponse()

    async def repository_model_unload(
        self, request: pb.RepositoryModelUnloadRequest, _: Call
    ) -> pb.RepositoryModelUnloadResponse:
        check_administration(self._settings)
        version = asked_version(messages.repository_parameters(request.parameters))
        await self._core.models.unload(request.model_name, version)
        return pb.RepositoryModelUnloadResponse()


class Methods(grpc.GenericRpcHandler):  # type: ignore[misc]  # grpc has no types
    """Finds a call's handler; of a call without the right key not even the message is read."""

    def __init__(self, inference: Inference, calls: Calls) -> None:
        self._calls = calls
        self._handlers = {
            f"/{NAME}/{method.name}": (
                method.name,
                grpc.unary_unary_rpc_method_handler(
                    calls.wrap(method.name, _handler(inference, method.name)),
                    getattr(pb, method.input_type.name).FromString,
                    getattr(pb, method.output_type.name).SerializeToString,
                ),
            )
            for method in pb.DESCRIPTOR.services_by_name["GRPCInferenceService"].methods
        }

    def service(self, details: Any) -> Any:
        """The handler of a call, by its name and metadata; None: there is no such method."""
        found = self._handlers.get(details.method)
        if found is None:
            return None
        name, handler = found
        refusal = self._calls.refusal(name, as_mapping(details.invocation_metadata))
        if refusal is None:
            return handler
        # Of a stream nothing is read until the handler asks.
        return grpc.stream_unary_rpc_method_handler(self._calls.refuse(name, refusal))


def _handler(inference: Inference, name: str) -> Callable[[Any, Call], Awaitable[Any]]:
    snake = "".join(f"_{c.lower()}" if c.isupper() else c for c in name).lstrip("_")
    found: Callable[[Any, Call], Awaitable[Any]] = getattr(inference, snake)
    return found
