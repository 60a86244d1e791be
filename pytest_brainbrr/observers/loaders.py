"""DataLoaders: how they are built, which samples they ask for, what they deliver.

Limits: other loader classes are seen only through what reaches the model. Indices come from the batch sampler, in the
main process, so they are exact for workers too; iterable datasets have none.
"""

import weakref
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor
from torch.utils import data
from torch.utils.data import dataloader

from pytest_brainbrr.observers import places
from pytest_brainbrr.observers.core import MISSING, Watch
from pytest_brainbrr.observers.telling import told
from pytest_brainbrr.observers.tensors import facts, leaves
from pytest_brainbrr.observers.tokens import token_facts

KINDS = (
    (data.DistributedSampler, "distributed"),
    (data.WeightedRandomSampler, "weighted"),
    (data.SubsetRandomSampler, "subset"),
    (data.RandomSampler, "random"),
    (data.SequentialSampler, "sequential"),
)
MAX_INDICES = 20_000
MAX_FILES = 4000
LOOKED_AT = 4
KEPT_BATCHES = 4
TOLD_BATCHES = 16
"""Batches per pass in which columns are compared with labels."""


class Pass:
    """One iteration over a loader."""

    def __init__(self, identity: str, loader: str, number: int) -> None:
        self.identity, self.loader, self.number = identity, loader, number
        self.delivered = 0
        self.queue: deque[Any] = deque()
        self.open = True


