"""The plan: distinct computations once, and what they cost."""

from __future__ import annotations

from pathlib import Path

import pytest
from rich.console import Console
from typer import Typer
from typer.testing import CliRunner

from model import plan
from model.config import BackboneConfig, ModelConfig, PreprocessConfig, RoutingConfig
from model.network import RoutedNetwork, build
from model.plan import cost, make_plan, masked_cost
from model.repository import Repository
from model.tasks import Task


def network(tasks: int = 6, **routing: object) -> RoutedNetwork:
    return build(
        ModelConfig(
            backbone=BackboneConfig(arch="vgg11_bn", width=0.25),
            routing=RoutingConfig.model_validate({"unit_multiple": 4, **routing}),
            preprocess=PreprocessConfig(height=32, width=32),
            tasks=tuple(Task(name=f"t{i}", group=f"g{i % 2}") for i in range(tasks)),
        )
    )


def test_hard_sharing_is_one_branch_and_costs_one_pass() -> None:
    net = network(routed_layers="none")
    roots = make_plan(net, range(6))
    assert [len(node.forks) for root in roots for node in root.walk()] == [1] * 8
    assert cost(roots, range(6)) == masked_cost(net)


def test_keep_1_costs_what_hard_sharing_costs() -> None:
    assert cost(make_plan(net := network(keep=1.0), range(6)), range(6)) == masked_cost(net)


def test_first_routed_layer_belongs_to_the_shared_prefix() -> None:
    net = network(routed_layers="last:2", keep=0.5)
    (root,) = make_plan(net, range(6))
    shared = [node for node in root.walk() if len(node.tasks) == 6]
    assert [node.cut.layer for node in shared] == list(range(7))
    assert len(shared[-1].forks) == 6
    tails = [node for node in root.walk() if len(node.tasks) == 1]
    assert {node.cut.layer for node in tails} == {7}


def test_cost_of_late_routing_is_prefix_plus_keep_squared_tails() -> None:
    net = network(routed_layers="last:2", keep=0.5)
    full = masked_cost(net).macs
    last = (
        9 * 128 * 128 * 2 * 2
    )  # vgg11 at a quarter of its width; 32 px: 2 x 2 before the last pool
    assert cost(make_plan(net, range(6)), range(6)).macs == full - last + 6 * last // 4


def test_one_task_alone_does_not_pay_for_the_units_of_others() -> None:
    net = network(routed_layers="last:2", keep=0.5)
    roots = make_plan(net, range(6))
    layer6 = 9 * 128 * 128 * 2 * 2
    assert cost(roots, [3]).macs == masked_cost(net).macs - layer6 // 2 - layer6 * 3 // 4


def test_all_layers_routed_costs_about_keep_squared_per_task() -> None:
    net = network(tasks=10, keep=0.5)
    roots = make_plan(net, range(10))
    passes = cost(roots, range(10)).macs / masked_cost(net).macs
    assert passes == pytest.approx(10 * 0.25, rel=0.1)


def test_route_tree_shares_the_group_layers() -> None:
    net = network(scheme="tree", group_layers=4, keep=0.5)
    roots = make_plan(net, range(6))
    tasks_by_layer: dict[int, list[int]] = {}
    for root in roots:
        for node in root.walk():
            tasks_by_layer.setdefault(node.cut.layer, []).append(len(node.tasks))
    assert tasks_by_layer[0] == [6]
    assert tasks_by_layer[1] == tasks_by_layer[4] == [3, 3]
    assert tasks_by_layer[5] == [1] * 6


def test_equal_units_of_a_layer_have_equal_keys() -> None:
    net = network(routed_layers="last:2")
    first, second = make_plan(net, range(6)), make_plan(net, [0, 1])
    keys = {node.cut.key for root in first for node in root.walk()}
    for root in second:
        for node in root.walk():
            if node.cut.layer != 6:  # layer 6 computes the union of its tasks' units
                assert node.cut.key in keys
    assert len(keys) == len({id(n) for root in first for n in root.walk()})


def test_plan_prints_every_wanted_task_and_its_cost(tmp_path: Path) -> None:
    Repository(tmp_path).publish("m", network(routed_layers="last:2"), {}, "card")
    app = Typer()
    app.command()(plan._main)
    result = CliRunner().invoke(app, [str(tmp_path / "m"), "--tasks", "t1,group:g0"])
    assert result.exit_code == 0, result.output
    assert "4 tasks of one image" in result.output
    for name in ("t0", "t1", "t2", "t4"):
        assert f"{name}: from conv 7" in result.output
    assert "t3" not in result.output


def test_plan_of_an_unknown_model_says_so(tmp_path: Path) -> None:
    app = Typer()
    app.command()(plan._main)
    result = CliRunner().invoke(app, [str(tmp_path / "absent")])
    assert result.exit_code == 1
    assert "no model 'absent'" in result.output.replace("\n", " ")


def test_rendered_plan_names_shared_branches() -> None:
    net = network(routed_layers="last:2")
    console = Console(width=200)
    with console.capture() as captured:
        console.print(plan.render(make_plan(net, range(6)), net, range(6)))
    assert "conv 6 at 2 x 2, 128 units, 6 tasks on 6 routes" in captured.get()
