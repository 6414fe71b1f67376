"""What a model is: backbone, routing, heads, preprocessing and tasks. Stored as ``config.json``."""

from __future__ import annotations

import hashlib
import re
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from model.errors import ConfigError
from model.tasks import Task, TaskSet

# Bumped whenever the same bytes would give other pixels; part of every bundle.
PIXEL_FUNCTION_VERSION = 1

Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
ModulationKind = Literal["none", "scale", "scale_shift"]
AdapterKind = Literal["none", "series", "parallel"]
NormKind = Literal["batch", "batch_per_task", "batch_per_domain"]
KeepSchedule = Literal["constant", "falling", "rising"]
Family = Literal["routed", "single_task", "cross_stitch"]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class BackboneConfig(_Frozen):
    """The convolutional trunk."""

    arch: str = Field(
        default="vgg11_bn",
        description="vgg11, vgg13, vgg16, vgg19 or small_cnn, with or without _bn; resnet18, "
        "resnet26 or resnet50",
    )
    width: float = Field(
        default=1.0, gt=0.0, le=8.0, description="multiplies every layer's units (rounded to 8)"
    )
    norm: NormKind = Field(
        default="batch",
        description="batch-norm statistics shared by all tasks, or one set per task behind the "
        "first routed layer, where tasks' activations differ; batch_per_domain: each task its own "
        "batch norm in every layer, statistics, scale and shift",
    )
    stem: Literal["standard", "small"] = Field(
        default="standard",
        description="of a resnet: the architecture's own, or 3x3 with stride 1 and no pool, for "
        "images of 32 px",
        exclude_if=lambda stem: stem == "standard",  # bundles without stay readable as before
    )
    adapters: AdapterKind = Field(
        default="none",
        description="of a resnet's 3x3 convolutions: each task's own 1x1 convolution beside "
        "(parallel) or behind (series) the shared one; needs norm batch_per_domain",
        exclude_if=lambda kind: kind == "none",
    )
    units: tuple[Annotated[int, Field(ge=1)], ...] = Field(
        default=(),
        description="units of every convolution, first to last, where they are not those of arch "
        "times width: a network cut out of a larger one",
        exclude_if=lambda units: not units,  # bundles without stay readable by earlier versions
    )

    @model_validator(mode="after")
    def _adapters_with_norms(self) -> Self:
        if self.adapters != "none" and self.norm != "batch_per_domain":
            raise ValueError(
                f"adapters is {self.adapters!r} and norm {self.norm!r}: an adapter needs a batch "
                "norm of its task's own behind it; set norm to 'batch_per_domain'"
            )
        return self


