"""The protocol's messages, to and from what both transports share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from service.core.errors import InvalidFieldError, MalformedRequestError
from service.core.prediction import Prediction
from service.grpc import open_inference_pb2 as pb
from service.oip.asked import InferInput, OutputForm, the_input, understand
from service.oip.outputs import output_tensors
from service.oip.schemas import (
    InferRequest,
    ModelMetadata,
    RequestInput,
    RequestOutput,
    StatisticsResponse,
)
from service.oip.tensors import pack_bytes

# Typed contents that can hold an image; others cannot.
_CONTENTS = {"BYTES": "bytes_contents", "UINT8": "uint_contents"}


def read_request(message: pb.ModelInferRequest, max_images: int) -> InferInput:
    """What a request asks. CPU-bound.

    Raises:
        RequestError: in one of its kinds; something in it cannot be used.
    """
    request = InferRequest(
        id=message.id or None,
        inputs=[_input(tensor) for tensor in message.inputs],
        outputs=[
            RequestOutput(name=output.name, parameters=_parameters(output.parameters))
            for output in message.outputs
        ],
        parameters=_parameters(message.parameters),
    )
    the_input(request)  # before its data are looked for
    return understand(request, _data(message, request), max_images)


def render_inference(
    prediction: Prediction, forms: Sequence[OutputForm], request_id: str | None
) -> pb.ModelInferResponse:
    """All outputs as raw contents; every image of ``prediction`` must have been answered."""
    model = prediction.model
    answer = pb.ModelInferResponse(
        model_name=model.name, model_version=str(model.version), id=request_id or ""
    )
    answer.parameters["digest"].string_param = model.digest
    for tensor in output_tensors(prediction, forms):
        answer.outputs.add(name=tensor.form.name, datatype=tensor.datatype, shape=tensor.shape)
        answer.raw_output_contents.append(tensor.raw())
    return answer


def render_metadata(found: ModelMetadata) -> pb.ModelMetadataResponse:
    return pb.ModelMetadataResponse(**found.model_dump())


def render_statistics(found: StatisticsResponse) -> pb.ModelStatisticsResponse:
    return pb.ModelStatisticsResponse(**found.model_dump())


def repository_parameters(
    given: Mapping[str, pb.ModelRepositoryParameter],
) -> dict[str, Any]:
    return _parameters(given)


def _input(tensor: pb.ModelInferRequest.InferInputTensor) -> RequestInput:
    if any(size < 0 for size in tensor.shape):
        raise InvalidFieldError(
            f"input {tensor.name[:40]!r}: shape is {list(tensor.shape)[:8]}; sizes are 0 or more",
            field="inputs.0.shape",
        )
    return RequestInput(
        name=tensor.name,
        datatype=tensor.datatype,
        shape=list(tensor.shape),
        parameters=_parameters(tensor.parameters),
    )


def _data(message: pb.ModelInferRequest, request: InferRequest) -> memoryview | None:
    """The input's data: raw, or those of its typed contents made so."""
    [tensor], raw = message.inputs, message.raw_input_contents
    field = _CONTENTS.get(tensor.datatype, "bytes_contents")
    typed = getattr(tensor.contents, field)
    if raw:
        if len(raw) > 1 or tensor.HasField("contents"):
            raise MalformedRequestError(
                f"{len(raw)} raw_input_contents for one input, or contents beside them; expected "
                "one or the other"
            )
        return memoryview(raw[0])
    if field == "bytes_contents":
        return memoryview(pack_bytes(typed))
    if any(value > 255 for value in typed):
        raise InvalidFieldError(
            'input "image": data has something else than whole numbers from 0 to 255',
            field="inputs.0.data",
        )
    return memoryview(bytes(typed))


def _parameters(given: Mapping[str, Any]) -> dict[str, Any]:
    found = {}
    for name, value in given.items():
        kind = value.WhichOneof("parameter_choice")
        if kind is not None:
            found[name] = getattr(value, kind)
    return found
