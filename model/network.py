"""The routed network: one trunk, a route and a head per task."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from model.backbones import layer_shapes
from model.config import ModelConfig, RoutingConfig
from model.conv_layer import LayerShape, RoutedConv
from model.heads import TaskHeads
from model.route_tree import (
    Branch,
    Fork,
    LayerRoutes,
    alike,
    layer_routes,
    moved,
    route_tree,
    unit_table,
)
from model.routes import check_routes, draw_routes, first_of_stream, placeholder_routes
from model.shortcut import Skip
from model.small_maps import is_small, most_together
from model.task_network import TaskNetwork

_CACHED_TREES = 64


class RoutedLayers(nn.ModuleList):
    """The convolutions, first to last (nn.ModuleList with the element type spelt out)."""

    if TYPE_CHECKING:

        def __iter__(self) -> Iterator[RoutedConv]: ...
        def __getitem__(self, index: int) -> RoutedConv: ...  # type: ignore[override]


class RoutedNetwork(TaskNetwork):
    """One trunk; each task reads its own route through it."""

    def __init__(self, config: ModelConfig, routes: Sequence[Tensor | None] | None = None) -> None:
        """Weights are uninitialised where random: use :func:`build`.

        Args:
            routes: per convolution bool [tasks, units], None where it is not routed; None: every
                unit of the routed ones, until a state is loaded.

        Raises:
            ConfigError: unknown architecture, or routes that do not fit.
        """
        super().__init__(config)
        shapes = layer_shapes(config.backbone, _size(config))
        masks = _masks(config, shapes, routes)
        self.layers = RoutedLayers(
            RoutedConv(shape, mask, rows, config.routing.modulation, len(config.tasks))
            for shape, mask, rows in zip(shapes, masks, _norm_rows(config, masks), strict=True)
        )
        self.heads = TaskHeads(
            self.tasks, shapes[-1].units, config.head.embedding, config.generation_of
        )
        self._trees: dict[tuple[torch.device, tuple[int, ...]], tuple[Branch, ...]] = {}
        self._layer_routes: list[LayerRoutes] | None = None
        self._computed_by: tuple[int, ...] | None = None

    def forward(self, images: Tensor, task: int | Tensor | None = None) -> Tensor:
        """The reference: every unit is computed, then masked (paper, equation 1)."""
        chosen = self._asked(images, task)
        x = block_input = self.normalise(images, chosen)
        for layer in self.layers:
            block_input = x if layer.shape.begins_block else block_input
            x = layer(x, chosen, block_input)
        logits: Tensor = self.heads(x.mean(dim=(2, 3)), chosen)
        return logits

    def forward_cut(self, images: Tensor, task: int) -> Tensor:
        """Value and gradients of ``forward(images, task)`` at the cost of the task's own units.

        In training mode, the running statistics of units that the task does not use stay as they
        are.
        """
        return self.forward_tasks(images, [task])[0]

    def forward_tasks(self, images: Tensor, tasks: Sequence[int]) -> list[Tensor]:
        """Every image through each of ``tasks``: a list of logits [N, outputs], one per task asked.

        What tasks share is computed once (see :mod:`model.route_tree`).
        """
        for task in tasks:
            self._check_task(task)
        found: dict[int, tuple[Tensor, Tensor | None]] = {}
        inputs: dict[int, Tensor] = {}  # by domain
        for branch in self._tree_on(images.device, tasks):
            domain = self.domain_of[branch.tasks[0]]
            if domain not in inputs:
                inputs[domain] = self.normalise(images, branch.tasks[0])
            self._walk(branch, inputs[domain], None, found)
        logits = self.heads.forward_tasks({task: found[self.computed_by[task]] for task in tasks})
        return [logits[task] for task in tasks]

    def _walk(
        self,
        branch: Branch,
        x: Tensor,
        skip: Skip | None,
        found: dict[int, tuple[Tensor, Tensor | None]],
    ) -> None:
        """``found``: by task, its features behind the last layer, and which units they are of."""
        layer = self.layers[branch.layer]
        if layer.shape.begins_block:
            skip = Skip(x, branch.in_units)
        x = layer.forward_units(x, branch.in_units, branch.out_units, branch.row, skip)
        for forks in self._groups(branch, x):
            if len(forks) > 1:
                self._walk_side_by_side(forks, x, found)
                continue
            [fork] = forks
            used = x if fork.select is None else x.index_select(1, fork.select)
            for below in fork.branches:
                self._walk(below, used, skip, found)
            if not fork.branches:
                found |= dict.fromkeys(fork.tasks, (used.mean(dim=(2, 3)), fork.units))

    def _groups(self, branch: Branch, x: Tensor) -> Iterator[Sequence[Fork]]:
        """The forks of a branch, whose output is ``x``; those that run side by side together.

        In training only, like heads (:meth:`model.heads.TaskHeads.forward_tasks`).
        """
        below = list(self.layers)[branch.layer + 1 :]
        if not (self.training and is_small(x) and all(one.runs_side_by_side for one in below)):
            yield from ((fork,) for fork in branch.forks)
            return
        for forks in alike(branch.forks):
            most = most_together(x, max(map(self._pairs, forks[0].chain()), default=1))
            yield from (forks[start : start + most] for start in range(0, len(forks), most))

    def _pairs(self, branch: Branch) -> int:
        """Input units times output units of its convolution."""
        shape = self.layers[branch.layer].shape
        inputs = shape.in_units if branch.in_units is None else len(branch.in_units)
        outputs = shape.units if branch.out_units is None else len(branch.out_units)
        return inputs * outputs

    def _walk_side_by_side(
        self, forks: Sequence[Fork], x: Tensor, found: dict[int, tuple[Tensor, Tensor | None]]
    ) -> None:
        """:meth:`_walk` behind forks whose chains have equal sizes."""
        selected = unit_table([fork.select for fork in forks], x.shape[1], x.device)
        x = x.index_select(1, selected.flatten())
        for branches in zip(*(fork.chain() for fork in forks), strict=True):
            x = self.layers[branches[0].layer].forward_side_by_side(x, branches)
        pooled = x.mean(dim=(2, 3)).view(len(x), len(forks), -1).unbind(1)
        for branch, features in zip(branches, pooled, strict=True):
            found |= dict.fromkeys(branch.tasks, (features, branch.forks[0].units))

    def run(
        self, x: Tensor, layers: range, task: int, in_units: Tensor | None = None
    ) -> Iterator[tuple[int, Tensor, Tensor | None]]:
        """Some layers on the units of one task, one by one.

        Args:
            x: input of the first of ``layers``, which is not within a residual block
                (:meth:`block_start`).
            in_units: which units ``x`` has, int64; None for all.

        Yields:
            The layer, its output, and which units that has (int64, None for all).
        """
        skip, units, routes = Skip(x, in_units), in_units, self.routes
        for index in layers:
            layer, mask = self.layers[index], routes[index]
            if layer.shape.begins_block:
                skip = Skip(x, units)
            own = None if mask is None or bool(mask[task].all()) else mask[task].nonzero().flatten()
            x = layer.forward_units(x, units, own, layer.row(task), skip)
            units = own
            yield index, x, units

    def run_to_end(self, x: Tensor, layers: range, task: int) -> tuple[Tensor, Tensor | None]:
        """The last layer's output of :meth:`run`, and which units it has; of no layers, ``x``."""
        units: Tensor | None = None
        for _, output, own in self.run(x, layers, task):
            x, units = output, own
        return x, units

    def block_start(self, layer: int) -> int:
        """Where the residual block that ``layer`` lies in begins; outside of any, ``layer``."""
        start: int | None = None
        for index, one in enumerate(list(self.layers)[: layer + 1]):
            if one.shape.begins_block:
                start = index
            if index < layer and one.shape.shortcut is not None:
                start = None
        return layer if start is None or layer == len(self.layers) else start

    @property
    def first_own(self) -> int:
        """The first layer in which tasks differ, by route, statistics or adapter; the number of
        layers where they differ in their heads alone."""
        differ = (
            index
            for index, layer in enumerate(self.layers)
            if layer.route is not None or layer.shape.own_norm
        )
        return next(differ, len(self.layers))

    @property
    def shared_routes(self) -> dict[int, int]:
        """By routed layer: the first one whose route it shares, in general itself."""
        routed = [index for index, mask in enumerate(self.routes) if mask is not None]
        return first_of_stream(routed, [layer.shape.stream for layer in self.layers])

    @property
    def routes(self) -> list[Tensor | None]:
        """Per convolution: bool [tasks, units], or None where it is not routed."""
        return [layer.route.mask if layer.route is not None else None for layer in self.layers]

    def tree(self, tasks: Sequence[int]) -> tuple[Branch, ...]:
        """The tree of distinct computations for ``tasks``; its tensors are on the CPU.

        Tasks in it stand for all whose convolutions they compute (:attr:`computed_by`).
        """
        return self._tree_on(torch.device("cpu"), tasks)

    @property
    def computed_by(self) -> tuple[int, ...]:
        """By task: the one whose convolutions it reads; itself, unless it was added to a model
        with the very route, statistics and modulation of another task."""
        if self._computed_by is None:
            self._computed_by = _same_convolutions(self)
        return self._computed_by

    def _tree_on(self, device: torch.device, tasks: Sequence[int]) -> tuple[Branch, ...]:
        key = (device, tuple(tasks))
        found = self._trees.get(key)
        if found is None:
            # Training walks the same tree: autograd refuses tensors made in inference mode.
            with torch.inference_mode(False):
                distinct = [self.computed_by[task] for task in key[1]]
                tree = route_tree(
                    self.layer_routes(), distinct, self.config.generation_of, self.domain_of
                )
                found = moved(tree, device)
            self._trees[key] = found
            # Each step is atomic, so threads need no lock, which deepcopy (for averaged weights)
            # would refuse to copy.
            for old in list(self._trees)[:-_CACHED_TREES]:
                self._trees.pop(old, None)
        return found

    def layer_routes(self) -> list[LayerRoutes]:
        """The routes as plain data on the CPU, first layer to last."""
        if self._layer_routes is None:
            self._layer_routes = [
                layer_routes(layer.shape.units, mask, layer.per_task)
                for layer, mask in zip(self.layers, self.routes, strict=True)
            ]
        return self._layer_routes

    def set_routes(self, routing: RoutingConfig, routes: Sequence[Tensor | None]) -> None:
        """Route a trained network (anew), in place: the parameters stay the same objects, beside
        which there are those of a modulation where ``routing`` is the first to have one.

        Layers that get statistics per task start each task's from those that all tasks shared.

        Raises:
            ConfigError: the routes do not fit the network or ``routing``.
        """
        config = self.config.replace(routing=routing.model_dump())
        masks = _masks(config, [layer.shape for layer in self.layers], routes)
        rows = _norm_rows(config, masks)
        for layer, mask, count in zip(self.layers, masks, rows, strict=True):
            layer.set_route(mask, count, routing.modulation)
        self.config = config
        self.routes_changed()

    def routes_changed(self) -> None:
        """Forget what was derived from the masks; call after writing to them."""
        self._layer_routes = self._computed_by = None
        self._trees.clear()

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        super()._load_from_state_dict(*args, **kwargs)
        self.routes_changed()


