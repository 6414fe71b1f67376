"""Response bodies as the API's documentation describes them; also those that are small enough to
be made from models."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from model.config import BackboneConfig, Family, HeadConfig, PreprocessConfig, RoutingConfig
from service.core.holder import State
from service.core.run_options import Precision
from service.core.versions import Role


class ErrorBody(BaseModel):
    """Every error, on every route."""

    error: str = Field(description="for a person: what was seen, the limit, what to do")
    code: str = Field(description="for a program; stable")
    request_id: str
    details: dict[str, Any]

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "error": "unknown task: 'footwaer' (did you mean 'footwear'?)",
                "code": "unknown_task",
                "request_id": "5f0c2a6de7f24b0e8f3f2f7a2c8c1b1d",
                "details": {
                    "unknown": ["footwaer"],
                    "nearest": {"footwaer": ["footwear"]},
                    "count": 1,
                },
            }
        }
    )


class RowFailure(BaseModel):
    """One task of an image that could not be answered, although others were."""

    task: str
    error: str
    code: str
    details: dict[str, Any]


class BinaryPrediction(BaseModel):
    """The answer of a task with two classes."""

    task: str
    label: str = Field(description="the second class if probability >= threshold, else the first")
    probability: float = Field(description="of the second class, whatever the label")
    threshold: float
    calibrated: bool


class ClassPrediction(BaseModel):
    """The answer of a task with more than two classes."""

    task: str
    label: str = Field(description="the likeliest class")
    probability: float = Field(description="of the label")
    probabilities: dict[str, float] = Field(description="of every class")
    calibrated: bool


class ImagePredictions(BaseModel):
    """Answers about one image, in the order asked."""

    id: str
    predictions: list[BinaryPrediction | ClassPrediction | RowFailure]


class ImageError(BaseModel):
    """Why there are no answers about one of several images."""

    id: str
    error: str
    code: str
    details: dict[str, Any]


class ModelReference(BaseModel):
    """Exactly which model answered."""

    name: str
    version: int
    digest: str


class TimingMs(BaseModel):
    """Where the time went, in milliseconds."""

    decode: float
    queue: float
    compute: float = Field(description="of the batches that the request's rows were in")


class PredictResponse(BaseModel):
    """Answers to every task about every image."""

    request_id: str
    model: ModelReference
    results: list[ImagePredictions | ImageError]
    timing_ms: TimingMs

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "request_id": "5f0c2a6de7f24b0e8f3f2f7a2c8c1b1d",
                "model": {"name": "fashion", "version": 3, "digest": "sha256:9f2c..."},
                "results": [
                    {
                        "id": "0",
                        "predictions": [
                            {
                                "task": "footwear",
                                "label": "yes",
                                "probability": 0.97,
                                "threshold": 0.41,
                                "calibrated": True,
                            },
                            {
                                "task": "category",
                                "label": "Sneaker",
                                "probability": 0.91,
                                "probabilities": {"Sneaker": 0.91, "Sandal": 0.09},
                                "calibrated": False,
                            },
                        ],
                    }
                ],
                "timing_ms": {"decode": 1.2, "queue": 0.4, "compute": 5.1},
            }
        }
    )


class TaskCard(BaseModel):
    """One task that can be asked for."""

    name: str
    group: str
    description: str
    classes: list[str]
    threshold: float | None = Field(description="null for tasks with more than two classes")
    calibrated: bool


class TasksResponse(BaseModel):
    """The catalogue."""

    model: ModelReference
    tasks: list[TaskCard]
    groups: dict[str, list[str]] = Field(description='task names by group; ask for "group:NAME"')


class PlanCost(BaseModel):
    """What one strategy costs, fitted to the last batches."""

    fixed_s: float = Field(description="of a batch")
    per_row_s: float = Field(description="of each row in it")


Cost = dict[str, PlanCost]  # by strategy


class EngineCard(BaseModel):
    """The engine's state."""

    threads: int
    decode_threads: int
    cpus: int
    cpus_from: str = Field(description="cgroup v1, cgroup v2 or affinity")
    batch_limit_rows: int = Field(description="max_batch_rows, or less after running out of memory")
    rows_per_second: float | None = Field(description="of engine time, over the last batches")
    cost: Cost = Field(description="of the version that answers")
    queue_rows: int


class RefreshCard(BaseModel):
    """How the repository is followed."""

    follows: bool = Field(description="whether versions published from now on will be served")
    interval_ms: float = Field(description="between looks; 0: none after the first")
    read_at: str | None = Field(description="last time that the repository could be read")
    unreadable: str | None = Field(description="why it cannot be read now, if it cannot")
    previous: ModelReference | None = Field(description="what a rollback returns to")


