from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from model.backbones import layer_shapes
from model.backbones.vgg import VGG_BLOCKS
from model.config import BackboneConfig
from model.errors import ConfigError
from model.network import RoutedNetwork, build
from tests.model.networks import TASKS, make_config, random_images

# Simonyan and Zisserman, Table 1: convolutions of the configurations A, B, D and E.
CONVOLUTIONS = {"vgg11": 8, "vgg13": 10, "vgg16": 13, "vgg19": 16}
# The name without the number is torchvision's letter for it.
LETTERS = {"vgg11": "A", "vgg13": "B", "vgg16": "D", "vgg19": "E"}


@pytest.mark.parametrize("arch", CONVOLUTIONS)
@pytest.mark.parametrize("suffix", ["", "_bn"])
def test_the_convolutions_are_those_of_the_paper(arch: str, suffix: str) -> None:
    layers = layer_shapes(BackboneConfig(arch=arch + suffix), (224, 224))
    assert len(layers) == CONVOLUTIONS[arch]
    assert [layer.batch_norm for layer in layers] == [suffix == "_bn"] * len(layers)
    assert [layer.units for layer in layers if layer.pool] == [64, 128, 256, 512, 512]
    assert [layer.in_units for layer in layers] == [3, *(layer.units for layer in layers[:-1])]


@pytest.mark.parametrize(
    ("width", "units"),
    [
        (1.0, [64, 128, 256, 512, 512]),
        (0.5, [32, 64, 128, 256, 256]),
        (0.001, [8, 8, 8, 8, 8]),
        (0.3, [16, 40, 80, 152, 152]),
        (2.0, [128, 256, 512, 1024, 1024]),
    ],
)
def test_width_scales_to_multiples_of_eight(width: float, units: list[int]) -> None:
    layers = layer_shapes(BackboneConfig(arch="vgg11", width=width), (64, 64))
    assert [layer.units for layer in layers if layer.pool] == units


@pytest.mark.parametrize(
    ("size", "pools"),
    [((28, 28), 4), ((31, 31), 4), ((32, 32), 5), ((28, 1024), 4), ((1024, 28), 4), ((64, 33), 5)],
)
def test_a_pool_that_would_leave_nothing_is_left_out(size: tuple[int, int], pools: int) -> None:
    for arch in VGG_BLOCKS:
        layers = layer_shapes(BackboneConfig(arch=arch), size)
        assert sum(layer.pool for layer in layers) == pools


@pytest.mark.parametrize("arch", ["vgg", "vgg12", "resnet34", "", "vgg11_bn_bn", "VGG11", "_bn"])
def test_unknown_architectures_list_the_known_ones(arch: str) -> None:
    with pytest.raises(ConfigError, match="known architectures: vgg11, vgg11_bn, vgg13") as caught:
        layer_shapes(BackboneConfig(arch=arch), (64, 64))
    assert caught.value.details == {"arch": arch}


def copy_weights(network: RoutedNetwork, features: nn.Module) -> None:
    """Into ``network`` from torchvision's layers, whose biases in front of a norm it has not."""
    modules = list(features.modules())
    convolutions = [module for module in modules if isinstance(module, nn.Conv2d)]
    norms = [module for module in modules if isinstance(module, nn.BatchNorm2d)]
    for index, (layer, conv) in enumerate(zip(network.layers, convolutions, strict=True)):
        assert conv.bias is not None
        layer.conv.weight.copy_(conv.weight)
        if layer.norm is None:
            assert layer.conv.bias is not None
            layer.conv.bias.copy_(conv.bias)
            continue
        norm = norms[index]
        assert norm.running_mean is not None
        assert norm.running_var is not None
        layer.norm.weight.copy_(norm.weight)
        layer.norm.bias.copy_(norm.bias)
        layer.norm.running_mean[0] = norm.running_mean - conv.bias
        layer.norm.running_var[0] = norm.running_var


def randomise(features: nn.Module) -> None:
    generator = torch.Generator().manual_seed(0)
    for name, values in features.state_dict().items():
        if values.dtype == torch.float32 and values.ndim == 1:
            low, high = (0.5, 1.5) if name.endswith(("running_var", "weight")) else (-0.3, 0.3)
            values.uniform_(low, high, generator=generator)


def pooled(network: RoutedNetwork, images: Tensor) -> Tensor:
    x = network.normalise(images)
    for layer in network.layers:
        x = layer(x, 0)
    return x.mean(dim=(2, 3))


@pytest.mark.parametrize("arch", ["vgg11_bn", "vgg16"])
@pytest.mark.parametrize("size", [(40, 32)])
def test_unrouted_features_are_those_of_torchvision(arch: str, size: tuple[int, int]) -> None:
    vgg = pytest.importorskip("torchvision.models.vgg")
    torch.manual_seed(0)
    with_norm = arch.endswith("_bn")
    letter = LETTERS[arch.removesuffix("_bn")]
    features = vgg.make_layers(vgg.cfgs[letter], batch_norm=with_norm).eval()
    config = make_config(
        TASKS[:2],
        backbone={"arch": arch, "width": 1.0},
        routing={"routed_layers": "none"},
        preprocess={"height": size[0], "width": size[1]},
    )
    network = build(config).eval()
    with torch.inference_mode():
        randomise(features)
        copy_weights(network, features)
        images = random_images(network, 2)
        expected = features(network.normalise(images)).mean(dim=(2, 3))
        found = pooled(network, images)
    assert float(expected.abs().max()) > 1e-3
    assert torch.allclose(found, expected, rtol=1e-4, atol=1e-5 * float(expected.abs().max()))
    counted = sum(values.numel() for values in features.parameters())
    biases = sum(layer.shape.units for layer in network.layers) if with_norm else 0
    assert network.parameter_counts()["trunk"] == counted - biases
