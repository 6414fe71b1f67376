"""The protocol's documents: requests as they are validated, answers as they are described."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictInt

Parameters = dict[str, Any]
Dimension = Annotated[StrictInt, Field(ge=0, lt=2**63)]


class _Request(BaseModel):
    # Clients add fields of their own (KServe's: model_name), and the protocol lets them.
    model_config = ConfigDict(extra="ignore")


class RequestInput(_Request):
    """One input tensor."""

    name: str = Field(description='"image"')
    datatype: str = Field(description="BYTES (files) or UINT8 (pixels)")
    shape: Annotated[list[Dimension], Field(fail_fast=True)] = Field(
        description="BYTES: [N]; UINT8: [N, height, width, 3], RGB"
    )
    data: Any = Field(
        default=None,
        description="BYTES: files in base64; UINT8: numbers, flat or nested. Left out where "
        "parameters.binary_data_size says that the data follow the JSON",
    )
    parameters: Parameters | None = None


class RequestOutput(_Request):
    """One requested output."""

    name: str = Field(description='a task; "group:NAME" and "*" stand for several')
    parameters: Parameters | None = Field(
        default=None, description="classification (k), binary_data"
    )


class InferRequest(_Request):
    """The JSON part of a request."""

    id: str | None = Field(default=None, description="echoed")
    inputs: Annotated[list[RequestInput], Field(fail_fast=True)]
    outputs: Annotated[list[RequestOutput], Field(fail_fast=True)] | None = Field(
        default=None, description="by default all tasks"
    )
    parameters: Parameters | None = Field(
        default=None,
        description="timeout (microseconds), priority (1: interactive, 2: bulk), "
        "binary_data_output",
    )


class IndexRequest(_Request):
    """What of the repository to list."""

    ready: StrictBool = False


class LoadRequest(_Request):
    """What to load or unload of a model."""

    parameters: Parameters | None = Field(
        default=None,
        description="version: a version to serve beside the one that answers, or to take out again",
    )


class TensorMetadata(BaseModel):
    """Name, type and shape; -1 is any number."""

    name: str
    datatype: str
    shape: list[int]


class ServerMetadata(BaseModel):
    """Who answers, and which extensions of the protocol it knows."""

    name: str
    version: str
    extensions: list[str]


class ModelMetadata(BaseModel):
    """What a model takes and answers: every task is an output."""

    name: str
    versions: list[str]
    platform: str
    inputs: list[TensorMetadata]
    outputs: list[TensorMetadata]
    properties: dict[str, str]


class ModelReady(BaseModel):
    """Inference requests for the model will be answered."""

    name: str
    ready: bool = True


class ResponseOutput(BaseModel):
    """One task's answers about all images."""

    name: str
    datatype: Literal["FP32", "BYTES"]
    shape: list[int] = Field(description="[N, classes], or [N, k] for a classification")
    data: list[float | str] | None = Field(
        default=None,
        description='probabilities, or "probability:index:label"; absent where '
        "parameters.binary_data_size says that the data follow the JSON",
    )
    parameters: Parameters | None = None


class InferResponse(BaseModel):
    """Answers of one model version."""

    model_name: str
    model_version: str
    id: str | None = None
    parameters: Parameters = Field(description="digest of the bundle that answered")
    outputs: list[ResponseOutput]


class RepositoryEntry(BaseModel):
    """One published version."""

    name: str
    version: str
    state: Literal["READY", "UNAVAILABLE"]
    reason: str


class Duration(BaseModel):
    """How many times, and how long in all."""

    count: int
    ns: int


class InferenceStatistics(BaseModel):
    """Of requests, whatever protocol they came by."""

    success: Duration
    fail: Duration
    queue: Duration
    compute_input: Duration = Field(description="decoding of the images")
    compute_infer: Duration = Field(description="the batches that the requests' rows were in")
    compute_output: Duration
    cache_hit: Duration
    cache_miss: Duration


class BatchStatistics(BaseModel):
    """Of all batches of one size."""

    batch_size: int = Field(description="rows (image x task)")
    compute_input: Duration
    compute_infer: Duration
    compute_output: Duration


class ModelStatisticsEntry(BaseModel):
    """Of one version of one model."""

    name: str
    version: str
    last_inference: int = Field(description="milliseconds since the epoch")
    inference_count: int = Field(description="rows (image x task) that were run")
    execution_count: int = Field(description="batches")
    inference_stats: InferenceStatistics
    batch_stats: list[BatchStatistics]


class StatisticsResponse(BaseModel):
    """Since the process started."""

    model_stats: list[ModelStatisticsEntry]
