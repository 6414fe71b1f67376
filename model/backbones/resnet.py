"""ResNet (He et al., CVPR 2016, Table 1) with routes in and behind its residual blocks.

Convolutions are counted in the order in which they run, the stem first; a shortcut's 1x1
convolution belongs to the block's last one. The stride of a bottleneck is that of its 3x3
convolution, as in torchvision, whose weights fit ``resnet18`` and ``resnet50``.

**The rule of routes.** A residual block adds its input to its result. Were the routes of one
block's result and of the next one's drawn apart, only the units in both would be carried around,
after a few blocks hardly any, and the identity path would be cut. Therefore

- inside a block every convolution has routes of its own;
- the results of all blocks of a stage are one *stream* and share one route per task. It masks the
  sum, so the identity path carries exactly the units that the task uses, through the whole stage.
  Where the first block of a stage adds its input as it is, the layer in front (the stem of
  ``resnet18``) belongs to the stream too;
- where routing starts within a stage (``routed_layers`` "last:N"), the stream is whole before its
  first routed layer, whose identity takes the route's units out of it, and routed from there on;
- behind a 1x1 convolution (the first block of a stage that changes size or units) begins a new
  stream: the convolution reads the old stream's route and writes the new one's.

A stream keeps the share of its last routed layer. ``routed_layers`` that names some of a stream's
layers but not all behind them is refused.

``resnet26`` is the network of the residual adapters (Rebuffi et al. 2017, section 3.3): three
stages of four blocks with 64, 128 and 256 units behind a 3x3 stem of 32, each stage halving the
size; its shortcuts are 1x1 convolutions, where theirs pool and pad with zeros.
"""

from __future__ import annotations

from dataclasses import dataclass

from model.backbones.vgg import UNIT_MULTIPLE
from model.config import BackboneConfig
from model.conv_layer import LayerShape
from model.shortcut import ShortcutShape

_EXPANSION = 4  # a bottleneck's result has so many times the units of its inside


@dataclass(frozen=True)
class _ResNet:
    blocks: tuple[int, ...]  # per stage
    units: tuple[int, ...]  # inside the blocks of each stage
    bottleneck: bool = False
    stem_units: int = 64
    small_stem: bool = False  # 3x3 with stride 1, no pool
    first_stride: int = 1  # of the first stage; of others it is 2


RESNETS = {
    "resnet18": _ResNet((2, 2, 2, 2), (64, 128, 256, 512)),
    "resnet26": _ResNet((4, 4, 4), (64, 128, 256), stem_units=32, small_stem=True, first_stride=2),
    "resnet50": _ResNet((3, 4, 6, 3), (64, 128, 256, 512), bottleneck=True),
}


def resnet_layers(config: BackboneConfig) -> list[LayerShape]:
    """The convolutions of ``config.arch``, for images of any size.

    The standard stem (7x7 with stride 2 and a 3x3 max pool of stride 2) leaves a sixteenth of the
    pixels, which suits photographs and keeps 64 px affordable; ``stem`` small (3x3 with stride 1,
    no pool) is the usual one for images of 32 px.
    """
    net = RESNETS[config.arch]
    own_norm = config.norm == "batch_per_domain"
    small = net.small_stem or config.stem == "small"
    first = _rounded(net.stem_units * config.width)
    stem = LayerShape(
        3, first, batch_norm=True, pool=not small, pool_size=2 if small else 3,
        kernel=3 if small else 7, stride=1 if small else 2, own_norm=own_norm,
        stream=0 if _carried(net, first, config.width) else None,
    )  # fmt: skip
    layers = [stem]
    for stage, blocks in enumerate(net.blocks):
        for block in range(blocks):
            stride = 1 if block else 2 if stage else net.first_stride
            layers += _block(config, net, layers[-1].units, stage, stride)
    return layers


def _block(
    config: BackboneConfig, net: _ResNet, in_units: int, stage: int, stride: int
) -> list[LayerShape]:
    """The convolutions of one residual block."""
    inside = _rounded(net.units[stage] * config.width)
    units = inside * _EXPANSION if net.bottleneck else inside
    kernels = (1, 3, 1) if net.bottleneck else (3, 3)
    strides = (1, stride, 1) if net.bottleneck else (stride, 1)
    widths = (in_units, *(inside,) * (len(kernels) - 1), units)
    projected = stride != 1 or in_units != units
    last = len(kernels) - 1
    return [
        LayerShape(
            widths[index], widths[index + 1], batch_norm=True, kernel=kernel,
            stride=strides[index], begins_block=index == 0,
            shortcut=ShortcutShape(in_units, projected, stride) if index == last else None,
            stream=stage if index == last else None,
            # Of the 3x3 convolutions inside blocks, where the adapters' authors have them.
            adapter=config.adapters if kernel == 3 else "none",
            own_norm=config.norm == "batch_per_domain",
        )
        for index, kernel in enumerate(kernels)
    ]  # fmt: skip


def _carried(net: _ResNet, stem_units: int, width: float) -> bool:
    """Whether the first block adds the stem's result as it is."""
    inside = _rounded(net.units[0] * width)
    units = inside * _EXPANSION if net.bottleneck else inside
    return net.first_stride == 1 and stem_units == units


def _rounded(units: float) -> int:
    return max(UNIT_MULTIPLE, round(units / UNIT_MULTIPLE) * UNIT_MULTIPLE)