class RoutingConfig(_Frozen):
    """How each task's share of every layer's units is drawn (paper, section 3) or chosen."""

    scheme: Literal["independent", "partition", "tree", "saliency"] = Field(
        default="independent",
        description="independent: every task draws its own units; partition: a common share, the "
        "rest divided among the tasks; tree: tasks of one group share their units in the first "
        "group_layers routed layers; saliency: training chooses the units that each task's answer "
        "depends on most",
    )
    keep: Fraction | tuple[Fraction, ...] = Field(
        default=0.5,
        description="share of a layer's units that one task uses; a list: one per routed layer",
    )
    keep_schedule: KeepSchedule = Field(
        default="constant",
        description="how one keep spreads over n routed layers: every layer's (constant); layer i "
        "of 1 to n keeps keep^(i/n), so that the last keeps keep and earlier ones more (falling); "
        "or the same from the last to the first (rising)",
        exclude_if=lambda schedule: schedule == "constant",  # readable by earlier versions
    )
    modulation: ModulationKind = Field(
        default="none",
        description="of the routed layers' channels, behind batch norm, learned for every task: a "
        "scale, or a scale and a shift. With keep 1 it is all that tasks differ in",
        exclude_if=lambda kind: kind == "none",
    )
    routed_layers: str | tuple[int, ...] = Field(
        default="all",
        description='"all", "none", "last:N", or a list of convolution indices from 0',
    )
    group_layers: int = Field(
        default=0,
        ge=0,
        description="schemes tree and saliency: routed layers, counted from the first, routed by "
        "task group",
    )
    seed: int = Field(default=0, ge=0, lt=2**32)
    unit_multiple: int = Field(
        default=8, ge=1, le=256, description="unit counts are rounded to a multiple of this"
    )

    @field_validator("routed_layers")
    @classmethod
    def _known_form(cls, value: str | tuple[int, ...]) -> str | tuple[int, ...]:
        if isinstance(value, str) and not re.fullmatch(r"all|none|last:[1-9][0-9]*", value):
            raise ValueError(
                f'{value!r} is none of "all", "none", "last:N" or a list of layer indices'
            )
        return value

    @model_validator(mode="after")
    def _one_keep_to_spread(self) -> Self:
        if self.keep_schedule != "constant" and not isinstance(self.keep, float):
            raise ValueError(
                f"keep_schedule is {self.keep_schedule!r} and keep is a list: a schedule needs one "
                "number, and a list is a schedule of its own (keep_schedule 'constant')"
            )
        return self

    @model_validator(mode="after")
    def _something_to_choose(self) -> Self:
        if self.scheme != "saliency":
            return self
        if self.routed_layers in ("none", ()):
            raise ValueError(
                f"scheme is 'saliency' but routed_layers is {self.routed_layers!r}: there are no "
                "routes to choose; name layers, or take scheme 'independent'"
            )
        if min((self.keep,) if isinstance(self.keep, float) else self.keep, default=1.0) <= 0.0:
            raise ValueError(
                f"scheme is 'saliency' and keep is {self.keep}: every task needs units of its own, "
                "so keep must be above 0 in every layer"
            )
        return self

    def layers(self, count: int) -> list[int]:
        """Indices of the routed ones among ``count`` convolutions; ConfigError for others."""
        if isinstance(self.routed_layers, tuple):
            wrong = [index for index in self.routed_layers if not 0 <= index < count]
            if wrong:
                raise ConfigError(
                    f"routed_layers names layer {wrong[0]}; the backbone has 0 to {count - 1}",
                    routed_layers=list(self.routed_layers),
                )
            return sorted(set(self.routed_layers))
        if self.routed_layers in ("all", "none"):
            return list(range(count)) if self.routed_layers == "all" else []
        last = int(self.routed_layers.removeprefix("last:"))
        if last > count:
            raise ConfigError(
                f"routed_layers is {self.routed_layers!r}; the backbone has {count} convolutions",
                routed_layers=self.routed_layers,
            )
        return list(range(count - last, count))

    def keep_per_layer(self, routed: int) -> list[float]:
        """One keep fraction for each of ``routed`` layers; ConfigError if the list does not fit."""
        if isinstance(self.keep, float):
            return [self.keep**share for share in self._shares(routed)]
        if len(self.keep) != routed:
            raise ConfigError(
                f"keep has {len(self.keep)} values for {routed} routed layers; give one number or "
                f"exactly {routed}",
                keep=list(self.keep),
            )
        return list(self.keep)

    def _shares(self, routed: int) -> list[float]:
        """The power of keep that each routed layer keeps."""
        if self.keep_schedule == "constant":
            return [1.0] * routed
        falling = [layer / routed for layer in range(1, routed + 1)]
        return falling if self.keep_schedule == "falling" else falling[::-1]


class HeadConfig(_Frozen):
    """Each task's own layers behind the pooled features."""

    embedding: int = Field(
        default=32,
        ge=0,
        le=4096,
        description="units of each task's own embedding; 0: logits straight from the features",
    )


