from __future__ import annotations

import time

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from model.config import RoutingConfig
from model.errors import ConfigError
from model.routes import check_routes, draw_routes, group_index, kept_units, placeholder_routes

FAST = settings(max_examples=80, deadline=None)
UNITS = st.integers(1, 100)
TASKS = st.integers(1, 40)
KEEP = st.floats(0.01, 1.0)
MULTIPLE = st.sampled_from([1, 2, 3, 8, 16])
SEED = st.integers(0, 2**32 - 1)


def draw(units: int, tasks: int, *, groups: list[str] | None = None, **routing: object) -> Tensor:
    """Routes [tasks, units] of a backbone of one layer."""
    config = RoutingConfig.model_validate(routing)
    (routes,) = draw_routes(config, [units], groups or ["g"] * tasks)
    assert routes is not None
    assert routes.shape == (tasks, units)
    assert routes.dtype == torch.bool
    return routes


# --- how many ---------------------------------------------------------------------------------


@FAST
@given(KEEP, st.integers(1, 2048), MULTIPLE)
def test_kept_units_is_the_nearest_multiple_that_exists(
    keep: float, units: int, multiple: int
) -> None:
    kept = kept_units(keep, units, multiple)
    assert 1 <= kept <= units
    assert kept % multiple == 0 or kept == units
    possible = {units, *range(multiple, units + 1, multiple)}
    nearest = min(abs(keep * units - count) for count in possible)
    assert abs(keep * units - kept) <= nearest + multiple / 2 + 1e-9
    assert kept_units(1.0, units, multiple) == units


@pytest.mark.parametrize(
    ("keep", "units", "multiple", "expected"),
    [
        (0.5, 64, 8, 32),
        (0.4, 64, 8, 24),  # 25.6
        (0.2, 64, 8, 16),  # 12.8
        (0.2, 512, 8, 104),  # 102.4
        (0.01, 64, 8, 8),  # never none
        (1.0, 64, 8, 64),
        (0.99, 60, 8, 56),  # 59.4
        (0.99, 62, 8, 62),  # never more than all
        (1.0, 40, 32, 40),  # all is all, multiple or not
        (0.3, 4, 8, 4),
        (0.5, 5, 1, 3),  # halves go up
        (0.2, 64, 1, 13),
    ],
)
def test_kept_units_by_example(keep: float, units: int, multiple: int, expected: int) -> None:
    assert kept_units(keep, units, multiple) == expected


# --- independent ------------------------------------------------------------------------------


@FAST
@given(UNITS, TASKS, KEEP, MULTIPLE, SEED)
def test_independent_tasks_keep_equally_many_and_cover_what_they_can(
    units: int, tasks: int, keep: float, multiple: int, seed: int
) -> None:
    routes = draw(units, tasks, keep=keep, unit_multiple=multiple, seed=seed)
    kept = kept_units(keep, units, multiple)
    assert routes.sum(dim=1).tolist() == [kept] * tasks
    # All units if there are draws enough, else no unit twice.
    assert int(routes.any(dim=0).sum()) == min(units, tasks * kept)


@pytest.mark.parametrize(
    ("units", "tasks", "multiple", "keep"),
    [
        (8, 1, 8, 0.01),  # kept == unit_multiple == units
        (8, 312, 8, 0.5),
        (64, 8, 8, 0.125),  # exactly as many draws as units: a disjoint cover is forced
        (64, 64, 1, 1 / 64),
        (64, 65, 1, 1 / 64),
        (512, 4, 8, 0.25),
        (512, 5, 8, 0.2),
        (100, 10, 1, 0.1),
        (10, 3, 1, 0.4),  # 12 draws for 10 units
        (9, 2, 1, 0.5),  # 10 draws for 9 units
        (7, 7, 2, 0.1),  # 14 draws in pairs
        (1, 312, 1, 0.5),
        (512, 3, 8, 0.66),
    ],
)
def test_coverage_in_narrow_places(units: int, tasks: int, multiple: int, keep: float) -> None:
    for seed in range(20):
        routes = draw(units, tasks, keep=keep, unit_multiple=multiple, seed=seed)
        kept = kept_units(keep, units, multiple)
        assert tasks * kept >= units
        assert bool(routes.any(dim=0).all())
        assert set(routes.sum(dim=1).tolist()) == {kept}


