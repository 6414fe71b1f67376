"""The protocol over gRPC: an unmodified client, statuses, deadlines, cancellation, keys, drain."""

from __future__ import annotations

import asyncio
import json
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi import FastAPI
from torch import Tensor

from model.rows import RowBatch
from service.http.errors import STATUS_BY_CODE as HTTP_STATUS_BY_CODE
from tests.conftest import ROOT
from tests.service.fakes import expected_logit, fake_forward
from tests.service.http.apps import make_app, running, services
from tests.service.pictures import NOT_AN_IMAGE, picture

pytest.importorskip("grpc", reason="the extra grpc is not installed")
pytest.importorskip("google.protobuf", reason="the extra grpc is not installed")

import grpc

from service.grpc import open_inference_pb2 as pb
from service.grpc.codes import STATUS_BY_CODE

CODE = grpc.StatusCode


class Client:
    """Raw calls with our own messages."""

    def __init__(self, channel: Any) -> None:
        self._channel = channel

    def __call__(self, method: str, request: Any = None, **options: Any) -> Any:
        """The call, to be awaited."""
        kind = pb.DESCRIPTOR.services_by_name["GRPCInferenceService"].methods_by_name[method]
        call = self._channel.unary_unary(
            f"/inference.GRPCInferenceService/{method}",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=getattr(pb, kind.output_type.name).FromString,
        )
        return call(request or getattr(pb, kind.input_type.name)(), **options)


@asynccontextmanager
async def serving(app: FastAPI) -> AsyncIterator[Client]:
    async with running(app):
        server = services(app).grpc
        assert server is not None
        async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
            yield Client(channel)


def grpc_app(**changes: Any) -> FastAPI:
    return make_app(grpc_port=0, **changes)


def asking(*images: bytes, tasks: tuple[str, ...] = ("t1",), **rest: Any) -> pb.ModelInferRequest:
    """Typed contents; the unmodified client sends raw ones."""
    request = pb.ModelInferRequest(model_name="fashion", **rest)
    tensor = request.inputs.add(name="image", datatype="BYTES", shape=[len(images)])
    tensor.contents.bytes_contents.extend(images)
    for task in tasks:
        request.outputs.add(name=task)
    return request


async def refusal(call: Any) -> Any:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value


def trailing(error: Any) -> dict[str, str]:
    return dict(error.trailing_metadata())


def sigmoid(value: float) -> float:
    return float(1 / (1 + np.exp(-value)))


def test_tritonclient_unmodified(tmp_path: Path) -> None:
    pytest.importorskip("tritonclient", reason="tritonclient is not installed (extra dev)")
    values = (10, 200)
    for value in values:
        (tmp_path / f"{value}.png").write_bytes(picture(value))

    async def scenario() -> dict[str, Any]:
        app = grpc_app()
        async with running(app):
            server = services(app).grpc
            assert server is not None
            done = await asyncio.create_subprocess_exec(
                sys.executable,
                str(Path(__file__).with_name("triton_calls.py")),
                f"127.0.0.1:{server.port}",
                *(str(tmp_path / f"{value}.png") for value in values),
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                cwd=ROOT,
            )
            out, error = await done.communicate()
            assert done.returncode == 0, error.decode()
            found: dict[str, Any] = json.loads(out.decode().splitlines()[-1])
            return found

    found = asyncio.run(scenario())
    assert [found[name] for name in ("live", "ready", "model", "other")] == [True] * 4
    assert found["server"] == "taskroute"
    assert found["outputs"] == ["t0", "t1", "t2", "kind"]
    assert (found["id"], found["version"]) == ("42", "1")
    yes = [sigmoid(expected_logit(value, 1)) for value in values]
    np.testing.assert_allclose(found["t1"], [[1 - p, p] for p in yes], atol=1e-5)
    assert [[text.split(":")[1:] for text in row] for row in found["kind"]] == [
        [["3", "shirt"], ["2", "bag"]]
    ] * 2
    np.testing.assert_allclose(
        [row[1] for row in found["pixels"]], sigmoid(expected_logit(100, 1)), atol=1e-5
    )
    [statistics] = found["statistics"]
    assert statistics["inference_stats"]["success"]["count"] == "2"
    assert found["unknown task"][0] == "StatusCode.INVALID_ARGUMENT"
    assert "did you mean 'kind'" in found["unknown task"][1]
    assert found["unknown model"][0] == "StatusCode.NOT_FOUND"
    assert found["no image"][0] == "StatusCode.INVALID_ARGUMENT"
    assert found["load"][0] == "StatusCode.PERMISSION_DENIED"


