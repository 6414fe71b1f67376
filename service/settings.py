"""Settings: environment variables ``TASKROUTE_*``, each also a flag of ``python -m service``.

A field's description is the whole documentation of a setting: the flag's help, the README's table
and ``--print-config`` are made from it.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from model.preprocess import ImageLimits
from model.remote_options import RemoteOptions, default_cache_dir
from model.weight_cache import DEFAULT_BUDGET_BYTES
from service.core.limits import SchedulerLimits
from service.core.plan import ModelPlan
from service.core.run_options import Precision, RunOptions
from service.core.serving import CoreOptions
from service.model_settings import model_plans

PREFIX = "TASKROUTE_"
# Read by other parts of the project, not by the service.
_OTHER_VARIABLES = frozenset(
    {"TASKROUTE_API_KEY", "TASKROUTE_DATA", "TASKROUTE_DEPLOY_CACHE", "TASKROUTE_NODE_MODULES"}
)


class Settings(BaseSettings):
    """Everything that can be set. Frozen: what was started is what runs."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="forbid")

    repository: str = Field(
        min_length=1,
        description="where the published bundles are: a directory, or a URL such as "
        "`s3://BUCKET/PREFIX` or `gs://BUCKET/PREFIX` (extra `remote`)",
    )
    model: str = Field(
        min_length=1,
        description="name of the model to serve, or several with commas: the first answers where a "
        "request names none. `NAME@VERSION` pins a version; more of them for the same name are "
        "served beside it, by their numbers",
    )
    version: int | None = Field(
        default=None,
        ge=1,
        description="version of the one model to serve; by default the one that LATEST names",
    )
    canary: str = Field(
        default="",
        description="`NAME@VERSION` or `NAME@latest`: a version that answers a share of the "
        "requests; for several models with commas",
    )
    canary_share: float = Field(
        default=0.05, ge=0.0, le=1.0, description="share of a model's requests for its canary"
    )
    shadow: str = Field(
        default="",
        description="`NAME@VERSION` or `NAME@latest`: a version that is compared with the one that "
        "answers, while the engine is idle; for several models with commas",
    )
    max_versions: int = Field(
        default=8,
        ge=1,
        description="versions of all models that may be served at once, canaries and shadows "
        "included; those kept for rollback are not counted",
    )
    refresh_interval_ms: float = Field(
        default=5000.0,
        ge=0.0,
        description="time between looks at LATEST: another version is loaded beside the one that "
        "answers, checked, warmed up and swapped in; 0: look only until there is one that can be "
        "served. A given version is looked for until it is served, and stays",
    )
    repository_timeout_ms: float = Field(
        default=20_000.0,
        gt=0.0,
        description="longest wait for an answer of an object store; files are fetched in pieces "
        "with this time for each",
    )
    bundle_cache_dir: Path | None = Field(
        default=None,
        description="where checked copies of bundles from an object store are kept; by default "
        "`taskroute` in the user's cache directory",
    )
    bundle_cache_bytes: int = Field(
        default=10 * 2**30,
        ge=1,
        description="bytes of those copies; beyond, the least recently read that nobody is reading "
        "are deleted",
    )
    keep_previous: bool = Field(
        default=True,
        description="keep the version before in memory, so that `POST /v1/admin/rollback` returns "
        "to it at once",
    )
    open_admin: bool = Field(
        default=False,
        description="let everybody call `POST /v1/admin/*` where there are no API keys",
    )
    host: str = Field(default="127.0.0.1", description="address to listen on")
    port: int = Field(
        default=8000,
        ge=0,
        le=65535,
        description="port to listen on; 0 takes a free one and logs it",
    )
    grpc_port: int | None = Field(
        default=None,
        ge=0,
        le=65535,
        description="port for the Open Inference Protocol over gRPC (extra `grpc`); 0 takes a free "
        "one and logs it; by default there is none",
    )
    admin_port: int | None = Field(
        default=None,
        ge=0,
        le=65535,
        description="a second port for `/v1/admin`, loading and unloading, `/metrics` and the "
        "probes, which then answers nothing else; of these the first port keeps the probes. 0 "
        "takes a free one and logs it; by default there is one port for all",
    )
    reuse_port: bool = Field(
        default=False,
        description="let several processes on one machine listen on the same port; the kernel "
        "spreads connections over them, so each must be ready before clients come",
    )
    api_keys_file: Path | None = Field(
        default=None,
        description="file of API keys (made by `python -m service.keys`); read again when it "
        "changes; without one, everybody may do everything",
    )
    workers: int = Field(
        default=1, description="always 1: run more replicas instead (one model per process)"
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="least severe log lines written; probes are logged at debug"
    )

    tracing: bool = Field(
        default=False,
        description="send OpenTelemetry spans to where the variables `OTEL_*` say (extra `otel`)",
    )

    device: str = Field(
        default="cpu", pattern=r"^(cpu|cuda(:\d+)?)$", description="cpu, cuda or cuda:N"
    )
    strategy: Literal["auto", "masked", "mixed", "subnet"] = Field(
        default="auto", description="how batches are run; auto measures at load and takes the best"
    )
    precision: Precision = Field(
        default="float32",
        description="of the convolutions: float32, bfloat16 (CPU and GPU) or float16 (GPU)",
    )
    max_probability_error: float = Field(
        default=0.02,
        gt=0.0,
        le=1.0,
        description="a model is refused if, at load, a probability of sample rows differs by more "
        "from masked float32",
    )
    compiled_kernels: bool = Field(
        default=True,
        description="run subnets in float32 on a CPU with the compiled kernels, where they are at "
        "hand; false: with PyTorch's operators",
    )
    compile_subnets: bool = Field(
        default=False,
        description="run subnets by torch.compile where the compiled kernels do not run, as on a "
        "GPU; loading takes longer then, and on CPUs answers too",
    )
    subnet_budget_bytes: int = Field(
        default=DEFAULT_BUDGET_BYTES,
        ge=1,
        description="bytes of cut subnet weights that are kept; the least recently used go first",
    )
    threads: int = Field(
        default=0, ge=0, description="threads inside the engine; 0: the cgroup's CPU quota"
    )
    decode_threads: int = Field(
        default=0, ge=0, description="threads that decode images; 0: one less than CPUs, at least 1"
    )
    warmup_ms: float = Field(
        default=2000.0, ge=0.0, description="time for warm-up batches before ready; one always runs"
    )

    max_batch_rows: int = Field(
        default=256, ge=1, description="rows (image x task) in one batch of the engine"
    )
    max_batch_delay_ms: float = Field(
        default=2.0,
        ge=0.0,
        description="longest time a free engine waits for a fuller batch, where the fitted cost "
        "says that it pays; 0: never",
    )
    max_batch_duration_ms: float = Field(
        default=200.0,
        gt=0.0,
        description="batches are kept to what the fitted cost says runs in this time, so that a "
        "pressing request is never stuck behind a long one; 32 rows are always allowed",
    )
    max_request_share: float = Field(
        default=0.5,
        gt=0.0,
        le=1.0,
        description="largest share of a batch's rows for one request while others wait",
    )
    ageing_ms: float = Field(
        default=2000.0,
        ge=0.0,
        description="requests with nearer deadlines overtake an older one for at most this long",
    )

    bulk_interval_ms: float = Field(
        default=2000.0,
        ge=0.0,
        description="while interactive requests keep the engine busy, bulk ones "
        "(`X-Request-Priority: bulk`) get one batch in this time",
    )

    overload_status: Literal["429", "503"] = Field(
        default="429",
        description="status of what is refused for want of room; 503 for load balancers that try "
        "elsewhere after that one only (logs and metrics say 429 all the same)",
    )
    max_queue_rows: int = Field(
        default=8192, ge=1, description="rows that may wait; beyond, 429. Also one request's most"
    )
    max_queue_bytes: int = Field(
        default=512 * 2**20,
        ge=1,
        description="bytes of images, encoded and decoded, that unanswered requests may hold; "
        "beyond, 429",
    )
    max_queue_delay_ms: float = Field(
        default=1000.0,
        gt=0.0,
        description="while 32 or more requests wait, a new one that would wait longer than this "
        "gets 429",
    )

    response_cache_bytes: int = Field(
        default=0,
        ge=0,
        description="bytes of answers that are remembered, by decoded pixels, bundle and task; the "
        "least recently used go first; 0: none",
    )

    max_body_bytes: int = Field(
        default=32_000_000,
        ge=1,
        description="bytes of a prediction's body (64 KiB of any other); beyond, 413",
    )
    max_inflight_body_bytes: int = Field(
        default=512_000_000,
        ge=1,
        description="bytes of all bodies being received or answered; beyond, 429",
    )
    max_images: int = Field(default=32, ge=1, description="images in one request; beyond, 413")
    max_image_bytes: int = Field(
        default=20_000_000, ge=1, description="bytes of one image file; beyond, 413"
    )
    max_image_pixels: int = Field(
        default=25_000_000, ge=1, description="width x height of one image; beyond, 413"
    )

    request_timeout_ms: float = Field(
        default=10_000.0,
        gt=0.0,
        description="time for a request without an X-Request-Timeout-Ms header; beyond, 504",
    )
    max_request_timeout_ms: float = Field(
        default=120_000.0,
        gt=0.0,
        description="most that X-Request-Timeout-Ms can ask for; larger values count as this",
    )
    engine_stall_ms: float = Field(
        default=30_000.0,
        gt=0.0,
        description="an engine without a sign of life for this long counts as hung: requests are "
        "refused, and live fails; while it warms up or measures a version, live fails after ten "
        "times as long",
    )
    drain_timeout_ms: float = Field(
        default=20_000.0,
        ge=0.0,
        description="time after SIGTERM for requests that were let in; the rest get 503",
    )

    @field_validator("repository", mode="before")
    @classmethod
    def _path_or_url(cls, value: object) -> object:
        return str(value) if isinstance(value, Path) else value

    @model_validator(mode="after")
    def _one_process(self) -> Self:
        if self.workers != 1:
            raise ValueError(
                f"workers is {self.workers}, but each worker would load the model again, and split "
                "batches and metrics: leave it at 1 and run more replicas (on one machine they can "
                "share the port: reuse_port)"
            )
        return self

    @model_validator(mode="after")
    def _models_fit(self) -> Self:
        places = sum(plan.places for plan in self.model_plans())
        if places > self.max_versions:
            raise ValueError(
                f"model, canary and shadow name {places} versions, above max_versions, which is "
                f"{self.max_versions}: each takes memory of its own; raise it, or serve fewer"
            )
        return self

    @model_validator(mode="after")
    def _precision_fits_device(self) -> Self:
        if self.precision == "float16" and self.device == "cpu":
            raise ValueError("precision float16 needs a GPU: on a cpu use bfloat16 or float32")
        return self

    @model_validator(mode="after")
    def _sizes_fit(self) -> Self:
        _at_most(self, "max_batch_rows", "max_queue_rows", "or a full batch never forms")
        _at_most(self, "max_image_bytes", "max_body_bytes", "or such an image could never arrive")
        _at_most(self, "max_body_bytes", "max_inflight_body_bytes", "or such a body is refused")
        _at_most(self, "max_image_bytes", "max_queue_bytes", "or such an image is refused")
        return self

    @model_validator(mode="after")
    def _times_fit(self) -> Self:
        _at_most(self, "request_timeout_ms", "max_request_timeout_ms", "which bounds all")
        _at_most(
            self, "max_batch_duration_ms", "engine_stall_ms", "or a long batch looks like a hang"
        )
        _at_most(self, "max_batch_delay_ms", "max_batch_duration_ms", "or waiting costs more")
        return self

    def model_plans(self) -> tuple[ModelPlan, ...]:
        """Which models and versions to serve.

        Raises:
            ValueError: the settings contradict each other.
        """
        plans = model_plans(self.model, self.version, self.canary, self.canary_share, self.shadow)
        if not plans:
            raise ValueError(f"model is {self.model!r} and names none")
        return plans

    def core_options(self, cpus: int) -> CoreOptions:
        """The core's share of the settings, in its units."""
        return CoreOptions(
            models=self.model_plans(),
            decode_threads=self.decode_threads or max(1, cpus - 1),
            warmup_s=self.warmup_ms / 1000,
            refresh_interval_s=self.refresh_interval_ms / 1000,
            keep_previous=self.keep_previous,
            max_versions=self.max_versions,
            drain_s=self.drain_timeout_ms / 1000,
            cache_bytes=self.response_cache_bytes,
            scheduler=SchedulerLimits(
                max_batch_rows=self.max_batch_rows,
                max_batch_delay_s=self.max_batch_delay_ms / 1000,
                max_batch_duration_s=self.max_batch_duration_ms / 1000,
                max_request_share=self.max_request_share,
                ageing_s=self.ageing_ms / 1000,
                bulk_interval_s=self.bulk_interval_ms / 1000,
                max_queue_rows=self.max_queue_rows,
                max_queue_bytes=self.max_queue_bytes,
                max_queue_delay_s=self.max_queue_delay_ms / 1000,
                engine_stall_s=self.engine_stall_ms / 1000,
            ),
            images=ImageLimits(self.max_image_bytes, self.max_image_pixels),
        )

    def run_options(self, cpus: int) -> RunOptions:
        """How the engine runs a model."""
        return RunOptions(
            strategy=self.strategy,
            device=self.device,
            precision=self.precision,
            max_probability_error=self.max_probability_error,
            workers=self.threads or cpus,
            compiled_kernels=self.compiled_kernels,
            compile_subnets=self.compile_subnets,
            subnet_budget_bytes=self.subnet_budget_bytes,
        )

    def remote_options(self) -> RemoteOptions:
        """How a repository on an object store is read."""
        return RemoteOptions(
            cache_dir=self.bundle_cache_dir or default_cache_dir(),
            cache_bytes=self.bundle_cache_bytes,
            timeout_s=self.repository_timeout_ms / 1000,
        )

    def effective(self) -> dict[str, Any]:
        """Every value in force, JSON-serialisable; secrets masked."""
        return self.model_dump(mode="json")


def _at_most(settings: Settings, smaller: str, larger: str, why: str) -> None:
    low, high = getattr(settings, smaller), getattr(settings, larger)
    if low > high:
        raise ValueError(
            f"{smaller} is {low}, above {larger}, which is {high}: keep it at most that, {why}"
        )


def unknown_variables(environment: Mapping[str, str]) -> dict[str, str | None]:
    """``TASKROUTE_*`` variables that no setting reads, each with the nearest that exists."""
    known = {PREFIX + name.upper() for name in Settings.model_fields} | _OTHER_VARIABLES
    unknown = (name.upper() for name in environment if name.upper().startswith(PREFIX))
    return {
        name: next(iter(difflib.get_close_matches(name, known, n=1)), None)
        for name in sorted(unknown)
        if name not in known
    }