class Loaders:
    """Writes `loader`, `dataset`, `epoch` and `batch` events."""

    def __init__(self, watch: Watch) -> None:
        self.watch = watch
        self._passes: dict[int, tuple[weakref.ref[Any], Pass]] = {}
        self._numbers: dict[str, int] = {}
        self._known: set[str] = set()
        self._lists: dict[int, tuple[str, weakref.ref[Any]]] = {}
        self._listed = 0
        self._order = 0

    def install(self) -> None:
        """Wrap the loader and its iterators."""
        watch = self.watch
        watch.replace(data.DataLoader, "__init__", self._wrap_init)
        watch.replace(data.DataLoader, "__iter__", self._wrap_iter)
        base = dataloader._BaseDataLoaderIter
        watch.replace(base, "__next__", self._wrap_next)
        watch.replace(base, "_next_index", self._wrap_next_index)

    # ------------------------------------------------------------------ describing

    def _wrap_init(self, original: Any) -> Any:
        observer = self

        def __init__(loader: Any, *args: Any, **kwargs: Any) -> None:  # noqa: N807
            original(loader, *args, **kwargs)
            watch = observer.watch
            if watch.busy or not watch.active:
                return
            with watch.observing("loaders"):
                observer.describe(loader, shuffle=kwargs.get("shuffle", args[2] if len(args) > 2 else None))

        return __init__

    def describe(self, loader: Any, *, shuffle: Any = None) -> str:
        """Record a loader once and return its id."""
        identity = self.watch.registry.name(loader, "l")
        if identity in self._known:
            return identity
        self._known.add(identity)
        if "kept_loaders" in self.watch.shared:
            self.watch.shared["kept_loaders"][identity] = loader
        sampler, batcher = _sampler(loader), getattr(loader, "batch_sampler", None)
        iterable = isinstance(loader.dataset, data.IterableDataset)
        custom = batcher is not None and type(batcher) is not data.BatchSampler
        shown = batcher if custom else sampler
        weights = getattr(sampler, "weights", None)
        self.watch.emit(
            "loader",
            id=identity,
            dataset=self.dataset(loader.dataset, loader),
            batch_size=loader.batch_size,
            batches=_length(loader),
            sampler=type(shown).__name__,
            sampler_kind="iterable" if iterable else ("custom" if custom else _kind(sampler)),
            replacement=getattr(sampler, "replacement", None),
            weights=_weights(weights) if isinstance(weights, Tensor) and weights.numel() else None,
            num_samples=_length(sampler),
            shuffle=shuffle if isinstance(shuffle, bool) else None,
            drop_last=bool(getattr(batcher, "drop_last", loader.drop_last)),
            workers=loader.num_workers,
            generator=loader.generator is not None,
            worker_init=loader.worker_init_fn is not None,
            persistent_workers=bool(loader.persistent_workers),
            distributed={"rank": sampler.rank, "replicas": sampler.num_replicas, "seed": sampler.seed}
            if isinstance(sampler, data.DistributedSampler)
            else None,
        )
        return identity

    def dataset(self, dataset: Any, loader: Any = None) -> str | None:
        """Record a dataset once and return its id."""
        try:
            identity = self.watch.registry.name(dataset, "d")
        except TypeError:
            return self._list(dataset, loader)
        if identity in self._known:
            return identity
        self._known.add(identity)
        base, indices = _base(dataset)
        self.watch.emit(
            "dataset",
            id=identity,
            **{"class": f"{type(dataset).__module__}.{type(dataset).__qualname__}"},
            length=_length(dataset),
            base=self.dataset(base) if base is not dataset else identity,
            subset=indices if indices is not None and len(indices) <= MAX_INDICES else None,
            iterable=isinstance(dataset, data.IterableDataset),
            files=_files(dataset) if base is dataset else None,
        )
        return identity

    def _list(self, dataset: Any, loader: Any) -> str | None:
        """Record a list or tuple, which cannot be referred to weakly: it lives as long as a loader that holds it."""
        identity, holder = self._lists.get(id(dataset), (None, None))
        if identity is not None and holder is not None and getattr(holder(), "dataset", None) is dataset:
            return identity
        if loader is None:
            return None
        # Another number each time: the address may be that of a list that is gone.
        identity = f"d{type(dataset).__name__}{self._listed}"
        self._listed += 1
        self._lists[id(dataset)] = (identity, weakref.ref(loader))
        self.watch.emit(
            "dataset",
            id=identity,
            **{"class": type(dataset).__name__},
            length=_length(dataset),
            base=identity,
            subset=None,
            iterable=False,
            files=None,
        )
        return identity

    # ------------------------------------------------------------------ passes and batches

    def _wrap_iter(self, original: Any) -> Any:
        observer = self

        def __iter__(loader: Any) -> Any:  # noqa: N807
            watch = observer.watch
            if watch.busy or not watch.active:
                return original(loader)
            with watch.observing("loaders"):
                for callback in watch.shared.get("on_epoch", []):
                    callback()
                identity = observer.describe(loader)
                observer._numbers[identity] = observer._numbers.get(identity, 0) + 1
                begun = Pass(f"i{observer._order}", identity, observer._numbers[identity])
                observer._order += 1
                observer._record("begin", begun, loader)
                # Workers are sent their first indices while the iterator is being made.
                watch.shared["pass_begun"] = begun
            iterator = original(loader)
            with watch.observing("loaders"):
                watch.shared.pop("pass_begun", None)
                observer._attach(iterator, begun)
            return iterator

        return __iter__

    def _attach(self, iterator: Any, begun: Pass) -> None:
        key = id(iterator)
        old = self._passes.get(key)
        if old is not None and old[0]() is iterator and old[1].open and old[1] is not begun:
            self._dropped(old[1])
        self._passes[key] = (weakref.ref(iterator, lambda _: self._forget(key, begun)), begun)

    def _forget(self, key: int, begun: Pass) -> None:
        if key in self._passes and self._passes[key][1] is begun:
            del self._passes[key]
        self._dropped(begun)

    def _dropped(self, begun: Pass) -> None:
        if begun.open and self.watch.active:
            begun.open = False
            self._record("dropped", begun, None)

    def _record(self, action: str, begun: Pass, loader: Any) -> None:
        epoch = getattr(_sampler(loader), "epoch", None)
        self.watch.emit(
            "epoch",
            id=begun.identity,
            loader=begun.loader,
            action=action,
            number=begun.number,
            batches=begun.delivered,
            sampler_epoch=epoch if isinstance(epoch, int) else None,
        )

    def _of(self, iterator: Any) -> Pass | None:
        found = self._passes.get(id(iterator))
        if found is not None and found[0]() is iterator:
            return found[1]
        begun = self.watch.shared.get("pass_begun")
        return begun if isinstance(begun, Pass) else None

    def _wrap_next_index(self, original: Any) -> Any:
        observer = self

        def _next_index(iterator: Any) -> Any:
            indices = original(iterator)
            if observer.watch.active:
                with observer.watch.observing("loaders"):
                    begun = observer._of(iterator)
                    if begun is not None:
                        begun.queue.append(_plain_indices(indices))
            return indices

        return _next_index

    def _wrap_next(self, original: Any) -> Any:
        observer = self

        def __next__(iterator: Any) -> Any:  # noqa: N807
            watch = observer.watch
            if watch.busy or not watch.active:
                return original(iterator)
            ends = watch.shared.get("end_pass")
            if ends is not None and observer._cut(iterator, ends):  # in the one plan that cuts passes short
                raise StopIteration
            try:
                batch = original(iterator)
            except StopIteration:
                with watch.observing("loaders"):
                    begun = observer._of(iterator)
                    if begun is not None and begun.open:
                        begun.open = False
                        observer._record("end", begun, None)
                raise
            with watch.observing("loaders"):
                begun = observer._of(iterator)
                if begun is not None:
                    place = begun.identity, begun.delivered
                    observer._deliver(begun, iterator, batch)
                    change = watch.shared.get("change_batch")
                    if change is not None:  # in the one plan that changes labels
                        batch = change(*place, batch)
            return batch

        return __next__

    def _cut(self, iterator: Any, ends: Callable[[str, int], bool]) -> bool:
        with self.watch.observing("loaders"):
            begun = self._of(iterator)
            if begun is None or not ends(begun.loader, begun.delivered):
                return False
            if begun.open:
                begun.open = False
                self._record("cut", begun, None)
            return True

    def _deliver(self, begun: Pass, iterator: Any, batch: Any) -> None:
        watch = self.watch
        indices = begun.queue.popleft() if begun.queue else None
        if isinstance(iterator._dataset, data.IterableDataset):
            indices = None
        found = list(leaves(batch))
        parts = [(at, value) for at, value in found if isinstance(value, Tensor)]
        tensors = [{**facts(value, at), **places.of_batch(value)} for at, value in parts]
        watch.shared["last_labels"] = places.small_copies(parts)
        base = None
        if indices is not None:
            if "delivered" in watch.shared:
                watch.shared["delivered"].setdefault(begun.loader, []).extend(indices)
            base = _base_indices(iterator._dataset, indices)
        size = len(indices) if indices is not None else next((fact["shape"][0] for fact in tensors if fact["shape"]), 0)
        watch.emit(
            "batch",
            loader=begun.loader,
            epoch=begun.identity,
            position=begun.delivered,
            indices=indices,
            base_indices=base,
            size=size,
            tensors=tensors,
            told=told(parts, {fact["at"]: fact for fact in tensors}) if begun.delivered < TOLD_BATCHES else None,
            tokens=token_facts(parts) if begun.delivered < LOOKED_AT else None,
            others={
                at: value[:200] if isinstance(value, str) else value
                for at, value in found
                if isinstance(value, str | int | float | bool)
            },
        )
        look = watch.shared.get("look_at_batch")
        if look is not None:
            look(parts)
        recent = watch.shared.setdefault("recent_batches", [])
        recent.append((begun.identity, begun.delivered, [(fact["at"], fact["digest"]) for fact in tensors]))
        del recent[:-KEPT_BATCHES]
        watch.shared["last_batch"] = [begun.identity, begun.delivered]
        begun.delivered += 1

    def positions(self) -> list[dict[str, Any]]:
        """Return how far every open pass is."""
        return [
            {"loader": begun.loader, "number": begun.number, "batches": begun.delivered}
            for _, begun in self._passes.values()
            if begun.open
        ]