def drawn_routes(config: ModelConfig) -> list[Tensor | None]:
    """The routes that ``config.routing.seed`` draws: bool [tasks, units] per convolution, or None.

    Raises:
        ConfigError: unknown architecture, or routes that cannot be drawn (those of scheme
            "saliency" come from training).
    """
    shapes = layer_shapes(config.backbone, _size(config))
    return draw_routes(
        config.routing,
        [shape.units for shape in shapes],
        [task.group for task in config.tasks],
        [shape.stream for shape in shapes],
    )


def build(
    config: ModelConfig, seed: int = 0, routes: Sequence[Tensor | None] | None = None
) -> RoutedNetwork:
    """A network with random weights drawn from ``seed`` and routes from ``config.routing.seed``.

    He initialisation (fan-in), counting the inputs that a task really receives: with keep 0.4 a
    unit sums 0.4 of the inputs, and on a feature map of one pixel eight of nine are padding.
    Without batch norm the signal would otherwise fade layer by layer.

    Args:
        routes: per convolution bool [tasks, units], None where it is not routed; None: drawn.

    Raises:
        ConfigError: unknown architecture, routes that cannot be drawn (those of scheme "saliency"
            come from training), or given ones that do not fit.
    """
    network = RoutedNetwork(config, drawn_routes(config) if routes is None else routes)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        inputs = around = 3.0
        size = _size(config)
        for layer, mask in zip(network.layers, network.routes, strict=True):
            shape = layer.shape
            around = inputs if shape.begins_block else around
            # Of kernel x kernel inputs a unit sees on average this many inside the feature map.
            inside = _inside(shape.kernel, size[0]) * _inside(shape.kernel, size[1])
            nn.init.normal_(layer.conv.weight, std=math.sqrt(2.0 / (inside * inputs)))
            size = shape.output_size(size)
            if layer.conv.bias is not None:
                nn.init.zeros_(layer.conv.bias)
            if layer.shortcut is not None and layer.shortcut.conv is not None:
                nn.init.normal_(layer.shortcut.conv.weight, std=math.sqrt(2.0 / around))
            inputs = shape.units if mask is None else float(mask.sum(dim=1).float().mean())
        last = network.routes[-1]
        features = network.layers[-1].shape.units
        used = [features] * len(network.tasks) if last is None else last.sum(dim=1).tolist()
        network.heads.reset_parameters(used)
    return network


