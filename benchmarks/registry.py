"""The servers under measurement by name."""

from __future__ import annotations

from benchmarks.peers.base import Peer
from benchmarks.peers.bentoml import BentoML
from benchmarks.peers.fastapi import PlainFastAPI
from benchmarks.peers.litserve import LitServe
from benchmarks.peers.mlserver import MLServer
from benchmarks.peers.ours import Ours
from benchmarks.peers.ray import RayServe
from benchmarks.peers.torchserve import TorchServe
from benchmarks.peers.triton import Triton

PEERS: dict[str, Peer] = {
    peer.name: peer
    for peer in (
        Ours(),
        PlainFastAPI(),
        LitServe(),
        Triton(),
        TorchServe(),
        BentoML(),
        RayServe(),
        MLServer(),
    )
}