def _sampler(loader: Any) -> Any:
    """Return the sampler that gives the order.

    A loader that is given a batch sampler (by Accelerate, for one) makes up a sequential sampler that nobody asks.
    """
    batcher = getattr(loader, "batch_sampler", None)
    for _ in range(LOOKED_AT):
        batcher = getattr(batcher, "batch_sampler", None) or batcher
    found = getattr(batcher, "sampler", None)
    return getattr(loader, "sampler", None) if found is None else found


def _length(thing: Any) -> int | None:
    """Return a length, None where there is none: what the trainer's own classes raise when asked is their business."""
    noted = getattr(thing, "_IterableDataset_len_called", MISSING)
    try:
        return len(thing)
    except Exception:  # noqa: BLE001 (torch asks again where it needs to know, and then the trainer hears of it)
        return None
    finally:
        if noted is not MISSING:
            # A loader that was asked for the length of a stream warns when the stream turns out to be longer.
            thing._IterableDataset_len_called = noted


def _files(dataset: Any) -> list[str] | None:
    """Return the file of each sample, where a data set holds a list of as many paths, alone or first in tuples."""
    length = _length(dataset)
    if length is None or not 1 < length <= MAX_FILES:
        return None
    for value in list(getattr(dataset, "__dict__", {}).values()):
        if not isinstance(value, list | tuple) or len(value) != length:
            continue
        firsts = [one[0] if isinstance(one, tuple | list) and one else one for one in value]
        if all(isinstance(one, str | Path) and Path(one).suffix for one in firsts):
            return [str(one) for one in firsts]
    return None


def _kind(sampler: Any) -> str:
    for kind, name in KINDS:
        if type(sampler) is kind:
            return name
    return "custom"


def _weights(weights: Tensor) -> dict[str, Any]:
    flat = weights.detach().float()
    distinct = flat.unique()
    return {
        "n": flat.numel(),
        "min": float(flat.min()),
        "max": float(flat.max()),
        "distinct": distinct.tolist() if distinct.numel() <= 16 else None,
    }


def _base(dataset: Any) -> tuple[Any, list[int] | None]:
    """Return the dataset below Subset wrappers, and the indices into it (None if there is no wrapper)."""
    indices: list[int] | None = None
    for _ in range(8):
        if not isinstance(dataset, data.Subset):
            break
        own = [int(index) for index in dataset.indices]
        indices = own if indices is None else [own[index] for index in indices]
        dataset = dataset.dataset
    return dataset, indices


def _base_indices(dataset: Any, indices: Sequence[Any]) -> list[Any]:
    _, below = _base(dataset)
    if below is None:
        return list(indices)
    return [below[index] if isinstance(index, int) and -len(below) <= index < len(below) else None for index in indices]


def _plain_indices(indices: Any) -> list[Any] | None:
    if isinstance(indices, Tensor):
        indices = indices.tolist()
    if isinstance(indices, int | str):
        return [indices]
    if not isinstance(indices, Sequence):
        return None
    return [index if isinstance(index, str) else _number(index) for index in indices]


def _number(index: Any) -> Any:
    try:
        return int(index)
    except (TypeError, ValueError):
        return str(index)[:80]
