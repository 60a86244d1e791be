"""Memory at step borders: resident set, device allocator, and the graphs that are still held.

Limits: `graphs` counts watched tensors only (outputs, losses, roots); the census finds all, where it is taken.
"""

import time
import weakref
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from pytest_brainbrr.observers.census import living
from pytest_brainbrr.observers.core import Watch
from pytest_brainbrr.observers.models import Models

PAGE_MB = 4096 / 2**20
SHARE = 0.02
ALWAYS = (2, 4, 6)
MAX_NODES = 50_000
HISTORY = "pytest_brainbrr.history"
"""Key in the metadata of the first nodes of a graph that a backward ran through."""
MARKED = 8


class History:
    """Lives as long as a node that it is attached to."""

    __slots__ = ("__weakref__",)


def mark(watch: Watch, roots: Iterable[Tensor]) -> None:
    """Attach a mark to the first nodes of a graph, so that it can be counted while anything holds one of them."""
    nodes: list[Any] = [root.grad_fn for root in roots if root.grad_fn is not None]
    if not nodes:
        return
    history = History()
    for place in range(MARKED):
        if place >= len(nodes):
            break
        nodes[place].metadata[HISTORY] = history
        # What accumulates into a parameter lives as long as the parameter.
        following = (node for node, _ in nodes[place].next_functions if node is not None)
        nodes += [node for node in following if not hasattr(node, "variable")]
    watch.shared.setdefault("histories", []).append(weakref.ref(history))


class Memory:
    """Writes a `memory` event per step."""

    def __init__(self, watch: Watch, models: Models) -> None:
        self.watch, self.models = watch, models
        self._census_seconds = 0.0
        self._last = time.perf_counter()

    def install(self) -> None:
        """Record at every border."""
        self.watch.on_border.append(self.record)

    def record(self) -> None:
        """Record memory now."""
        watch = self.watch
        if not watch.active:
            return
        with watch.observing("memory"):
            # A loss may be output and root at once.
            unique = {id(tensor): ref for ref in watch.shared.get("graphs", []) if _holds_graph(tensor := ref())}
            graphs = list(unique.values())
            watch.shared["graphs"] = graphs
            histories = [ref for ref in watch.shared.get("histories", []) if ref() is not None]
            watch.shared["histories"] = histories
            now = time.perf_counter()
            affordable = self._census_seconds < SHARE * (now - self._last)
            self._last = now
            found: tuple[Any, ...] = (None, None, None, None)
            if watch.borders in ALWAYS or affordable:
                began = time.perf_counter()
                found = _census()
                self._census_seconds = time.perf_counter() - began
            tensors, size, held, nodes = found
            cuda = torch.cuda.is_available() and torch.cuda.is_initialized()
            watch.emit(
                "memory",
                rss_mb=_resident(),
                cuda_allocated_mb=torch.cuda.memory_allocated() / 2**20 if cuda else None,
                cuda_reserved_mb=torch.cuda.memory_reserved() / 2**20 if cuda else None,
                cuda_peak_mb=torch.cuda.max_memory_allocated() / 2**20 if cuda else None,
                hooks=sum(_hooks(module) for _, _, root in self.models.roots() for module in root.modules()),
                graphs=len(graphs),
                histories=len(histories),
                tensors=tensors,
                tensors_mb=size,
                graph_tensors=held,
                graph_nodes=nodes,
            )


def _holds_graph(tensor: Any) -> bool:
    return tensor is not None and tensor.grad_fn is not None


def _hooks(module: torch.nn.Module) -> int:
    return len(module._forward_hooks) + len(module._forward_pre_hooks) + len(module._backward_hooks)


def _resident() -> float | None:
    try:
        with open("/proc/self/statm", encoding="ascii") as file:  # noqa: PTH123 (read at every step)
            return int(file.read().split()[1]) * PAGE_MB
    except OSError:
        return None


def _census() -> tuple[int, float, int, int] | tuple[None, None, None, None]:
    """Count live tensors, their megabytes (a storage once), those that hold a graph, and the nodes of these graphs."""
    tensors, storages = living({Tensor, torch.nn.Parameter}), {}
    if tensors is None:
        return None, None, None, None
    ends: list[Any] = []
    for tensor in tensors:
        if tensor.grad_fn is not None:
            ends.append(tensor.grad_fn)
        if tensor.layout is torch.strided and not tensor.is_meta:
            storage = tensor.untyped_storage()
            storages[storage.data_ptr()] = storage.nbytes()
    held, seen = len(ends), set(ends)
    while ends and len(seen) < MAX_NODES:
        for following, _ in ends.pop().next_functions:
            if following is not None and following not in seen:
                seen.add(following)
                ends.append(following)
    return len(tensors), sum(storages.values()) / 2**20, held, len(seen)