def test_keep_one_is_hard_sharing() -> None:
    for scheme in ("independent", "partition", "tree"):
        assert bool(draw(64, 5, scheme=scheme, keep=1.0).all())


def test_draws_are_uniform_and_pairs_overlap_by_chance() -> None:
    # 24 of 64 units, 300 tasks: use per unit is binomial(300, 0.375), of deviation 8.4.
    stacked = torch.stack([draw(64, 300, keep=0.375, seed=seed) for seed in range(20)])
    use = stacked.sum(dim=(0, 1)).double()  # of 64 units over 6000 draws, deviation 37.5
    assert (use - 2250).abs().max() < 5 * 37.5
    assert 20 < use.std() < 60
    first, second = stacked[:, 0::2], stacked[:, 1::2]
    overlap = (first & second).sum(dim=2).double().mean()  # keep^2 of the units (method: 9)
    assert abs(float(overlap) - 9.0) < 0.2


def test_repairing_the_coverage_does_not_favour_units_or_tasks() -> None:
    # 16 draws of 1 of 12 units nearly always leave some unused, so almost every draw is repaired.
    stacked = torch.stack([draw(12, 16, keep=1 / 12, unit_multiple=1, seed=s) for s in range(600)])
    by_pair = stacked.sum(dim=0).double()  # [tasks, units], each expected 50, deviation 6.8
    assert (by_pair - 50).abs().max() < 5 * 6.8


@FAST
@given(UNITS, TASKS, SEED)
def test_independent_needs_a_share(units: int, tasks: int, seed: int) -> None:
    for scheme in ("independent", "tree"):
        with pytest.raises(ConfigError, match=r"keep is 0\.0; with scheme"):
            draw(units, tasks, scheme=scheme, keep=0.0, seed=seed)


# --- partition --------------------------------------------------------------------------------


@FAST
@given(UNITS, TASKS, st.one_of(st.just(0.0), KEEP), MULTIPLE, SEED)
def test_partition_has_a_common_share_and_divides_the_rest(
    units: int, tasks: int, keep: float, multiple: int, seed: int
) -> None:
    common = kept_units(keep, units, multiple) if keep else 0
    rest = units - common
    if not keep and units < tasks:
        with pytest.raises(ConfigError, match=f"has {units} units for {tasks} tasks"):
            draw(units, tasks, scheme="partition", keep=keep, unit_multiple=multiple, seed=seed)
        return
    routes = draw(units, tasks, scheme="partition", keep=keep, unit_multiple=multiple, seed=seed)
    users = routes.sum(dim=0)
    if tasks > 1:
        assert int((users == tasks).sum()) == common
    assert set(users.tolist()) <= {1, tasks}  # common to all, or one task's own
    own = routes.sum(dim=1) - (common if tasks > 1 else 0)
    assert int(own.sum()) == (rest if tasks > 1 else units)
    assert int(own.max() - own.min()) <= (multiple if rest >= tasks * multiple else 1)


def test_partition_counts_are_multiples_where_they_can_be() -> None:
    routes = draw(512, 24, scheme="partition", keep=0.5)
    assert sorted(routes.sum(dim=1).tolist()) == [264] * 16 + [272] * 8
    routes = draw(64, 5, scheme="partition", keep=0.0)
    assert sorted(routes.sum(dim=1).tolist()) == [8, 8, 16, 16, 16]


def test_partition_never_slides_into_hard_sharing() -> None:
    # 32 units are left for 40 tasks: some have one of their own, and none joins the common share.
    routes = draw(64, 40, scheme="partition", keep=0.5)
    assert int((routes.sum(dim=0) == 40).sum()) == 32
    assert sorted(routes.sum(dim=1).tolist()) == [32] * 8 + [33] * 32


