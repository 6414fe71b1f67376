"""What changes in a network when a stage of the run begins.

Routes are chosen from what has been learnt without any (:mod:`training.evidence`); towers that
learnt each for itself are stitched together (:mod:`model.baselines.cross_stitch`). Both happen in
place, between two steps, with the state saved before and after.
"""

from __future__ import annotations

from model.baselines.towers import TowerNetwork
from model.network import RoutedNetwork
from model.task_network import TaskNetwork
from training.config import TrainSettings
from training.decoding import ImageSet
from training.evidence import Advance, choose_routes, set_chosen
from training.evidence import make_room as make_room_for_routes


def begin_stage(
    network: TaskNetwork, settings: TrainSettings, images: ImageSet, share: float, advance: Advance
) -> None:
    """Choose routes, or stitch towers.

    Args:
        share: of the way to the routes that the settings keep; towers are stitched at once.
    """
    if isinstance(network, TowerNetwork):
        network.stitch()
    elif isinstance(network, RoutedNetwork):
        choose_routes(network, settings, images, share, advance)


def make_room(network: TaskNetwork, settings: TrainSettings) -> None:
    """For the tensors of a saved network behind the first stage to fit in."""
    if isinstance(network, TowerNetwork):
        network.stitch()
    elif isinstance(network, RoutedNetwork):
        make_room_for_routes(network, settings.routing())


def follow_routes(network: TaskNetwork, settings: TrainSettings) -> None:
    """Let the configuration say what routes that were copied into the network keep."""
    if isinstance(network, RoutedNetwork):
        set_chosen(network, settings.routing(), network.routes)
