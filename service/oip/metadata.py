"""What the server and its model are, in the protocol's words."""

from __future__ import annotations

from collections.abc import Sequence

from model.preprocess import ACCEPTED_FORMATS
from service.core.served import ServedModel
from service.oip.asked import INPUT_NAME
from service.oip.schemas import ModelMetadata, ServerMetadata, TensorMetadata

SERVER_NAME = "taskroute"
EXTENSIONS = ("binary_tensor_data", "classification", "model_repository", "statistics")
PLATFORM = "taskroute_pytorch"


def server_metadata(version: str) -> ServerMetadata:
    """Name, version of the code, extensions."""
    return ServerMetadata(name=SERVER_NAME, version=version, extensions=list(EXTENSIONS))


def model_metadata(model: ServedModel, served: Sequence[int]) -> ModelMetadata:
    """One input, the image; one output for each task: the probabilities of its classes.

    Args:
        served: the model's versions that can be asked.
    """
    spec, groups = model.config.preprocess, model.tasks.groups
    return ModelMetadata(
        name=model.name,
        versions=[str(version) for version in served],
        platform=PLATFORM,
        inputs=[TensorMetadata(name=INPUT_NAME, datatype="BYTES", shape=[-1])],
        outputs=[
            TensorMetadata(name=task.name, datatype="FP32", shape=[-1, len(task.classes)])
            for task in model.tasks
        ],
        properties={
            "version": str(model.version),
            "digest": model.digest,
            "image": f"BYTES [N]: {', '.join(ACCEPTED_FORMATS)} files (in JSON: in base64); or "
            f"UINT8 [N, height, width, 3]: RGB, resized to {spec.height} x {spec.width}",
            "preprocess_id": spec.id,
            "strategy": model.strategy,
            "precision": model.precision,
            "tasks": str(len(model.tasks)),
            "groups": ", ".join(groups),
        },
    )