def test_partition_with_keep_0_gives_disjoint_subnets() -> None:
    for units, tasks in ((64, 8), (64, 10), (64, 64), (512, 312), (7, 3)):
        routes = draw(units, tasks, scheme="partition", keep=0.0)
        assert set(routes.sum(dim=0).tolist()) == {1}
        assert bool(routes.any(dim=1).all())


def test_too_many_tasks_for_disjoint_subnets_say_what_to_do() -> None:
    config = RoutingConfig(scheme="partition", keep=0.0)
    with pytest.raises(ConfigError, match="64 units for 65 tasks; raise keep or width") as caught:
        draw_routes(config, [128, 64], ["g"] * 65)
    assert caught.value.details == {"units": 64, "tasks": 65}


def test_which_tasks_of_a_partition_get_more_changes_with_the_layer() -> None:
    config = RoutingConfig(scheme="partition", keep=0.5)
    layers = draw_routes(config, [64] * 40, ["g"] * 3)
    richest = [int(layer.sum(dim=1).argmax()) for layer in layers if layer is not None]
    assert set(richest) == {0, 1, 2}


# --- tree -------------------------------------------------------------------------------------


@FAST
@given(st.integers(8, 64), st.lists(st.sampled_from("abcd"), min_size=1, max_size=20), SEED)
def test_tree_tasks_of_a_group_share_the_first_routed_layers(
    units: int, groups: list[str], seed: int
) -> None:
    config = RoutingConfig(
        scheme="tree", keep=0.5, group_layers=2, unit_multiple=1, seed=seed, routed_layers="last:3"
    )
    layers = draw_routes(config, [units] * 4, groups)
    assert layers[0] is None
    for layer in layers[1:3]:
        assert layer is not None
        routes = {group: layer[groups.index(group)] for group in groups}
        assert all(
            torch.equal(row, routes[group]) for row, group in zip(layer, groups, strict=True)
        )
        kept = kept_units(0.5, units, 1)
        assert int(layer.any(dim=0).sum()) == min(units, len(routes) * kept)


def test_tree_parts_behind_the_group_layers() -> None:
    groups = ["a"] * 20 + ["b"] * 20
    config = RoutingConfig(scheme="tree", keep=0.25, group_layers=1)
    shared, own = draw_routes(config, [64, 64], groups)
    assert shared is not None
    assert own is not None
    assert len(set(map(tuple, shared.tolist()))) == 2
    assert len(set(map(tuple, own.tolist()))) == 40


def test_tree_without_group_layers_is_independent() -> None:
    tree, plain = (
        draw(64, 10, groups=list("abcdeabcde"), scheme=scheme) for scheme in ("tree", "independent")
    )
    assert torch.equal(tree, plain)


def test_group_order_and_names_do_not_matter_but_membership_does() -> None:
    def routes(groups: str) -> Tensor:
        return draw(64, 4, groups=list(groups), scheme="tree", group_layers=1)

    assert torch.equal(routes("aabb"), routes("xxyy"))
    assert torch.equal(routes("aabb")[[0, 2]], routes("abab")[[0, 1]])


# --- seeds and layers -------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["independent", "partition", "tree"])
def test_equal_seeds_give_equal_routes_and_leave_the_global_generator_alone(scheme: str) -> None:
    config = RoutingConfig.model_validate({"scheme": scheme, "seed": 5, "group_layers": 1})
    torch.manual_seed(1)
    before = torch.get_rng_state()
    one = draw_routes(config, [64, 32], list("aabbcc"))
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    other = draw_routes(config, [64, 32], list("aabbcc"))
    assert all(a is not None and b is not None and torch.equal(a, b)
               for a, b in zip(one, other, strict=True))  # fmt: skip


@pytest.mark.parametrize("scheme", ["independent", "partition"])
def test_seeds_and_layers_all_differ(scheme: str) -> None:
    drawn = [
        layer
        for seed in range(30)
        for layer in draw_routes(
            RoutingConfig.model_validate({"scheme": scheme, "seed": seed}), [64] * 8, ["g"] * 6
        )
    ]
    keys = {layer.numpy().tobytes() for layer in drawn if layer is not None}
    assert len(keys) == len(drawn) == 240


