"""Settings of a training run: what each means, and where its value comes from.

Values are layered: ``recipes/default.toml``, then the file or recipe given as ``--config`` (where
``train`` gets none: ``evidence``), then flags. Fields have no defaults of their own, so that
``default.toml`` is the one place for them.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

from model.config import (
    AdapterKind,
    BackboneConfig,
    Family,
    HeadConfig,
    KeepSchedule,
    ModelConfig,
    ModulationKind,
    NormKind,
    PreprocessConfig,
    RoutingConfig,
)
from model.tasks import Task
from training.thresholds import Objective


def _listed(value: Any) -> Any:
    """``"0.5,0.25"`` as a command line gives it, as the list that a TOML file would give."""
    if isinstance(value, str) and "," in value:
        return [part.strip() for part in value.split(",") if part.strip()]
    return value


def _selectors(value: Any) -> Any:
    listed = _listed(value)
    return [listed] if isinstance(listed, str) and listed else listed or []


def _layers(value: Any) -> Any:
    """``last:2`` and other words stay text; ``3`` and ``3,4`` are layer indices."""
    listed = _listed(value)
    return (
        [listed]
        if isinstance(listed, int) or (isinstance(listed, str) and listed.isdigit())
        else listed
    )


def _height_width(value: Any) -> Any:
    """``64`` and ``"64"`` are squares; ``"109x89"`` and ``[109, 89]`` are height and width."""
    if isinstance(value, str):
        value = value.lower().split("x")
    if isinstance(value, int) or (isinstance(value, list) and len(value) == 1):
        side = value if isinstance(value, int) else value[0]
        return (side, side)
    return value


Keep = Annotated[float | tuple[float, ...], BeforeValidator(_listed)]
RoutedLayers = Annotated[str | tuple[int, ...], BeforeValidator(_layers)]
HeightWidth = Annotated[tuple[int, int], BeforeValidator(_height_width)]
Colour = Annotated[tuple[int, int, int], BeforeValidator(_listed)]
Selectors = Annotated[tuple[str, ...], BeforeValidator(_selectors)]


class ModelSettings(BaseModel):
    """The network: trunk, routes, heads, image size.

    Limits are those of model.config, checked by :func:`training.settings_files.load_settings`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    family: Family = Field(
        description="routed: one trunk for all tasks; single_task: a trunk for every task; "
        "cross_stitch: the same, stitched behind every pooling stage (both: routed_layers none)"
    )
    memory_limit_gb: float = Field(
        ge=0,
        description="families single_task, cross_stitch: refuse what takes more to train, "
        "activations not counted; 0: no limit",
    )
    arch: str = Field(
        description="backbone: vgg11, vgg13, vgg16, vgg19, small_cnn, each also with _bn; "
        "resnet18, resnet26, resnet50"
    )
    width: float = Field(description="multiplies every layer's units")
    norm: NormKind = Field(
        description="batch-norm statistics: one set for all tasks, or one per task where they "
        "part; batch_per_domain: each task its own batch norm in every layer"
    )
    stem: Literal["standard", "small"] = Field(
        description="of a resnet: its own, or small (3x3, stride 1, no pool) for images of 32 px"
    )
    adapters: AdapterKind = Field(
        description="of a resnet: each task's own 1x1 convolutions beside the shared 3x3 ones "
        "(parallel) or behind them (series), or none; need norm batch_per_domain"
    )
    scheme: str = Field(
        description="how routes are drawn: independent, partition or tree; or saliency: chosen in "
        "training, after a start without routes"
    )
    keep: Keep = Field(
        description="share of a routed layer's units that one task uses; or one per layer"
    )
    keep_schedule: KeepSchedule = Field(
        description="one keep over n routed layers: constant; falling: layer i keeps keep^(i/n); "
        "rising: the same from the last to the first"
    )
    modulation: ModulationKind = Field(
        description="of routed layers, learned for every task: each channel's scale, or scale_shift"
    )
    routed_layers: RoutedLayers = Field(
        description='convolutions that are routed: "all", "none", "last:N", or indices from 0'
    )
    group_layers: int = Field(
        description="schemes tree, saliency: routed layers whose routes a task group shares"
    )
    route_seed: int = Field(description="seed of the routes")
    unit_multiple: int = Field(description="units per task are rounded to a multiple of this")
    embedding: int = Field(description="units of each task's own embedding; 0 for none")
    image_size: HeightWidth = Field(description="pixels: a side, or HEIGHTxWIDTH")
    fit: Literal["stretch", "crop", "pad"] = Field(description="how images reach that shape")
    background: Colour = Field(description="red,green,blue behind transparency and padding")
    normalisation: Literal["data", "domain"] = Field(
        description="pixels less the mean of all training images (data), or of those of each "
        "task's domain: tasks without an image in common are of different ones"
    )
    seed: int = Field(ge=0, lt=2**32, description="seed of weights, sampling and augmentation")

    def preprocess(self) -> PreprocessConfig:
        """Image preprocessing, with normalisation not measured yet."""
        height, width = self.image_size
        return PreprocessConfig(
            height=height, width=width, fit=self.fit, background=self.background
        )

    def backbone(self) -> BackboneConfig:
        """The trunk."""
        return BackboneConfig(
            arch=self.arch,
            width=self.width,
            norm=self.norm,
            stem=self.stem,
            adapters=self.adapters,
        )

    def routing(self) -> RoutingConfig:
        """How routes are drawn."""
        return RoutingConfig.model_validate(
            {
                "scheme": self.scheme,
                "keep": self.keep,
                "keep_schedule": self.keep_schedule,
                "modulation": self.modulation,
                "routed_layers": self.routed_layers,
                "group_layers": self.group_layers,
                "seed": self.route_seed,
                "unit_multiple": self.unit_multiple,
            }
        )

    def head(self) -> HeadConfig:
        """What each task has of its own."""
        return HeadConfig(embedding=self.embedding)

    def network(self, tasks: tuple[Task, ...], preprocess: PreprocessConfig) -> ModelConfig:
        """The model that these settings describe, for these tasks.

        Raises:
            ModelTooLargeError: its trunks do not fit into ``memory_limit_gb``.
        """
        config = ModelConfig(
            family=self.family,
            backbone=self.backbone(),
            routing=self.routing(),
            head=self.head(),
            preprocess=preprocess,
            tasks=tasks,
        )
        if self.family != "routed":
            from model.baselines.memory import check_fits  # imports PyTorch

            check_fits(config, self.memory_limit_gb * 1e9, "setting 'memory_limit_gb'")
        return config


