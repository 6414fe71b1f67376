from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from model.config import (
    BackboneConfig,
    HeadConfig,
    ModelConfig,
    PreprocessConfig,
    RoutingConfig,
)
from model.errors import ConfigError
from model.tasks import Calibration, Task

CONFIG = ModelConfig(
    backbone=BackboneConfig(arch="vgg13", width=0.25, norm="batch_per_task"),
    routing=RoutingConfig(scheme="partition", keep=(0.1, 0.9), routed_layers=(8, 9), seed=7),
    head=HeadConfig(embedding=0),
    preprocess=PreprocessConfig(height=48, width=96, fit="pad", background=(1, 2, 3)),
    tasks=(
        Task(name="a", calibration=Calibration(method="platt", scale=1 / 3, shift=-0.1)),
        Task(name="größe", group="g", classes=("s", "m", "l"), threshold=0.123456789),
    ),
)


def test_json_round_trip_is_exact() -> None:
    again = ModelConfig.from_json(CONFIG.to_json())
    assert again == CONFIG
    assert again.to_json() == CONFIG.to_json()
    assert again.preprocess.id == CONFIG.preprocess.id


def test_defaults_need_tasks_only() -> None:
    config = ModelConfig(tasks=(Task(name="a"),))
    assert config.task_set.names == ("a",)
    assert ModelConfig.from_json(config.to_json()) == config


def test_everything_is_frozen_and_unknown_fields_are_refused() -> None:
    for part in (CONFIG, CONFIG.backbone, CONFIG.routing, CONFIG.head, CONFIG.preprocess):
        field = next(iter(type(part).model_fields))
        with pytest.raises(ValidationError):
            setattr(part, field, getattr(part, field))
        with pytest.raises(ValidationError, match="Extra inputs"):
            type(part).model_validate(part.model_dump() | {"surprise": 1})


def test_replace_validates() -> None:
    assert CONFIG.replace(head={"embedding": 5}).head.embedding == 5
    assert CONFIG.replace(head={"embedding": 5}).tasks == CONFIG.tasks
    with pytest.raises(ValidationError):
        CONFIG.replace(head={"embedding": -1})


@pytest.mark.parametrize(
    ("part", "fields"),
    [
        (BackboneConfig, {"width": 0}),
        (BackboneConfig, {"width": 8.1}),
        (BackboneConfig, {"width": math.inf}),
        (BackboneConfig, {"norm": "group"}),
        (RoutingConfig, {"keep": -0.1}),
        (RoutingConfig, {"keep": 1.1}),
        (RoutingConfig, {"keep": math.nan}),
        (RoutingConfig, {"keep": [0.5, 1.5]}),
        (RoutingConfig, {"keep": "half"}),
        (RoutingConfig, {"scheme": "random"}),
        (RoutingConfig, {"routed_layers": "none", "scheme": "saliency"}),
        (RoutingConfig, {"routed_layers": [], "scheme": "saliency"}),
        (RoutingConfig, {"keep": 0, "scheme": "saliency"}),
        (RoutingConfig, {"keep": [0.5, 0], "scheme": "saliency"}),
        (RoutingConfig, {"seed": -1}),
        (RoutingConfig, {"seed": 2**32}),
        (RoutingConfig, {"unit_multiple": 0}),
        (RoutingConfig, {"group_layers": -1}),
        (RoutingConfig, {"routed_layers": "first"}),
        (RoutingConfig, {"routed_layers": "last:"}),
        (RoutingConfig, {"routed_layers": "last:0"}),
        (RoutingConfig, {"routed_layers": "last:-1"}),
        (RoutingConfig, {"routed_layers": "last:2x"}),
        (RoutingConfig, {"routed_layers": "all "}),
        (RoutingConfig, {"routed_layers": ""}),
        (RoutingConfig, {"routed_layers": [1, "x"]}),
        (HeadConfig, {"embedding": -1}),
        (HeadConfig, {"embedding": 4097}),
        (PreprocessConfig, {"height": 27}),
        (PreprocessConfig, {"width": 1025}),
        (PreprocessConfig, {"fit": "squeeze"}),
        (PreprocessConfig, {"background": (0, 0, 256)}),
        (PreprocessConfig, {"background": (0, -1, 0)}),
        (PreprocessConfig, {"background": (0, 0)}),
        (PreprocessConfig, {"std": (1.0, 0.0, 1.0)}),
        (PreprocessConfig, {"std": (1.0, math.nan, 1.0)}),
        (PreprocessConfig, {"mean": (0.0, math.inf, 0.0)}),
    ],
)
def test_values_that_cannot_work_are_refused(part: Any, fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=next(iter(fields))):
        part.model_validate(fields)


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        ("all", [0, 1, 2, 3, 4]),
        ("none", []),
        ("last:1", [4]),
        ("last:3", [2, 3, 4]),
        ("last:5", [0, 1, 2, 3, 4]),
        ((), []),
        ((3,), [3]),
        ((4, 1, 4), [1, 4]),
    ],
)
def test_routed_layers_in_every_form(form: str | tuple[int, ...], expected: list[int]) -> None:
    assert RoutingConfig(routed_layers=form).layers(5) == expected


