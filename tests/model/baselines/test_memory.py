"""Memory of a trunk per task: the formula against real networks, and the refusal."""

from __future__ import annotations

from typing import Any

import pytest

from model.baselines.memory import check_fits, footprint
from model.config import Family
from model.errors import ConfigError
from model.families import unfilled
from model.tasks import Task
from tests.model.baselines.towers import tower_config
from tests.model.networks import TASKS


@pytest.mark.parametrize("family", ["single_task", "cross_stitch"])
@pytest.mark.parametrize("count", [1, 2, 5])
@pytest.mark.parametrize(
    "parts",
    [
        {},
        {"head": {"embedding": 0}},
        {"backbone": {"arch": "vgg13"}, "preprocess": {"height": 40, "width": 30}},
        {"backbone": {"arch": "small_cnn_bn", "width": 0.5}},
    ],
)
def test_the_formula_is_what_a_real_network_has(
    family: Family, count: int, parts: dict[str, Any]
) -> None:
    config = tower_config(family, TASKS[:count], **parts)
    network, said = unfilled(config), footprint(config)
    weights = sum(one.numel() * one.element_size() for one in network.state_dict().values())
    parameters = sum(one.numel() for one in network.parameters())
    assert said.parameters == parameters
    assert said.weight_bytes == weights
    assert said.training_bytes == weights + 3 * 4 * parameters


def test_memory_grows_with_tasks_until_it_is_refused() -> None:
    tasks = [Task(name=f"t{index}") for index in range(312)]
    config = tower_config("cross_stitch", tasks, backbone={"width": 1.0})
    needed = footprint(config).training_bytes
    half = footprint(config.replace(tasks=config.tasks[:156])).training_bytes
    assert half == pytest.approx(needed / 2, rel=0.001)
    check_fits(config, needed, "limit")
    check_fits(config, 0, "limit")
    with pytest.raises(ConfigError, match="limit is 8 GB: 54 of the 312 tasks would fit") as caught:
        check_fits(config, 8e9, "limit")
    fitting = caught.value.details["fitting_tasks"]
    for count, fits in ((fitting, True), (fitting + 1, False)):
        cut = config.replace(tasks=config.tasks[:count])
        assert (footprint(cut).training_bytes <= 8e9) == fits