class TrainSettings(ModelSettings):
    """The network, and how it is trained."""

    tasks: Selectors = Field(description="train these tasks only: names, group:NAME; empty for all")
    split_seed: int = Field(description="seed of splits that the data does not define")
    max_unreadable_share: float = Field(
        ge=0,
        le=1,
        description="share of a split's images that may be unreadable; beyond it the run stops",
    )

    init_from: str = Field(
        description="weights to begin with: a bundle (REPOSITORY/NAME or REPOSITORY/NAME/VERSION) "
        "or the weights of torchvision's VGG or ResNet (.pth, .safetensors)"
    )
    freeze: Literal["none", "shared"] = Field(
        description="shared: convolutions and batch norm that tasks share stay as init_from has "
        "them; heads, adapters, modulation and each task's own batch norm are trained"
    )
    sampler: Literal["paper", "covering", "all", "domains"] = Field(
        description="tasks of a step: drawn at random (paper, Algorithm 1), each equally often, "
        "or all of them; domains: equally many images of every domain, for its own tasks only"
    )
    tasks_per_step: int = Field(ge=1, description="tasks per mini-batch (paper, covering)")
    label_balance: bool = Field(
        description="draw a step's images so that its tasks' classes are equally frequent (paper, "
        "covering); shifts probabilities, so calibrate"
    )
    compute: Literal["cut", "masked"] = Field(
        description="cut: only the units a task uses; masked: all, then masked. Same gradients"
    )
    shared_start: float = Field(
        ge=0,
        lt=1,
        description="scheme saliency: share of the run (steps and time limit) that trains all "
        "tasks without routes first; 0: choose routes from what init_from has learnt. Family "
        "cross_stitch: share that trains every tower for itself first",
    )
    saliency_images: int = Field(
        ge=1, description="scheme saliency: training images from which routes are chosen"
    )
    keep_stages: int = Field(
        ge=1,
        description="scheme saliency: stages in which keep shrinks to its value, over the first "
        "half of the routed steps; 1: at once",
    )
    target_cost: float = Field(
        ge=0,
        le=1,
        description="scheme saliency: share of the routed layers' multiply-adds that one task may "
        "cost; keep is then found per layer; 0: keep as given",
    )
    routed_lr_factor: float = Field(
        ge=0,
        description="behind the shared start: times lr, the peak learning rate, whose schedule "
        "begins anew; 0: one schedule over the whole run",
    )
    epochs: float = Field(gt=0, description="passes over the training images")
    batch_size: int = Field(ge=2, description="images per step")
    lr: float = Field(gt=0, description="learning rate at its peak")
    optimiser: Literal["sgd", "adamw"] = Field(description="sgd with momentum, or adamw")
    stitch_lr_factor: float = Field(
        gt=0, description="family cross_stitch: times lr, the learning rate of the stitches"
    )
    momentum: float = Field(ge=0, lt=1, description="SGD momentum")
    nesterov: bool = Field(description="SGD with Nesterov momentum")
    weight_decay: float = Field(ge=0, description="of weights; never of biases and batch norm")
    max_grad_norm: float = Field(
        ge=0, description="gradients are scaled down to this norm over all weights; 0: never"
    )
    schedule: Literal["constant", "cosine", "one_cycle"] = Field(
        description="learning rate over the run: flat, falling to 0, or rising for a fifth first"
    )
    positive_weight_limit: float = Field(
        ge=0,
        description="weigh a binary task's positives by its negatives per positive, within this "
        "factor (at least 1); shifts probabilities, so calibrate; 0: every label counts the same",
    )
    focal_gamma: float = Field(
        ge=0, le=10, description="focal loss: labels already known count less; 0: cross-entropy"
    )
    label_smoothing: float = Field(
        ge=0, lt=1, description="share of a label's weight spread over all classes of its task"
    )
    precision: Literal["float32", "bfloat16"] = Field(
        description="of the training steps' convolutions and products; weights, statistics and "
        "losses stay float32"
    )
    flip: bool = Field(description="mirror half of the training images left to right")
    shift: int = Field(ge=0, description="move training images by up to so many pixels; 0: never")
    colour_jitter: float = Field(
        ge=0,
        le=1,
        description="change training images' brightness and contrast by up to this share; 0: never",
    )
    ema_decay: float = Field(
        ge=0,
        lt=1,
        description="publish an average of the weights, each step's share fading by this factor "
        "(0.99 to 0.9999); 0: the last step's weights",
    )
    recalibration_batches: int = Field(
        ge=0,
        description="norm batch_per_task, batch_per_domain: batches per task from which "
        "statistics are taken anew after training; 0 keeps the running averages",
    )
    calibration: Literal["none", "platt", "temperature"] = Field(
        description="fitted on the validation images: scale and shift of each logit (platt), drawn "
        "to what eight or more binary tasks have in common; its scale alone; or nothing. Few "
        "labels move a task little"
    )
    threshold_objective: Objective = Field(
        description="what each binary task's threshold maximises on the validation images; f0.7: "
        "F-beta with beta 0.7, where recall weighs half as much as precision"
    )

    bootstrap_resamples: int = Field(
        ge=0, description="resamples of the held-out images for 95 % intervals of figures; 0: none"
    )

    time_limit_s: float = Field(
        ge=0,
        description="seconds for the training steps; the schedule is shortened to fit; 0: none",
    )
    checkpoint_interval_s: float = Field(gt=0, description="seconds between saved states")
    tensorboard_dir: str = Field(
        description="write curves for TensorBoard into this folder: loss, learning rate, images/s, "
        "validation figures by epoch; empty: none"
    )
    device: str = Field(description="cpu, cuda or cuda:N")
    threads: int = Field(
        ge=0, description="CPU threads of PyTorch; 0: the cores there are, or the cgroup's quota"
    )

    @model_validator(mode="after")
    def _together(self) -> Self:
        if self.nesterov and self.momentum == 0:
            raise ValueError("setting 'nesterov' needs a 'momentum' above 0")
        if self.label_balance and self.sampler == "all":
            raise ValueError(
                "setting 'label_balance' needs 'sampler' paper or covering: images cannot be "
                "balanced for all tasks at once"
            )
        if self.ema_decay and self.norm != "batch" and not self.recalibration_batches:
            raise ValueError(
                "setting 'ema_decay' needs 'recalibration_batches' above 0: averaged weights have "
                "no running batch-norm statistics of their own"
            )
        if self.sampler == "domains" and (self.label_balance or self.scheme == "saliency"):
            other = "label_balance" if self.label_balance else "scheme"
            raise ValueError(
                f"setting 'sampler' is 'domains' and '{other}' is {getattr(self, other)!r}: both "
                "decide which images train which tasks; change one of them"
            )
        if self.freeze == "shared" and self.family != "routed":
            raise ValueError(
                f"setting 'freeze' is 'shared' and 'family' is {self.family!r}, where tasks share "
                "nothing: train all (freeze none)"
            )
        if self.freeze == "shared" and not self.init_from:
            raise ValueError(
                "setting 'freeze' is 'shared' and 'init_from' is empty: the convolutions would "
                "stay random; name trained weights to begin with, or train all (freeze none)"
            )
        if self.scheme == "saliency" and not (self.shared_start or self.init_from):
            raise ValueError(
                "setting 'scheme' is 'saliency' and 'shared_start' is 0: nothing has been learnt "
                "to choose routes from; raise shared_start (0.7), or begin with trained weights "
                "(init_from)"
            )
        return self

    @property
    def starts_apart(self) -> bool:
        """Whether the run's first part is without its routes, or stitches, yet."""
        return self.scheme == "saliency" or self.family == "cross_stitch"

    @field_validator("positive_weight_limit")
    @classmethod
    def _factor(cls, value: float) -> float:
        if 0 < value < 1:
            raise ValueError("must be 0 (off) or a factor of at least 1")
        return value


# What may differ between a run and its resumption without changing its result.
RESUMABLE_CHANGES = frozenset(
    {
        "time_limit_s", "checkpoint_interval_s", "max_unreadable_share", "tensorboard_dir",
        "memory_limit_gb",
    }
)  # fmt: skip
