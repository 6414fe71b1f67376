"""A prediction as the protocol's inference response: JSON, and what follows it as binary data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic_core import to_json

from service.core.prediction import Prediction
from service.oip.asked import OutputForm
from service.oip.outputs import output_tensors


def render_inference(
    prediction: Prediction, forms: Sequence[OutputForm], request_id: str | None
) -> tuple[bytes, int | None]:
    """The body, and the length of its JSON where binary data follow it.

    Every image of ``prediction`` must have been answered; ``forms`` are those of its tasks.
    """
    model = prediction.model
    outputs, chunks = [], []
    for tensor in output_tensors(prediction, forms):
        output: dict[str, Any] = {
            "name": tensor.form.name,
            "datatype": tensor.datatype,
            "shape": list(tensor.shape),
        }
        if tensor.form.binary:
            chunks.append(tensor.raw())
            output["parameters"] = {"binary_data_size": len(chunks[-1])}
        else:
            output["data"] = tensor.data()
        outputs.append(output)
    header = to_json(
        {
            "model_name": model.name,
            "model_version": str(model.version),
            **({} if request_id is None else {"id": request_id}),
            "parameters": {"digest": model.digest},
            "outputs": outputs,
        }
    )
    return b"".join([header, *chunks]), len(header) if chunks else None
