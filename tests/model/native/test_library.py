"""The compiled kernels against PyTorch's operators."""

from __future__ import annotations

import platform
import shutil
from collections.abc import Sequence

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from model.native.library import (
    Algorithm,
    Chain,
    Library,
    PackedConv,
    PackedHead,
    native_library,
)

ALGORITHMS: tuple[Algorithm, ...] = ("direct", "winograd", "winograd kept")
LEVELS = torch.linspace(-2, 2, 3 * 256).view(3, 256)


@pytest.fixture(scope="module")
def library() -> Library:
    found = native_library()
    if found is None:
        pytest.skip("the kernels were not compiled: no C++ compiler, or another processor")
    return found


def random_layer(inputs: int, outputs: int, seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(outputs, inputs, 3, 3, generator=generator) / (9 * inputs) ** 0.5
    return weight, torch.randn(outputs, generator=generator)


def packed(
    library: Library,
    layer: tuple[Tensor, Tensor],
    *,
    pool: bool = False,
    algorithm: Algorithm = "direct",
) -> PackedConv:
    return library.pack(*layer, pool=pool, algorithm=algorithm)


def random_pixels(*shape: int, seed: int = 0) -> Tensor:
    return torch.randint(
        0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(seed)
    )


def test_they_are_compiled_wherever_a_compiler_and_the_processor_are_at_hand() -> None:
    capable = torch.backends.cpu.get_cpu_capability() in ("AVX2", "AVX512")
    if shutil.which("c++") is None or platform.system() != "Linux" or not capable:
        pytest.skip("no C++ compiler, or another processor")
    assert native_library() is not None, (
        "`make venv` compiles model/native; its output says why not"
    )


def test_a_processor_without_the_instructions_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "DEFAULT")
    assert native_library.__wrapped__() is None