def _inside(kernel: int, length: int) -> float:
    return kernel - (kernel // 2) * (kernel // 2 + 1) / length


def _size(config: ModelConfig) -> tuple[int, int]:
    return config.preprocess.height, config.preprocess.width


def _masks(
    config: ModelConfig, shapes: Sequence[LayerShape], routes: Sequence[Tensor | None] | None
) -> Sequence[Tensor | None]:
    """Given routes, checked; else placeholders."""
    units, streams = [shape.units for shape in shapes], [shape.stream for shape in shapes]
    if routes is None:
        first_of_stream(config.routing.layers(len(units)), streams)
        return placeholder_routes(config.routing, units, len(config.tasks))
    check_routes(routes, config.routing, units, len(config.tasks), streams)
    return routes


def _norm_rows(config: ModelConfig, masks: Sequence[Tensor | None]) -> list[int]:
    """Rows of batch-norm statistics of every layer: one, or one per task behind the first route.

    Up to and including the first routed layer every task sees the same numbers before the mask.
    With norm "batch_per_domain" every layer has one per task.
    """
    if config.backbone.norm == "batch_per_domain":
        return [len(config.tasks)] * len(masks)
    routed = [index for index, mask in enumerate(masks) if mask is not None]
    per_task = bool(routed) and config.backbone.norm == "batch_per_task"
    return [
        len(config.tasks) if per_task and index > routed[0] else 1 for index in range(len(masks))
    ]


def _same_convolutions(network: RoutedNetwork) -> tuple[int, ...]:
    """By task: the first with the same routes, statistics and modulation, for tasks of later
    generations.

    Tasks trained together stay themselves: the plan shares what they share layer by layer. Tasks
    of other domains read other pixels.
    """
    generations = network.config.generation_of
    if generations[-1] == 0:
        return tuple(range(len(generations)))
    parts = [one.mask for one in network.layer_routes() if one.mask is not None]
    for layer in network.layers:
        for norm in layer.norms():
            if norm.per_task:
                parts += [norm.running_mean.cpu(), norm.running_var.cpu()]
                parts += [norm.weight.detach().cpu(), norm.bias.detach().cpu()] * norm.own_affine
        if layer.modulation is not None:
            parts += [table.detach().cpu() for table in layer.modulation.parameters()]
        if layer.adapter is not None:
            parts += [table.detach().cpu() for table in layer.adapter.state_dict().values()]
    first: dict[bytes, int] = {}
    found = []
    for task, generation in enumerate(generations):
        content = b"%d " % network.domain_of[task]
        content += b"".join(part[task].numpy().tobytes() for part in parts)
        same = first.setdefault(hashlib.blake2b(content).digest(), task)
        found.append(same if generation else task)
    return tuple(found)
