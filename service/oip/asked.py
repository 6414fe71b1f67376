"""An inference request, understood: images, outputs with their forms, deadline, level."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from service.core.errors import InvalidFieldError
from service.core.prediction import EncodedImage
from service.core.priority import Priority
from service.oip.schemas import InferRequest, RequestInput, RequestOutput
from service.oip.tensors import images_of

INPUT_NAME = "image"


@dataclass(frozen=True)
class OutputForm:
    """How one output is wanted."""

    name: str
    classification: int = 0  # best k as "probability:index:label"; 0: all probabilities
    binary: bool = False  # behind the JSON


@dataclass(frozen=True)
class InferInput:
    """What was asked, whatever the form."""

    images: Sequence[EncodedImage]
    outputs: Sequence[OutputForm] | None = None  # None: every task
    id: str | None = None
    timeout_s: float | None = None
    binary: bool = False  # of outputs that say nothing about it
    priority: Priority | None = None


def understand(request: InferRequest, data: memoryview | None, max_images: int) -> InferInput:
    """Read a request whose input tensor's data are ``data``, or within it. CPU-bound.

    Raises:
        RequestError: in one of its kinds; something in it cannot be used.
    """
    parameters = request.parameters or {}
    binary = _flag(parameters, "binary_data_output", "parameters") or False
    return InferInput(
        images_of(the_input(request), data, max_images),
        _outputs(request.outputs, binary),
        request.id,
        _timeout_s(parameters),
        binary,
        _priority(parameters),
    )


def the_input(request: InferRequest) -> RequestInput:
    """The one tensor that there may be."""
    names = [tensor.name for tensor in request.inputs]
    if names != [INPUT_NAME]:
        shown = ", ".join(repr(name[:40]) for name in names[:5]) or "none"
        raise InvalidFieldError(
            f"inputs are {shown}; expected exactly one, {INPUT_NAME!r}: several images are elements"
            " of one tensor",
            field="inputs",
        )
    return request.inputs[0]


def _outputs(
    asked: Sequence[RequestOutput] | None, binary_by_default: bool
) -> list[OutputForm] | None:
    if not asked:
        return None
    forms = []
    for position, output in enumerate(asked):
        parameters, field = output.parameters or {}, f"outputs.{position}.parameters"
        binary = _flag(parameters, "binary_data", field)
        forms.append(
            OutputForm(
                output.name,
                _count(parameters, "classification", field),
                binary_by_default if binary is None else binary,
            )
        )
    return forms


def _timeout_s(parameters: Mapping[str, Any]) -> float | None:
    """Triton's unit is the microsecond, and its 0 means that none was given."""
    return _count(parameters, "timeout", "parameters") / 1e6 or None


def _priority(parameters: Mapping[str, Any]) -> Priority | None:
    """Triton's numbers: 1 is the most pressing level, and 0 means that none was given."""
    value = parameters.get("priority", 0)
    if type(value) is int and 0 <= value <= max(Priority):
        return Priority(value) if value else None
    raise InvalidFieldError(
        f"parameters.priority is {str(value)[:40]!r}; expected 1 (interactive) or 2 (bulk)",
        field="parameters.priority",
    )


def _flag(parameters: Mapping[str, Any], name: str, field: str) -> bool | None:
    value = parameters.get(name)
    if value is None or isinstance(value, bool):
        return value
    raise InvalidFieldError(
        f"{field}.{name} is {str(value)[:40]!r}; expected true or false", field=f"{field}.{name}"
    )


def _count(parameters: Mapping[str, Any], name: str, field: str) -> int:
    value = parameters.get(name, 0)
    if type(value) is int and 0 <= value < 2**63:
        return value
    raise InvalidFieldError(
        f"{field}.{name} is {str(value)[:40]!r}; expected a whole number, 0 or more",
        field=f"{field}.{name}",
    )
