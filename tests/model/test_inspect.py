from __future__ import annotations

from pathlib import Path

import pytest
import torch
import typer
from typer.testing import CliRunner

from model import inspect
from model.inspection import route_overlap, view_routes
from model.plan import cost, make_plan
from model.repository import Repository
from tests.model.networks import make_network


def test_overlap_is_shared_units_over_units_of_either() -> None:
    routes = torch.tensor([[1, 1, 0, 0], [0, 1, 1, 0], [1, 1, 0, 0]]).bool()
    expected = [[1, 1 / 3, 1], [1 / 3, 1, 1 / 3], [1, 1 / 3, 1]]
    assert torch.allclose(route_overlap(routes), torch.tensor(expected, dtype=torch.float64))


def test_the_view_counts_users_and_costs_as_the_plan_does() -> None:
    network = make_network(routing={"routed_layers": "last:2"})
    tasks = [0, 1, 3]
    view = view_routes(network, tasks)
    assert view.names == ("boot", "kind", "sandal")
    assert [layer.users is None for layer in view.layers] == [True] * 6 + [False] * 2
    last = view.layers[-1]
    mask = network.routes[-1]
    assert mask is not None
    assert last.users is not None
    assert torch.equal(last.users, mask[tasks].sum(dim=0))
    assert sum(layer.macs for layer in view.layers) == cost(make_plan(network, tasks), tasks).macs
    assert last.convolutions == 3
    assert 0 < last.macs < last.masked_macs


def test_the_closest_pair_comes_first() -> None:
    network = make_network()
    for mask in network.routes:
        assert mask is not None
        mask[4] = mask[2]
    network.routes_changed()
    value, one, other = view_routes(network, range(5)).closest(3)[0]
    assert (value, one, other) == (1.0, "coat", "size")


@pytest.mark.parametrize("routed_layers", ["all", "none"])
def test_the_command_prints_tables_and_writes_a_plot(tmp_path: Path, routed_layers: str) -> None:
    network = make_network(routing={"routed_layers": routed_layers})
    Repository(tmp_path).publish("small", network, {}, "# small\n")
    app = typer.Typer()
    app.command()(inspect._main)
    model, plot = str(tmp_path / "small"), tmp_path / "routes.png"
    shown = CliRunner().invoke(app, [model, "--plot", str(plot)], env={"COLUMNS": "200"})
    assert shown.exit_code == 0, shown.output
    assert "multiply-adds" in shown.stdout
    assert ("closest routes" in shown.stdout) == (routed_layers == "all")
    assert plot.read_bytes().startswith(b"\x89PNG")
    one = CliRunner().invoke(app, [model, "--tasks", "boot"], env={"COLUMNS": "200"})
    assert one.exit_code == 0, one.output
    wrong = CliRunner().invoke(app, [model, "--tasks", "boat"])
    assert wrong.exit_code == 1
    assert "unknown task: 'boat'" in wrong.stderr
