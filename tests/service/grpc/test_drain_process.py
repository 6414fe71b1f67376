"""SIGTERM to a real process with gRPC: what was let in is answered, the rest sent elsewhere."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.service.pictures import picture
from tests.service.server_process import serving

pytest.importorskip("grpc", reason="the extra grpc is not installed")
pytest.importorskip("google.protobuf", reason="the extra grpc is not installed")

import grpc

from service.grpc import open_inference_pb2 as pb

IMAGES = 100
CALLS = 4


def question(images: int) -> pb.ModelInferRequest:
    """All tasks about so many images."""
    request = pb.ModelInferRequest(model_name="small")
    tensor = request.inputs.add(name="image", datatype="BYTES", shape=[images])
    tensor.contents.bytes_contents.extend(picture(seed=number) for number in range(images))
    return request


def refusal(call: Callable[[], object]) -> Any:
    """The status of the first call that fails: the signal may take a moment to come through."""
    try:
        while True:
            call()
    except grpc.RpcError as error:
        return error.code()


def test_sigterm_answers_the_calls_let_in_and_refuses_the_next(repository: Path) -> None:
    flags = ("--grpc-port", "0", "--max-batch-rows", "16", "--max-images", "200")
    patient = ("--request-timeout-ms", "100000", "--drain-timeout-ms", "100000")
    with serving(repository, *flags, *patient) as server:
        port = server.wait_for("listening", having="grpc_port")["grpc_port"]
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            infer = channel.unary_unary(
                "/inference.GRPCInferenceService/ModelInfer",
                request_serializer=pb.ModelInferRequest.SerializeToString,
                response_deserializer=pb.ModelInferResponse.FromString,
            )
            calls = [infer.future(question(IMAGES), timeout=120) for _ in range(CALLS)]
            until = time.monotonic() + 60
            while sum(
                server.metric(f"taskroute_{name}") for name in ("queue_rows", "rows_total")
            ) < 12 * IMAGES * (CALLS - 1):  # beyond: rows of each of them
                assert time.monotonic() < until
            assert not all(call.done() for call in calls), "the test shows nothing"
            server.process.send_signal(signal.SIGTERM)
            assert refusal(lambda: infer(question(1), timeout=120)) is grpc.StatusCode.UNAVAILABLE
            for call in calls:
                assert call.result().outputs[0].shape[0] == IMAGES
        assert server.process.wait(60) == 0
