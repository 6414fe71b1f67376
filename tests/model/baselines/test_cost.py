"""What towers cost to serve."""

from __future__ import annotations

import pytest

from model.baselines.cost import trunk_passes
from model.families import build_towers
from tests.model.baselines.towers import tower_config

SMALL = {"arch": "small_cnn", "width": 1.0}  # 3 -> 32 -> 64 units, a pool behind each


def test_alone_only_the_towers_asked_run() -> None:
    network = build_towers(tower_config("single_task", backbone=SMALL), 0)
    assert trunk_passes(network, range(5)) == 5.0
    assert trunk_passes(network, [3]) == 1.0


def test_stitched_all_towers_run_whatever_is_asked() -> None:
    network = build_towers(tower_config("cross_stitch", backbone=SMALL), 0)
    trunk = 9 * 3 * 32 * 28 * 28 + 9 * 32 * 64 * 14 * 14
    stitches = 25 * (32 * 14 * 14 + 64 * 7 * 7)
    expected = 5 + stitches / trunk
    assert trunk_passes(network, range(5)) == pytest.approx(expected)
    assert trunk_passes(network, [3]) == pytest.approx(expected)


def test_behind_the_last_stitch_only_the_towers_asked_run() -> None:
    network = build_towers(
        tower_config("cross_stitch", backbone={"arch": "vgg11", "width": 1.0}), 0
    )
    behind = 2 * 9 * 512 * 512  # two convolutions on one pixel
    last = max(map(int, network.stitches))
    assert [layer.shape.units for layer in list(network.towers[0])[last + 1 :]] == [512, 512]
    every, one = trunk_passes(network, range(5)), trunk_passes(network, [0])
    trunk = 9 * (
        28**2 * 3 * 64 + 14**2 * 64 * 128 + 7**2 * (128 * 256 + 256**2)
        + 3**2 * (256 * 512 + 512**2)
    ) + behind  # fmt: skip
    assert every - one == pytest.approx(4 * behind / trunk)
