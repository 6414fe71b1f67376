"""Runs a plan: shared convolutions once per distinct image, then each task's own units only."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from torch import Tensor

from model.channels import take_channels
from model.compiled_tail import CompiledTail
from model.convolutions import Convolutions, Subnet, SubnetInput, is_chain
from model.cut_conv import fuses
from model.forward import Computing, nobody_waits
from model.head_bank import Features, HeadBank, Ready
from model.network import RoutedNetwork
from model.plan import Cut, Node, NodeFork, make_plan, shares_conv, used_features
from model.rows import RowBatch
from model.tails import Tail, TailGroup, all_tails, alone, group_tails, is_tail
from model.upload import upload
from model.weight_cache import WeightCache

Images = tuple[int, ...]  # positions in RowBatch.images: what the rows of an activation belong to
Wanted = dict[int, Images]  # by task: the images it is asked about, each once

# Beyond this many values in a layer's output, a group's activations fall out of the caches and the
# tails are large enough to run one by one.
_GROUP_VALUES = 2**20
# Milliseconds of work: what is shared and smaller is not worth letting go of the interpreter for.
_LONG_MACS = 2**28


@dataclass(frozen=True, eq=False)
class _BlockInput:
    """What the residual block that a node is in began with."""

    x: Tensor  # [len(images), its units, H, W]
    images: Images

    def of(self, images: Images) -> Tensor:
        """The rows of ``images``."""
        return _rows(self.x, self.images, images)


@dataclass(frozen=True, eq=False)
class _Visit:
    """A node still to be run, with its input."""

    node: Node
    x: Tensor  # [len(images), in, H, W], all input units of the fork before selection
    select: Tensor | None
    images: Images
    block_input: _BlockInput | None = None  # where the node is within a residual block


class SubnetForward:
    """Rows through the plan of all tasks.

    Called by one thread. With the compiled kernels (:mod:`model.native`) everything behind the
    point where tasks part, heads included, is one call, spread over ``workers`` threads of its own.
    PyTorch's operators around it keep to one: a second thread of theirs would spin for milliseconds
    after each, on the core that a worker needs.

    Without them, tails asked about equally many images run side by side in grouped convolutions
    (:mod:`model.tails`). With ``workers`` > 1 groups and single tails are spread over that many
    threads, each running its convolutions single-threaded: a small convolution gains little from a
    second thread inside it, two side by side gain nearly all of it, and no barrier waits for a
    thread that the machine gave to somebody else.
    """

    name: Literal["subnet"] = "subnet"

    def __init__(
        self,
        network: RoutedNetwork,
        device: torch.device,
        *,
        dtype: torch.dtype = torch.float32,
        workers: int = 1,
        cache: WeightCache | None = None,
        native: bool = True,
        compiled: bool = False,
    ) -> None:
        """``native``: use the compiled kernels where they are at hand; ``compiled``: elsewhere run
        tasks' own layers by ``torch.compile``, which takes its time here and now."""
        self._network = network.eval().to(device)
        self._device, self._dtype = device, dtype
        self._roots = make_plan(network, range(len(network.tasks)))
        tails = list(all_tails(self._roots))
        self._computed_by = network.computed_by
        used = used_features(self._roots)
        self._features = {task: used[same] for task, same in enumerate(self._computed_by)}
        self._heads = HeadBank(network.heads, self._features)
        self._conv = Convolutions(
            network, device, dtype, cache or WeightCache(), tails, native=native, threads=workers
        )
        grouped = not self._conv.has_subnets and fuses(device, dtype) and is_chain(network)
        together = _by_generation(tails, network.config.generation_of) if grouped else ()
        self._groups = [group for members in together for group in group_tails(members)]
        self._tails = {tail.task: tail for tail in tails}
        self._subnets: dict[tuple[int, int], Subnet] = {}  # by task and first layer
        self._workers = workers if device.type == "cpu" else 1
        self._pool: ThreadPoolExecutor | None = None
        usable = compiled and not self._conv.has_subnets and is_chain(network)
        self._compiled = CompiledTail(device) if usable else None
        self._compile(tails)

    @property
    def kernels(self) -> str:
        """What runs the convolutions: "pytorch", "torch.compile", or "compiled" and the
        instruction set."""
        works = self._compiled is not None and self._compiled.works
        return "torch.compile" if works else self._conv.kernels

    @torch.inference_mode()
    def _compile(self, tails: Sequence[Tail]) -> None:
        """Now, for one image and for several: no request is to wait for it."""
        if self._compiled is None:
            return
        for tail in {tail.shape: tail for tail in tails}.values():
            for images in (1, 2, 3):
                shape = (images, tail.cuts[0].inputs, *tail.cuts[0].size)
                x = torch.zeros(shape, device=self._device, dtype=self._dtype)
                x = x.contiguous(memory_format=torch.channels_last)
                self._compiled(x, [self._conv.plain(cut) for cut in tail.cuts])

    @torch.inference_mode()
    def __call__(self, batch: RowBatch, computing: Computing = nobody_waits) -> Tensor:
        if not self._conv.has_subnets:
            computing()
            return self._answer(batch, computing)
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            return self._answer(batch, computing)
        finally:
            torch.set_num_threads(threads)

    def _answer(self, batch: RowBatch, computing: Computing) -> Tensor:
        images, tasks = batch.image_index.tolist(), batch.task_index.tolist()
        asked: dict[int, dict[int, None]] = {}
        for image, task in zip(images, tasks, strict=True):
            asked.setdefault(task, {})[image] = None
        answered = {task: tuple(sorted(members)) for task, members in asked.items()}
        riders: dict[int, list[int]] = {}  # by the task whose convolutions they read
        for task in answered:
            riders.setdefault(self._computed_by[task], []).append(task)
        wanted = {
            task: tuple(sorted(set().union(*(answered[one] for one in members))))
            for task, members in riders.items()
        }
        rows = list(zip(images, tasks, strict=True))
        if len(answered) == 1 and self._conv.has_subnets:
            return self._heads.answer([], self._one_task(batch.images, answered, computing), rows)
        features, parted = self._shared(self._begin(batch.images, wanted), wanted, computing)
        if self._conv.has_subnets:
            features = [ridden for item in features for ridden in _ridden(item, riders)]
            own = self._own_subnets(parted, riders, answered, computing)
            return self._heads.answer(features, own, rows)
        features.extend(self._own_layers(parted, wanted))
        features = [ridden for item in features for ridden in _ridden(item, riders)]
        none = Ready([], torch.empty(0, self._network.tasks.max_outputs))
        return self._heads.answer(features, none, rows)

    def _begin(self, images: Tensor, wanted: Wanted) -> list[_Visit]:
        """The plan's roots that lead to any wanted task, with the images as its domain has them."""
        pixels = upload(images, self._device)
        every = tuple(range(len(pixels)))
        inputs: dict[int, Tensor] = {}  # by domain
        visits = []
        for root in self._roots:
            if wanted.keys().isdisjoint(root.tasks):
                continue
            domain = self._network.domain_of[root.tasks[0]]
            if domain not in inputs:
                # Already channels last in memory: the pixels are [N, H, W, 3].
                x = self._network.normalise(pixels, root.tasks[0])
                inputs[domain] = x.to(self._dtype)
            visits.append(_Visit(root, inputs[domain], None, every))
        return visits

    def _one_task(self, pixels: Tensor, wanted: Wanted, computing: Computing) -> Ready:
        """Where one task is wanted: from the images to its logits in one call."""
        [(task, images)] = wanted.items()
        self._network.check_images(pixels)
        asked = SubnetInput(self._subnet(task, first=0), pixels, images)
        return Ready([(image, task) for image in images], self._conv.logits([asked], computing))

    def _own_subnets(
        self,
        parted: Mapping[int, _Visit],
        riders: Mapping[int, Sequence[int]],
        answered: Wanted,
        computing: Computing,
    ) -> Ready:
        """From where a visit left each task alone to its logits, all in one call."""
        inputs: list[SubnetInput] = []
        rows: list[tuple[int, int]] = []
        for same, visit in parted.items():
            place = {image: row for row, image in enumerate(visit.images)}
            for task in riders[same]:
                positions = [place[image] for image in answered[task]]
                subnet = self._subnet(task, first=visit.node.cut.layer)
                inputs.append(SubnetInput(subnet, visit.x, positions, visit.select))
                rows.extend((image, task) for image in answered[task])
        return Ready(rows, self._conv.logits(inputs, computing))

    def _subnet(self, task: int, *, first: int) -> Subnet:
        """The task's layers from ``first`` on, and its head."""
        key = (task, first)
        if key not in self._subnets:
            cuts = alone(self._roots, self._computed_by[task])[first:]
            self._subnets[key] = self._conv.subnet(task, cuts, self._features[task])
        return self._subnets[key]

    def _own_layers(self, parted: dict[int, _Visit], wanted: Wanted) -> list[Features]:
        """From where wanted tasks part to their features, layer by layer."""
        if self._compiled is not None and self._compiled.works:
            return [self._whole(self._compiled, visit, wanted) for visit in parted.values()]
        work: list[Callable[[], list[Features]]] = []
        for group in self._groups:
            if _together(group, parted, wanted):
                visits = [parted.pop(task) for task in group.tasks]
                work.append(partial(self._side_by_side, group, visits, wanted))
        work.extend(partial(self._depth_first, visit, wanted) for visit in parted.values())
        return self._spread(work)

    def close(self) -> None:
        """Stop the worker threads."""
        if self._pool is not None:
            self._pool.shutdown()
            self._pool = None

    def _threads(self) -> ThreadPoolExecutor:
        """The workers, each with one thread inside its operators."""
        if self._pool is None:
            threads = torch.get_num_threads()
            self._pool = ThreadPoolExecutor(self._workers, "subnet")
            together = threading.Barrier(self._workers)

            def begin(_: int) -> None:
                torch.set_num_threads(1)
                together.wait()  # so that every worker runs this once

            list(self._pool.map(begin, range(self._workers)))
            # The setting is also the default of threads that start later: put it back.
            torch.set_num_threads(threads)
        return self._pool

    def _shared(
        self, visits: list[_Visit], wanted: Wanted, computing: Computing
    ) -> tuple[list[Features], dict[int, _Visit]]:
        """What several tasks share, level by level; the visits from which on a wanted task is
        alone."""
        found: list[Features] = []
        parted: dict[int, _Visit] = {}
        while visits:
            below: list[_Visit] = []
            for visit in visits:
                if not is_tail(visit.node):
                    if visit.node.cut.macs * len(visit.images) > _LONG_MACS:
                        computing()
                    below.extend(self._visit(visit, wanted, found, parted))
                elif visit.node.tasks[0] in wanted:
                    parted[visit.node.tasks[0]] = visit
            visits = below
        return found, parted

    def _spread(self, work: Sequence[Callable[[], list[Features]]]) -> list[Features]:
        """Do all of it, over the worker threads once there is enough."""
        if self._workers == 1 or len(work) < self._workers:
            return [features for piece in work for features in piece()]
        pool = self._threads()
        done = [pool.submit(torch.inference_mode()(piece)) for piece in work]
        return [features for future in done for features in future.result()]

    def _side_by_side(
        self, group: TailGroup, visits: Sequence[_Visit], wanted: Wanted
    ) -> list[Features]:
        """A group's tails in grouped convolutions."""
        x = _inputs_side_by_side(visits, wanted)
        for cuts in group.layers():
            x = self._conv(x, cuts)
        pooled = x.mean(dim=(2, 3)).float().view(len(x), len(group.tails), -1)
        images = tuple(wanted[task] for task in group.tasks)
        return [Features(group.tasks, images, pooled.transpose(0, 1))]

    def _whole(self, compiled: CompiledTail, visit: _Visit, wanted: Wanted) -> Features:
        """A tail in one call."""
        [task] = visit.node.tasks
        images = _asked(visit.images, (task,), wanted)
        x = _input(visit, images)
        pooled = compiled(x, [self._conv.plain(cut) for cut in self._tails[task].cuts])
        return Features((task,), (images,), pooled.unsqueeze(0))

    def _depth_first(self, visit: _Visit, wanted: Wanted) -> list[Features]:
        found: list[Features] = []
        stack = [visit]
        while stack:
            stack.extend(reversed(self._visit(stack.pop(), wanted, found, {})))
        return found

    def _visit(
        self,
        visit: _Visit,
        wanted: Wanted,
        found: list[Features],
        parted: dict[int, _Visit],
    ) -> list[_Visit]:
        """One node: its convolution, then the visits it leads to.

        Leaves go to ``found``, and to ``parted`` what a subnet can run from here on: a task that
        shares not even this convolution.
        """
        node = visit.node
        forks = node.active(wanted.keys())
        if not forks:
            return []
        images = _asked(visit.images, node.tasks, wanted)
        work = [(fork, _asked(images, fork.tasks, wanted)) for fork in forks]
        share = shares_conv(node, forks, [len(asked) for _, asked in work], len(images))
        if self._conv.has_subnets and not share:
            lone = {fork: task for fork in forks if (task := _only_task(fork, wanted)) is not None}
            parted.update(dict.fromkeys(lone.values(), visit))
            work = [(fork, asked) for fork, asked in work if fork not in lone]
            if not work:
                return []
        x, block = _input(visit, images), visit.block_input
        if self._network.layers[node.cut.layer].shape.begins_block:
            block = _BlockInput(x, images)
        shared = self._run(x, node.cut, images, block) if share else None
        below: list[_Visit] = []
        for fork, asked in work:
            if shared is None:
                part = _rows(x, images, asked)
                y, select = self._run(part, fork.alone, asked, block), None
            else:
                y, select, asked = shared, fork.select, images
            if fork.nodes:
                below.extend(_Visit(child, y, select, asked, block) for child in fork.nodes)
            else:
                found.append(_features(fork, y, select, asked, wanted))
        return below

    def _run(self, x: Tensor, cut: Cut, images: Images, block: _BlockInput | None) -> Tensor:
        """One convolution of the rows ``x``, which are of ``images``."""
        around = None if cut.shortcut is None or block is None else block.of(images)
        return self._conv(x, [cut], around)