def test_routes_of_a_layer_do_not_depend_on_the_other_layers() -> None:
    all_routed = draw_routes(RoutingConfig(), [64, 128, 256], ["g"] * 4)
    last_only = draw_routes(RoutingConfig(routed_layers="last:1"), [8, 8, 256], ["g"] * 4)
    assert last_only[:2] == [None, None]
    assert all_routed[2] is not None
    assert last_only[2] is not None
    assert torch.equal(all_routed[2], last_only[2])


def test_keep_per_layer() -> None:
    config = RoutingConfig(keep=(0.25, 1.0, 0.5), routed_layers=(3, 0, 2))
    routes = draw_routes(config, [64, 64, 64, 64], ["g"] * 4)
    counts = [None if layer is None else set(layer.sum(dim=1).tolist()) for layer in routes]
    assert counts == [{16}, None, {64}, {32}]
    with pytest.raises(ConfigError, match="keep has 3 values for 4 routed layers"):
        draw_routes(RoutingConfig(keep=(0.25, 1.0, 0.5)), [64] * 4, ["g"] * 4)


def test_no_routed_layers() -> None:
    assert draw_routes(RoutingConfig(routed_layers="none"), [8, 8], ["g"]) == [None, None]


def test_hundreds_of_tasks_are_drawn_in_no_time() -> None:
    units = [64, 128, 256, 256, 512, 512, 512, 512]  # VGG-11
    for scheme, keep in (("independent", 0.4), ("independent", 0.02), ("partition", 0.4)):
        config = RoutingConfig.model_validate({"scheme": scheme, "keep": keep, "unit_multiple": 1})
        started = time.process_time()
        draw_routes(config, units, [f"g{task % 28}" for task in range(312)])
        assert time.process_time() - started < 1.0


# --- given ------------------------------------------------------------------------------------


LAST_TWO = RoutingConfig(scheme="saliency", routed_layers="last:2")


def test_routes_that_training_chooses_are_not_drawn() -> None:
    with pytest.raises(ConfigError, match=r"scheme 'saliency'.*chosen in training"):
        draw_routes(LAST_TWO, [8, 8], ["g"])


def test_placeholders_are_every_unit_of_the_routed_layers() -> None:
    routes = placeholder_routes(LAST_TWO, [4, 6, 8], 3)
    assert routes[0] is None
    assert [mask.shape for mask in routes[1:] if mask is not None] == [(3, 6), (3, 8)]
    assert all(bool(mask.all()) for mask in routes[1:] if mask is not None)
    check_routes(routes, LAST_TWO, [4, 6, 8], 3)


def _empty_row() -> Tensor:
    mask = torch.ones(3, 6, dtype=torch.bool)
    mask[1] = False
    return mask


@pytest.mark.parametrize(
    ("routes", "message"),
    [
        ([None, None], "routes for 2 layers; the backbone has 3"),
        (
            [None, None, torch.ones(3, 8) > 0],
            "layer 1 has no routes, but .* says that it is routed",
        ),
        ([torch.ones(3, 4) > 0] * 3, "layer 0 has routes, but .* says that it is not routed"),
        (
            [None, torch.ones(3, 6), None],
            r"layer 1 are torch.float32 \[3, 6\]; .*bool \[3 tasks, 6",
        ),
        ([None, torch.ones(2, 6) > 0, None], r"layer 1 are torch.bool \[2, 6\]; they must be bool"),
        ([None, _empty_row(), None], "routes of layer 1 leave task 1 without units"),
    ],
)
def test_given_routes_that_do_not_fit_are_named(routes: list[Tensor | None], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check_routes(routes, LAST_TWO, [4, 6, 8], 3)


def test_groups_are_numbered_as_they_appear() -> None:
    assert group_index(["b", "a", "b", "c"]).tolist() == [0, 1, 0, 2]