@pytest.mark.parametrize(
    ("form", "message"),
    [
        ("last:6", "'last:6'; the backbone has 5 convolutions"),
        ((0, 5), "names layer 5; the backbone has 0 to 4"),
        ((-1,), "names layer -1; the backbone has 0 to 4"),
    ],
)
def test_layers_that_the_backbone_does_not_have(form: str | tuple[int, ...], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        RoutingConfig(routed_layers=form).layers(5)


def test_keep_is_one_number_or_one_per_routed_layer() -> None:
    assert RoutingConfig(keep=0.3).keep_per_layer(3) == [0.3, 0.3, 0.3]
    assert RoutingConfig(keep=(0.1, 0.2)).keep_per_layer(2) == [0.1, 0.2]
    assert RoutingConfig(keep=1).keep_per_layer(1) == [1.0]
    assert RoutingConfig(keep=()).keep_per_layer(0) == []
    with pytest.raises(ConfigError, match="keep has 2 values for 3 routed layers"):
        RoutingConfig(keep=(0.1, 0.2)).keep_per_layer(3)


def test_a_schedule_spreads_one_keep_over_the_routed_layers() -> None:
    falling = RoutingConfig(keep=0.25, keep_schedule="falling").keep_per_layer(2)
    assert falling == pytest.approx([0.5, 0.25])
    rising = RoutingConfig(keep=0.125, keep_schedule="rising").keep_per_layer(3)
    assert rising == pytest.approx([0.125, 0.25, 0.5])
    assert RoutingConfig(keep=0.3, keep_schedule="falling").keep_per_layer(1) == [0.3]
    with pytest.raises(ValidationError, match="needs one number"):
        RoutingConfig(keep=(0.1, 0.2), keep_schedule="rising")


@given(
    st.builds(
        PreprocessConfig,
        height=st.integers(28, 40),
        width=st.integers(28, 40),
        fit=st.sampled_from(["stretch", "crop", "pad"]),
        background=st.tuples(*[st.integers(0, 1)] * 3),
    ),
    st.builds(PreprocessConfig, height=st.integers(28, 40), width=st.integers(28, 40)),
)
def test_preprocess_ids_are_equal_exactly_for_equal_settings(
    one: PreprocessConfig, other: PreprocessConfig
) -> None:
    assert (one.id == other.id) == (one == other)
    assert one.id.startswith("pixels-v1-")


def test_no_tasks_and_repeated_tasks_are_refused_when_the_config_is_made() -> None:
    with pytest.raises(ConfigError, match="at least one"):
        ModelConfig(tasks=())
    with pytest.raises(ConfigError, match="names occur twice: a"):
        ModelConfig(tasks=(Task(name="a"), Task(name="a", group="g")))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "Invalid JSON"),
        ("{", "Invalid JSON"),
        ("[]", "config: Input should be an object"),
        ("{}", "tasks: Field required"),
        ('{"tasks": []}', "at least one"),
        ('{"tasks": [{"name": "a,b"}]}', r"tasks\.0\.name: String should match"),
        ('{"tasks": [{"name": "a"}], "head": {"embedding": "x"}}', r"head\.embedding: "),
        ('{"tasks": [{"name": "a"}], "colour": 1}', "colour: Extra inputs"),
        ("[" * 100_000, "Invalid JSON"),
    ],
)
def test_bad_json_names_the_field(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ModelConfig.from_json(text)


def test_at_most_five_problems_are_listed() -> None:
    text = json.dumps({"tasks": [{"name": "a,b"}] * 9})
    with pytest.raises(ConfigError) as caught:
        ModelConfig.from_json(text)
    assert caught.value.message.count("tasks.") == 5