def _together(group: TailGroup, parted: Mapping[int, _Visit], wanted: Wanted) -> bool:
    """Whether every task of the group is wanted, each for as many images, and not for too many."""
    if any(task not in parted for task in group.tasks):
        return False
    counts = {len(wanted[task]) for task in group.tasks}
    return len(counts) == 1 and counts.pop() * group.activation_values() <= _GROUP_VALUES


def _inputs_side_by_side(visits: Sequence[_Visit], wanted: Wanted) -> Tensor:
    """[n, the visits' input channels one after another, H, W], channels last."""
    first = visits[0]
    selects = [visit.select for visit in visits if visit.select is not None]
    alike = all(
        visit.x is first.x and wanted[visit.node.tasks[0]] == wanted[first.node.tasks[0]]
        for visit in visits
    )
    if alike and len(selects) == len(visits):
        images = _asked(first.images, first.node.tasks, wanted)
        return take_channels(_rows(first.x, first.images, images), torch.cat(selects))
    inputs = [_input(visit, _asked(visit.images, visit.node.tasks, wanted)) for visit in visits]
    return torch.cat(inputs, dim=1)


def _input(visit: _Visit, images: Images) -> Tensor:
    """What the visit's node reads: its channels of ``images``."""
    x = _rows(visit.x, visit.images, images)
    return x if visit.select is None else take_channels(x, visit.select)