def test_a_library_compiled_from_other_sources_is_left_unused(
    library: Library, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("model.native.library._INTERFACE", 99)
    assert native_library.__wrapped__() is None
    assert "install the package again" in caplog.text


@settings(max_examples=60, deadline=None)
@given(
    inputs=st.sampled_from([1, 3, 4, 5, 16, 17, 37]),
    outputs=st.sampled_from([1, 8, 16, 26, 51, 64, 70]),
    height=st.integers(1, 17),
    width=st.integers(1, 17),
    images=st.integers(1, 3),
    pool=st.booleans(),
    algorithm=st.sampled_from(ALGORITHMS),
    threads=st.sampled_from([1, 2]),
)
def test_a_convolution_of_any_shape(
    inputs: int, outputs: int, height: int, width: int, images: int, pool: bool,
    algorithm: Algorithm, threads: int,
) -> None:  # fmt: skip
    library = native_library()
    if library is None:
        pytest.skip("the kernels were not compiled: no C++ compiler, or another processor")
    pool = pool and min(height, width) > 1
    algorithm = algorithm if inputs > 4 else "direct"
    layer = random_layer(inputs, outputs, seed=height * 100 + width)
    x = torch.randn(images, inputs, height, width).contiguous(memory_format=torch.channels_last)
    found = library.convolve(x, packed(library, layer, pool=pool, algorithm=algorithm), threads)
    weight, bias = layer
    expected = F.relu(F.conv2d(x.double(), weight.double(), bias.double(), padding=1))
    expected = F.max_pool2d(expected, 2) if pool else expected
    assert found.shape == expected.shape
    assert found.is_contiguous(memory_format=torch.channels_last)
    assert (found - expected).abs().max() < 1e-5


@pytest.mark.parametrize("threads", [1, 2])
def test_kept_or_not_the_transformed_weights_give_the_same_bits(
    library: Library, threads: int
) -> None:
    layer = random_layer(37, 70, seed=0)
    x = torch.randn(3, 37, 13, 18).contiguous(memory_format=torch.channels_last)
    found = [
        library.convolve(x, packed(library, layer, algorithm=algorithm), threads)
        for algorithm in ALGORITHMS
    ]
    assert torch.equal(found[1], found[2])
    assert not torch.equal(found[0], found[1])


def test_the_error_of_winograd_is_a_few_units_of_the_last_place(library: Library) -> None:
    weight, bias = random_layer(256, 64, seed=0)
    x = torch.randn(1, 256, 28, 28, generator=torch.Generator().manual_seed(0)).relu()
    layer = packed(library, (weight, bias), algorithm="winograd")
    found = library.convolve(x, layer, threads=1)
    expected = F.relu(F.conv2d(x.double(), weight.double(), bias.double(), padding=1))
    error = (found - expected).square().mean().sqrt() / expected.square().mean().sqrt()
    assert float(error) < 1e-6


class Example:
    """A chain of four layers with a head, and the same in PyTorch."""

    def __init__(self, library: Library, inputs: int, *, embedding: int = 6) -> None:
        units = [inputs, 33, 40, 17, 26]
        self.layers = [random_layer(units[i], units[i + 1], seed=i) for i in range(4)]
        self.pools = (False, True, False, True)
        self.packed = [
            packed(
                library,
                layer,
                pool=pool,
                algorithm=("direct", "winograd", "winograd kept", "direct")[index],
            )
            for index, (layer, pool) in enumerate(zip(self.layers, self.pools, strict=True))
        ]
        self.embed = (torch.randn(embedding, 26), torch.randn(embedding)) if embedding else None
        self.weight, self.bias = torch.randn(3, embedding or 26), torch.randn(3)
        self.head: PackedHead = library.pack_head(self.embed, self.weight, self.bias)

    def logits(self, x: Tensor) -> Tensor:
        for layer, pool in zip(self.layers, self.pools, strict=True):
            x = F.relu(F.conv2d(x, *layer, padding=1))
            x = F.max_pool2d(x, 2) if pool else x
        features = x.mean(dim=(2, 3))
        features = F.relu(F.linear(features, *self.embed)) if self.embed else features
        return F.linear(features, self.weight, self.bias)

    def chain(self, x: Tensor, images: Sequence[int], select: Tensor | None = None) -> Chain:
        return Chain(self.packed, self.head, x, images, select)


@pytest.mark.parametrize("embedding", [0, 6])
def test_a_chain_from_chosen_channels_of_chosen_images(library: Library, embedding: int) -> None:
    example = Example(library, 5, embedding=embedding)
    x = torch.randn(4, 9, 12, 16).contiguous(memory_format=torch.channels_last)
    select, images = torch.tensor([8, 0, 3, 4, 1]), [2, 0, 2]
    found = library.logits([example.chain(x, images, select)], LEVELS, 5, threads=1)
    assert found.shape == (3, 5)
    assert torch.isneginf(found[:, 3:]).all()
    torch.testing.assert_close(
        found[:, :3], example.logits(x[images][:, select]), rtol=1e-4, atol=1e-5
    )


def test_a_chain_from_the_pixels(library: Library) -> None:
    example = Example(library, 3)
    pixels = random_pixels(2, 14, 13, 3)
    found = library.logits([example.chain(pixels, [0, 1])], LEVELS, 3, threads=2)
    values = torch.stack([LEVELS[c][pixels[..., c].long()] for c in range(3)], dim=1)
    torch.testing.assert_close(found, example.logits(values), rtol=1e-4, atol=1e-5)


def test_no_neighbour_and_no_thread_changes_a_bit(library: Library) -> None:
    examples = [Example(library, 3) for _ in range(5)]
    pixels = random_pixels(40, 16, 16, 3)  # more than one chunk of images
    chains = [example.chain(pixels, range(40)) for example in examples]
    together = library.logits(chains, LEVELS, 3, threads=1).view(5, 40, 3)
    assert torch.equal(library.logits(chains, LEVELS, 3, threads=3).view(5, 40, 3), together)
    for task, image in ((0, 0), (2, 17), (4, 39)):
        for threads in (1, 2):
            alone = library.logits([examples[task].chain(pixels, [image])], LEVELS, 3, threads)
            assert torch.equal(alone[0], together[task, image])


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("pool", [False, True])
def test_not_a_number_stays_visible(library: Library, algorithm: Algorithm, pool: bool) -> None:
    weight, bias = random_layer(8, 8, seed=0)
    weight[3, 2] = float("nan")
    layer = packed(library, (weight, bias), pool=pool, algorithm=algorithm)
    x = torch.randn(1, 8, 8, 8).contiguous(memory_format=torch.channels_last)
    found = library.convolve(x, layer, threads=1)
    assert found[:, 3].isnan().all()
    assert not found[:, 4:].isnan().any()
