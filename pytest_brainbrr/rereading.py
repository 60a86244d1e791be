"""Read samples of data sets again, once a run is over: does reading repeat, and does it change what is stored?

Only in plans that probe; the run is spoilt by then. Samples are read three times, with torch's, numpy's and Python's
generators and those the data set holds put back before each reading. What differs then was changed by reading, or comes
from a generator out of reach. Limits: a few samples per data set, arrays in the data set's own attributes.
"""

import random
import time
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils import data

from pytest_brainbrr.observers.core import Watch
from pytest_brainbrr.observers.tensors import facts, leaves
from pytest_brainbrr.spec import Spec
from pytest_brainbrr.turning import compare, informative, pairs

SAMPLES, READINGS, SECONDS = 16, 3, 1.0
MAX_ARRAYS, MAX_BYTES = 256, 64 << 20
TURNED, OTHER_READINGS = 6, 5
"""Samples that are read with other random numbers, and how often."""


class Rereading:
    """Keeps loaders and the indices they delivered, and writes `reread` events at the end."""

    def __init__(self, watch: Watch, spec: Spec) -> None:
        self.watch, self.spec = watch, spec

    def install(self) -> None:
        """Ask for loaders to be kept, in plans that probe."""
        if self.spec.probes and self.spec.plan != "reload":
            # Held on purpose: in an invasive plan the data sets must outlive the trainer's own references.
            self.watch.shared["kept_loaders"] = {}
            self.watch.shared["delivered"] = {}

    def run(self) -> None:
        """Read delivered samples of every data set again."""
        kept = self.watch.shared.get("kept_loaders", {})
        delivered = self.watch.shared.get("delivered", {})
        ends = time.monotonic() + SECONDS
        for identity, loader in kept.items():
            dataset = loader.dataset
            if isinstance(dataset, data.IterableDataset):
                continue
            for index in list(dict.fromkeys(delivered.get(identity, [])))[:SAMPLES]:
                if time.monotonic() > ends:
                    return
                try:
                    self._read(identity, dataset, index)
                except Exception as error:  # noqa: BLE001 (a data set that cannot be read outside of its loop is a fact)
                    self.watch.not_observed("reread", f"{type(error).__name__}: {error}"[:200])
                    break
        for identity, loader in kept.items():
            if not isinstance(loader.dataset, data.IterableDataset):
                self._turn(identity, loader.dataset, list(dict.fromkeys(delivered.get(identity, []))))

    def _turn(self, identity: str, dataset: Any, indices: list[Any]) -> None:
        """Read samples with other random numbers: what was turned around or cut, and the label with it?"""
        ends, restore, seen = time.monotonic() + SECONDS, list(_generators(dataset)), 0
        try:
            for index in indices[:SAMPLES]:
                first = dataset[index]
                if seen >= TURNED or time.monotonic() > ends:
                    break
                if not any(informative(label) for *_, label in pairs(first)):
                    continue
                seen += 1
                readings = [first]
                for seed in range(OTHER_READINGS):
                    torch.default_generator.manual_seed(seed)
                    np.random.seed(seed)  # noqa: NPY002
                    random.seed(seed)
                    readings.append(dataset[index])
                first_digests = _digests(first)
                for (at, label_at), verdicts in compare(readings).items():
                    self.watch.emit(
                        "turned",
                        dataset=self.watch.registry.get(dataset),
                        loader=identity,
                        index=index,
                        signal=at,
                        label=label_at,
                        digest=first_digests.get(label_at),
                        along=verdicts.count(False),
                        apart=verdicts.count(True),
                    )
        except Exception as error:  # noqa: BLE001 (as above)
            self.watch.not_observed("turned", f"{type(error).__name__}: {error}"[:200])
        finally:
            for put_back in restore:
                put_back()

    def _read(self, identity: str, dataset: Any, index: Any) -> None:
        restore = list(_generators(dataset))
        before = dict(_arrays(dataset))
        readings = []
        for _ in range(READINGS):
            for put_back in restore:
                put_back()
            readings.append(_digests(dataset[index]))
        for put_back in restore:
            put_back()
        after = dict(_arrays(dataset))
        mutated = sorted(name for name in before.keys() & after.keys() if before[name] != after[name])
        self.watch.emit(
            "reread",
            dataset=self.watch.registry.get(dataset),
            index=index,
            digests=readings,
            mutated=mutated[:8],
            loader=identity,
        )


def _digests(sample: Any) -> dict[str, str | None]:
    """Return place -> digest of every tensor, array and number of a sample; of signals their form, too."""
    found: dict[str, str | None] = {}
    for at, value in leaves(sample):
        if isinstance(value, Tensor | np.ndarray | np.generic | float | int):
            tensor = torch.as_tensor(value)
            known = facts(tensor.unsqueeze(0), at)
            found[at] = known["samples"][0] if known["samples"] else None
            if known["forms"]:
                found[f"{at}/form"] = known["forms"][0]
    return found


def _owners(dataset: Any) -> Iterator[Any]:
    for _ in range(8):
        yield dataset
        if not isinstance(dataset, data.Subset):
            return
        dataset = dataset.dataset


def _generators(dataset: Any) -> Iterator[Callable[[], object]]:
    """Yield functions that put every generator back to its state of now."""
    state, legacy, python = torch.random.get_rng_state(), np.random.get_state(), random.getstate()  # noqa: NPY002
    yield lambda: torch.random.set_rng_state(state)
    yield lambda: np.random.set_state(legacy)  # noqa: NPY002
    yield lambda: random.setstate(python)
    for owner in _owners(dataset):
        for value in list(getattr(owner, "__dict__", {}).values()):
            if isinstance(value, np.random.Generator):
                yield _setter(value.bit_generator, "state", value.bit_generator.state)
            elif isinstance(value, np.random.RandomState | torch.Generator):
                yield _caller(value.set_state, value.get_state())
            elif isinstance(value, random.Random):
                yield _caller(value.setstate, value.getstate())


def _setter(owner: Any, name: str, value: Any) -> Callable[[], object]:
    return lambda: setattr(owner, name, value)


def _caller(function: Callable[[Any], object], value: Any) -> Callable[[], object]:
    return lambda: function(value)


def _parts(value: Any, deep: int = 2) -> Iterator[Any]:
    """Yield a value, or what its lists and mappings hold, and theirs."""
    if deep and isinstance(value, dict | list | tuple):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _parts(part, deep - 1)
    else:
        yield value


def _arrays(dataset: Any) -> Iterator[tuple[str, int]]:
    """Yield name and checksum of the arrays that a data set holds, also in its lists and mappings."""
    count = size = 0
    for owner in _owners(dataset):
        for name, value in list(getattr(owner, "__dict__", {}).items()):
            for place, part in zip(range(MAX_ARRAYS), _parts(value), strict=False):
                array = part.detach().numpy() if isinstance(part, Tensor) and part.device.type == "cpu" else part
                if not isinstance(array, np.ndarray) or array.dtype == object:
                    continue
                count, size = count + 1, size + array.nbytes
                if count > MAX_ARRAYS or size > MAX_BYTES:
                    return
                yield (name if part is value else f"{name}[{place}]"), zlib.crc32(np.ascontiguousarray(array).data)