def test_typed_contents_and_the_texts_of_http() -> None:
    async def scenario() -> None:
        app = grpc_app()
        async with running(app) as http:
            server = services(app).grpc
            assert server is not None
            async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
                client = Client(channel)
                answer = await client("ModelInfer", asking(picture(30), picture(60), id="7"))
                assert (answer.id, answer.parameters["digest"].string_param[:7]) == ("7", "sha256:")
                values = np.frombuffer(answer.raw_output_contents[0], "<f4").reshape(2, 2)
                wanted = [sigmoid(expected_logit(value, 1)) for value in (30, 60)]
                np.testing.assert_allclose(values[:, 1], wanted, atol=1e-5)
                error = await refusal(
                    client(
                        "ModelInfer",
                        asking(picture(1), tasks=("tt",)),
                        metadata=[("x-request-id", "me")],
                    )
                )
                same = await http.post(
                    "/v2/models/fashion/infer",
                    json={
                        "inputs": [
                            {
                                "name": "image",
                                "datatype": "UINT8",
                                "shape": [1, 1, 1, 3],
                                "data": [1, 2, 3],
                            }
                        ],
                        "outputs": [{"name": "tt"}],
                    },
                )
                assert error.code() is CODE.INVALID_ARGUMENT
                assert error.details() == same.json()["error"]
                assert trailing(error) == {"x-error-code": "unknown_task", "x-request-id": "me"}
                metrics = (await http.get("/metrics")).text
                assert (
                    'taskroute_grpc_requests_total{code="INVALID_ARGUMENT",method="ModelInfer"} 1.0'
                    in metrics
                )

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"datatype": "FP32"}, "datatype is 'FP32'"),
        ({"shape": [2]}, "hold 1 of 2 BYTES elements"),
        ({"shape": [-1]}, "sizes are 0 or more"),
        ({"name": "picture"}, "expected exactly one, 'image'"),
    ],
)
def test_a_tensor_that_cannot_be_used_is_refused(change: dict[str, Any], said: str) -> None:
    async def scenario() -> Any:
        async with serving(grpc_app()) as client:
            request = asking(picture(1))
            for name, value in change.items():
                if name == "shape":
                    request.inputs[0].shape[:] = value
                else:
                    setattr(request.inputs[0], name, value)
            return await refusal(client("ModelInfer", request))

    error = asyncio.run(scenario())
    assert (error.code(), said in error.details()) == (CODE.INVALID_ARGUMENT, True), error.details()


def test_no_image_no_input_and_raw_beside_contents_are_refused() -> None:
    async def scenario() -> list[str]:
        async with serving(grpc_app()) as client:
            both = asking(picture(1))
            both.raw_input_contents.append(b"x")
            requests = [asking(NOT_AN_IMAGE), pb.ModelInferRequest(model_name="fashion"), both]
            return [(await refusal(client("ModelInfer", r))).code().name for r in requests]

    assert asyncio.run(scenario()) == ["INVALID_ARGUMENT"] * 3


def test_the_calls_deadline_is_honoured_and_cancelling_leaves_the_queue() -> None:
    entered, opened = threading.Event(), threading.Event()

    def hold(batch: RowBatch, logits: Tensor) -> None:
        entered.set()
        assert opened.wait(30)

    async def scenario() -> None:
        app = grpc_app()
        async with serving(app) as client:
            core = services(app).core
            fake_forward(core.holder.current()).fault = hold
            running_call = asyncio.ensure_future(client("ModelInfer", asking(picture(1))))
            await asyncio.to_thread(entered.wait, 20)
            late = await refusal(client("ModelInfer", asking(picture(2)), timeout=0.2))
            assert late.code() is CODE.DEADLINE_EXCEEDED
            gone = client("ModelInfer", asking(picture(3)), timeout=60)
            async with asyncio.timeout(20):
                while core.scheduler.unanswered_requests < 2:  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
                gone.cancel()
                while core.scheduler.unanswered_requests > 1:  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
            assert core.scheduler.queue_rows == 0
            opened.set()
            assert len((await running_call).outputs) == 1

    asyncio.run(scenario())