class RefreshResponse(BaseModel):
    """What an administrator's request came to."""

    outcome: Literal["unchanged", "swapped", "refused", "unreadable"]
    reason: str | None = Field(default=None, description="why it was refused or is unreadable")
    model: ModelReference | None = Field(description="what answers now")


class MeasurementCard(BaseModel):
    """How fast each strategy answered a sample, when they were last measured."""

    at: str
    rows: int = Field(description="in the sample")
    images: int
    seconds: dict[str, float] = Field(description="for the sample, by strategy: the fastest runs")


class MeasureResponse(BaseModel):
    """What measuring again came to."""

    model: ModelReference
    before: str = Field(description="the strategy until now")
    strategy: str = Field(description="the strategy from now on")
    measured: MeasurementCard | None


class VersionCard(BaseModel):
    """One version in memory."""

    version: int
    digest: str
    roles: list[Role] = Field(
        description="stable: answers; canary: answers a share; shadow: is compared; beside: "
        "answers who names it; previous: what a rollback returns to"
    )
    loaded_at: str
    load_seconds: float
    strategy: str = Field(description="how batches are run")
    measured: MeasurementCard | None = Field(description="null where a setting says how")
    kernels: str = Field(description="what runs the convolutions: pytorch, or compiled ones")
    precision: Precision
    precision_error: float = Field(
        description="largest |dp| of sample rows against masked float32, at load"
    )
    device: str
    threads: int = Field(description="inside the engine")
    tasks: int
    cost: Cost = Field(description="fitted, by strategy")


class PlaceCard(BaseModel):
    """One place for a version: what is wanted there, and how it stands."""

    role: Role
    wanted: int | Literal["latest"]
    state: State
    version: int | None = Field(description="the one that is there")
    reason: str | None = Field(description="why the last bundle was refused, if it was")
    unreadable: str | None = Field(description="why the repository cannot be read, if it cannot")


class ShadowCard(BaseModel):
    """How the shadow version compares with those that answer."""

    version: int
    compared_rows: int
    label_flips: int = Field(description="compared rows for which it says another label")
    most_flipped: dict[str, int] = Field(description="the ten tasks with most of them")
    mean_difference: float | None = Field(
        description="of the largest difference of a class's probability, over compared rows"
    )
    max_difference: float
    failed_rows: int
    incomparable_rows: int = Field(description="other pixels, or no such task")
    dropped_rows: int = Field(description="the engine was not idle")


class ModelCard(BaseModel):
    """One model with all its versions."""

    name: str
    state: State = Field(description="of the stable version")
    canary_share: float = Field(description="of the requests that name no version")
    places: list[PlaceCard]
    versions: list[VersionCard]
    shadow: ShadowCard | None = Field(description="null before its first row")


class ModelsResponse(BaseModel):
    """Everything that is served."""

    default: str = Field(description="the model that answers where a request names none")
    max_versions: int
    models: list[ModelCard]


class ModelResponse(BaseModel):
    """What is served and how. While nothing is, all but name, state, reason, refresh and engine are
    null."""

    name: str
    state: State
    reason: str | None = Field(description="why the last bundle was refused, if it was")
    version: int | None = None
    digest: str | None = None
    loaded_at: str | None = None
    load_seconds: float | None = None
    strategy: str | None = Field(default=None, description="how batches are run")
    measured: MeasurementCard | None = Field(
        default=None, description="what that was chosen by; null where a setting says how"
    )
    kernels: str | None = Field(
        default=None, description="what runs the convolutions: pytorch, or compiled ones"
    )
    precision: Precision | None = None
    precision_error: float | None = Field(
        default=None, description="largest |dp| of sample rows against masked float32, at load"
    )
    device: str | None = None
    tasks: int | None = Field(default=None, description="number of tasks; see /v1/tasks")
    family: Family | None = Field(
        default=None, description="routed: one trunk for all tasks; others have one for each"
    )
    backbone: BackboneConfig | None = None
    routing: RoutingConfig | None = None
    head: HeadConfig | None = None
    preprocess: PreprocessConfig | None = None
    preprocess_id: str | None = Field(
        default=None, description="equal ids give equal pixels for equal files"
    )
    parameters: dict[str, int] | None = None
    metrics: dict[str, Any] | None = Field(
        default=None, description="held-out figures from the bundle"
    )
    refresh: RefreshCard
    engine: EngineCard


class LimitsResponse(BaseModel):
    """The limits in force."""

    media_types: list[str]
    image_formats: list[str]
    max_body_bytes: int
    max_images: int
    max_image_bytes: int
    max_image_pixels: int
    max_rows: int = Field(description="images x tasks in one request")
    request_timeout_ms: float
    max_request_timeout_ms: float


class Live(BaseModel):
    """The process is sound."""

    live: bool = True


class Ready(BaseModel):
    """Requests will be answered."""

    ready: bool = True