class PreprocessConfig(_Frozen):
    """From image bytes to the pixels that the network sees; the same in training and serving."""

    height: int = Field(default=64, ge=28, le=1024)
    width: int = Field(default=64, ge=28, le=1024)
    fit: Literal["stretch", "crop", "pad"] = Field(
        default="stretch",
        description="stretch ignores the aspect ratio; crop keeps the centre; pad adds background",
    )
    background: tuple[int, int, int] = Field(
        default=(255, 255, 255), description="RGB behind transparent pixels and padding, 0 to 255"
    )
    mean: tuple[float, float, float] = Field(
        default=(0.5, 0.5, 0.5), description="per channel, of values scaled to 0..1"
    )
    std: tuple[float, float, float] = Field(default=(0.5, 0.5, 0.5))

    @model_validator(mode="after")
    def _ranges(self) -> Self:
        if any(not 0 <= value <= 255 for value in self.background):
            raise ValueError(f"background is {self.background}; each channel must lie in 0..255")
        if any(value <= 0 for value in self.std):
            raise ValueError(f"std is {self.std}; each value must be above 0")
        return self

    @property
    def id(self) -> str:
        """Equal ids give equal pixels and normalisation for equal bytes."""
        digest = hashlib.sha256(self.model_dump_json().encode()).hexdigest()[:12]
        return f"pixels-v{PIXEL_FUNCTION_VERSION}-{digest}"


class ModelConfig(_Frozen):
    """Everything that defines a network except its weights."""

    family: Family = Field(
        default="routed",
        description="routed: one trunk for all tasks; single_task: a trunk of its own for every "
        "task; cross_stitch: the same with their activations mixed behind every pooling stage",
        exclude_if=lambda family: family == "routed",  # readable by earlier versions
    )
    backbone: BackboneConfig = BackboneConfig()
    routing: RoutingConfig = RoutingConfig()
    head: HeadConfig = HeadConfig()
    preprocess: PreprocessConfig = PreprocessConfig()
    tasks: tuple[Task, ...]
    generations: tuple[Annotated[int, Field(ge=1)], ...] = Field(
        default=(),
        description="how many of the tasks came together: first those of the training, then each "
        "addition; empty: all at once. What an earlier generation computes, and how, does not "
        "depend on later ones",
        exclude_if=lambda generations: not generations,
    )

    @model_validator(mode="after")
    def _generations_fit(self) -> Self:
        if self.generations and sum(self.generations) != len(self.tasks):
            raise ValueError(
                f"generations {list(self.generations)} are of {sum(self.generations)} tasks; there "
                f"are {len(self.tasks)}"
            )
        return self

    @model_validator(mode="after")
    def _usable_tasks(self) -> Self:
        """ConfigError, not ValidationError, for no task or one name twice: both are TaskSet's."""
        TaskSet(self.tasks)
        return self

    @model_validator(mode="after")
    def _routes_in_one_trunk_only(self) -> Self:
        routing = self.routing
        if self.family != "routed" and routing.routed_layers not in ("none", ()):
            raise ValueError(
                f"family is {self.family!r} and routed_layers is {routing.routed_layers!r}: every "
                "task has a trunk of its own, where there is nothing to route; set routed_layers "
                "to 'none', or take family 'routed'"
            )
        if self.family != "routed" and self.generations:
            raise ValueError(
                f"family is {self.family!r} and tasks came in {len(self.generations)} generations: "
                "tasks can be added to routed networks only"
            )
        return self

    @property
    def task_set(self) -> TaskSet:
        return TaskSet(self.tasks)

    @property
    def generation_of(self) -> tuple[int, ...]:
        """Each task's generation, from 0."""
        counts = self.generations or (len(self.tasks),)
        return tuple(number for number, count in enumerate(counts) for _ in range(count))

    def replace(self, **changes: Any) -> Self:
        """A validated copy with some fields changed."""
        return type(self).model_validate(self.model_dump() | changes)

    def to_json(self) -> str:
        return self.model_dump_json(indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Raises ConfigError that lists every offending field."""
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            problems = "; ".join(
                f"{'.'.join(map(str, item['loc'])) or 'config'}: {item['msg']}"
                for item in error.errors()[:5]
            )
            raise ConfigError(f"model configuration: {problems}") from error