def test_keys_are_asked_for_by_metadata_and_probes_are_open(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    from service.key_file import make_key, write_keys

    caplog.set_level("INFO")
    secret, entry = make_key(["predict"])
    write_keys(tmp_path / "keys.json", [entry])

    async def scenario() -> None:
        async with serving(grpc_app(api_keys_file=tmp_path / "keys.json")) as client:
            assert (await client("ServerLive")).live
            assert (await client("ServerReady")).ready
            request = asking(picture(1))
            missing = await refusal(client("ModelInfer", request))
            assert missing.code() is CODE.UNAUTHENTICATED
            assert trailing(missing)["x-error-code"] == "key_required"
            key = [("authorization", f"Bearer {secret}")]
            assert (await client("ModelInfer", request, metadata=key)).model_name == "fashion"
            lines = [r.__dict__["fields"] for r in caplog.records if r.name == "service.access"]
            assert [line.get("key") for line in lines] == [None, entry.id]
            load = pb.RepositoryModelLoadRequest(model_name="fashion")
            error = await refusal(client("RepositoryModelLoad", load, metadata=key))
            assert (error.code(), "scope admin" in error.details()) == (
                CODE.PERMISSION_DENIED,
                True,
            )

    asyncio.run(scenario())


def test_a_message_over_the_limit_is_refused() -> None:
    async def scenario() -> Any:
        small = {"max_body_bytes": 200_000, "max_image_bytes": 100_000}
        async with serving(grpc_app(**small)) as client:
            return await refusal(client("ModelInfer", asking(b"x" * 400_000)))

    assert asyncio.run(scenario()).code() is CODE.RESOURCE_EXHAUSTED


def test_overload_names_the_time_to_come_back() -> None:
    entered, opened = threading.Event(), threading.Event()

    def hold(batch: RowBatch, logits: Tensor) -> None:
        entered.set()
        assert opened.wait(30)

    async def scenario() -> None:
        app = grpc_app(max_queue_rows=1, max_batch_rows=1)
        async with serving(app) as client:
            core = services(app).core
            fake_forward(core.holder.current()).fault = hold
            calls = [asyncio.ensure_future(client("ModelInfer", asking(picture(1))))]
            await asyncio.to_thread(entered.wait, 20)
            calls.append(asyncio.ensure_future(client("ModelInfer", asking(picture(2)))))
            async with asyncio.timeout(20):
                while core.scheduler.queue_rows < 1:  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
            error = await refusal(client("ModelInfer", asking(picture(3))))
            assert (error.code(), trailing(error)["retry-after"]) == (CODE.RESOURCE_EXHAUSTED, "1")
            opened.set()
            assert [len((await call).outputs) for call in calls] == [1, 1]

    asyncio.run(scenario())


def test_a_drain_answers_what_is_in_flight_and_refuses_the_rest() -> None:
    entered, opened = threading.Event(), threading.Event()

    def hold(batch: RowBatch, logits: Tensor) -> None:
        entered.set()
        assert opened.wait(30)

    async def scenario() -> None:
        app = grpc_app()
        async with serving(app) as client:
            core = services(app).core
            fake_forward(core.holder.current()).fault = hold
            first = asyncio.ensure_future(client("ModelInfer", asking(picture(1))))
            await asyncio.to_thread(entered.wait, 20)
            core.begin_drain()
            error = await refusal(client("ModelInfer", asking(picture(2))))
            assert error.code() is CODE.UNAVAILABLE
            assert trailing(error)["retry-after"] == "1"
            opened.set()
            assert (await first).model_name == "fashion"

    asyncio.run(scenario())


def test_every_error_has_a_status() -> None:
    of_http_alone = {"head_timeout", "head_too_large"}
    assert set(STATUS_BY_CODE) - {"internal_error"} == set(HTTP_STATUS_BY_CODE) - of_http_alone


def test_the_messages_are_what_the_proto_says(tmp_path: Path) -> None:
    protoc = pytest.importorskip("grpc_tools.protoc", reason="grpcio-tools is not installed")
    proto = "service/grpc/open_inference.proto"
    made = protoc.main(["protoc", f"-I{ROOT}", f"--descriptor_set_out={tmp_path / 'd'}", proto])
    assert made == 0
    from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet

    [wanted] = FileDescriptorSet.FromString((tmp_path / "d").read_bytes()).file
    found = FileDescriptorProto()
    pb.DESCRIPTOR.CopyToProto(found)
    wanted.ClearField("source_code_info")
    assert found.SerializeToString(deterministic=True) == strip(wanted)


def strip(wanted: Any) -> bytes:
    """Without the JSON names that protoc adds and generated code leaves out."""

    def clear(message: Any) -> None:
        for field in message.field:
            field.ClearField("json_name")
        for nested in message.nested_type:
            clear(nested)

    for message in wanted.message_type:
        clear(message)
    return bytes(wanted.SerializeToString(deterministic=True))