def _asked(images: Images, tasks: Iterable[int], wanted: Wanted) -> Images:
    """Those of ``images`` that any wanted one of the ``tasks`` asks about."""
    needed: set[int] = set()
    for task in tasks:
        needed.update(wanted.get(task, ()))
        if len(needed) == len(images):
            return images
    return tuple(image for image in images if image in needed)


def _rows(x: Tensor, images: Images, wanted: Images) -> Tensor:
    """The rows of ``x``, which has one for each of ``images``, that belong to the wanted ones."""
    if len(wanted) == len(images):
        return x
    place = {image: row for row, image in enumerate(images)}
    return x[[place[image] for image in wanted]]


def _only_task(fork: NodeFork, wanted: Wanted) -> int | None:
    """The one wanted task of a fork; None if it leads to several."""
    tasks = [task for task in fork.tasks if task in wanted]
    return tasks[0] if len(tasks) == 1 else None


def _features(
    fork: NodeFork, y: Tensor, select: Tensor | None, images: Images, wanted: Wanted
) -> Features:
    tasks = tuple(task for task in wanted if task in fork.tasks)
    pooled = y.mean(dim=(2, 3)).float()
    pooled = pooled if select is None else pooled[:, select.to(y.device)]
    return Features(tasks, (images,) * len(tasks), pooled.unsqueeze(0))


def _by_generation(tails: Iterable[Tail], generation_of: Sequence[int]) -> Iterator[Sequence[Tail]]:
    """The tails of each generation of tasks, which are run together without a look at later ones:
    nothing that is added changes a bit of what they answer."""
    members: dict[int, list[Tail]] = {}
    for tail in tails:
        members.setdefault(generation_of[tail.task], []).append(tail)
    for generation in sorted(members):
        yield members[generation]


def _ridden(item: Features, riders: Mapping[int, Sequence[int]]) -> Iterator[Features]:
    """``item``, and again for the tasks that read the features of one of its tasks."""
    yield item
    for place, task in enumerate(item.tasks):
        pooled = item.pooled if len(item.pooled) == 1 else item.pooled[place : place + 1]
        for rider in riders[task]:
            if rider != task:
                yield Features((rider,), (item.images[place],), pooled)
