"""What a network with a trunk per task costs to serve."""

from __future__ import annotations

from collections.abc import Sequence

from model.baselines.towers import TowerNetwork


def trunk_passes(network: TowerNetwork, tasks: Sequence[int]) -> float:
    """Multiply-adds of asking ``tasks`` about one image, one trunk's convolutions being 1.

    Alone, the towers of the tasks asked run; stitched, all of them up to the last stitch. A stitch
    is a product of ``alpha`` with every activation.
    """
    height, width = network.config.preprocess.height, network.config.preprocess.width
    count, last = len(network.towers), max(map(int, network.stitches), default=-1)
    trunk = asked = 0
    for index, layer in enumerate(network.towers[0]):
        shape = layer.shape
        convolution = 9 * shape.in_units * shape.units * height * width
        trunk += convolution
        asked += convolution * (count if index <= last else len(tasks))
        if shape.pool:
            height, width = height // 2, width // 2
        if str(index) in network.stitches:
            asked += count**2 * shape.units * height * width
    return asked / trunk
