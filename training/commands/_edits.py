"""What removing, renaming and merging tasks have in common: read, change, publish."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from model.bundle import Bundle
    from model.network import RoutedNetwork


def publish_edit(
    root: str,
    name: str,
    parent: int,
    bundle: Bundle,
    network: RoutedNetwork,
    metrics: Mapping[str, Any],
    what: str,
) -> int:
    """Publish ``network``, made from ``bundle``; its card says ``what`` was done to the parent."""
    from model.bundle import CARD
    from model.repository import Repository

    card = (bundle.path / CARD).read_text(encoding="utf-8").rstrip()
    return Repository(root).publish(
        name, network, metrics=metrics, card=f"{card}\n\n{what}\n", parent=parent
    )
