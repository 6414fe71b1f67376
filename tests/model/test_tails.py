from __future__ import annotations

import torch

from model.cut_conv import CutConv
from model.plan import make_plan
from model.tails import all_tails, group_tails
from model.tasks import Task
from tests.model.networks import make_network

TASKS = tuple(Task(name=f"t{index}", group=f"g{index % 2}") for index in range(10))


def test_a_tail_begins_where_a_task_is_alone_and_ends_with_the_last_layer() -> None:
    network = make_network(TASKS, routing={"routed_layers": "last:3"})
    (group,) = group_tails(all_tails(make_plan(network, range(10))), group_size=10)
    # The first routed convolution is still shared: tasks part behind its mask.
    assert [[cut.layer for cut in tail.cuts] for tail in group.tails] == [[6, 7]] * 10
    assert sorted(group.tasks) == list(range(10))


def test_tails_of_equal_shape_make_whole_groups_and_the_rest_stays_alone() -> None:
    network = make_network(TASKS)
    groups = group_tails(all_tails(make_plan(network, range(10))), group_size=4)
    assert [len(group.tails) for group in groups] == [4, 4]
    members = [task for group in groups for task in group.tasks]
    assert len(set(members)) == 8


def test_tails_of_other_shapes_are_kept_apart() -> None:
    # A partition of 8 units among 3 tasks is uneven: 4 common, then 2, 1 and 1 of their own.
    network = make_network(
        TASKS[:3], routing={"scheme": "partition", "keep": 0.5, "routed_layers": "last:1"}
    )
    for group in group_tails(all_tails(make_plan(network, range(3))), group_size=2):
        assert len({tail.shape for tail in group.tails}) == 1


def test_what_tasks_share_to_the_end_is_no_tail() -> None:
    network = make_network(TASKS, routing={"routed_layers": "none"})
    assert group_tails(all_tails(make_plan(network, range(10))), group_size=1) == []


def test_a_grouped_convolution_gives_the_bits_of_its_parts() -> None:
    network = make_network(TASKS, routing={"routed_layers": "last:3"})
    (group,) = group_tails(all_tails(make_plan(network, range(10))), group_size=10)
    for cuts in group.layers():
        layer, inputs = network.layers[cuts[0].layer], cuts[0].inputs
        height, width = cuts[0].size
        x = torch.randn(3, 10 * inputs, height, width)
        x = x.contiguous(memory_format=torch.channels_last)
        together = CutConv.cut(layer, cuts, torch.float32)(x)
        outputs = together.chunk(10, dim=1)
        for index, cut in enumerate(cuts):
            own = x[:, index * inputs : (index + 1) * inputs]
            own = own.contiguous(memory_format=torch.channels_last)
            assert torch.equal(CutConv.cut(layer, [cut], torch.float32)(own), outputs[index])


def test_the_largest_layer_counts() -> None:
    network = make_network(TASKS[:2])
    (group,) = group_tails(all_tails(make_plan(network, range(2))), group_size=2)
    # Behind the first pool 14 x 14 remain of 28 x 28; half of 8 units for each of two tasks.
    assert group.activation_values() == 14 * 14 * 4 * 2
