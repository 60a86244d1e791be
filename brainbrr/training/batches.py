"""The sampler's order, cut into optimizer steps, and each process's share of them.

Every process computes the same global order and takes its share of every batch, so that one process and several see
the same batches, each window once, and a run can go on with another number of processes.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from brainbrr.training import distributed

Batch = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Share:
    """What one process takes of one global batch."""

    windows: list[int]
    n_global: int
    """Windows of the whole batch, over all processes."""
    filler: bool
    """Nothing was left for this process: it runs one window of others with every sample masked, to stay in step."""


def cut_shares(order: Sequence[int], batch_size: int, rank: int = 0, world_size: int = 1) -> list[Share]:
    """Cut ``order`` into batches of ``batch_size`` and take every ``world_size``-th window of each from ``rank`` on.

    >>> [share.windows for share in cut_shares([5, 3, 8, 1, 4], 2)]
    [[5, 3], [8, 1], [4]]
    >>> [(share.windows, share.filler) for share in cut_shares([5, 3, 8, 1, 4], 2, rank=1, world_size=2)]
    [([3], False), ([1], False), ([4], True)]
    """
    shares = []
    for start in range(0, len(order), batch_size):
        chunk = list(order[start : start + batch_size])
        own = chunk[rank::world_size]
        shares.append(Share(own or chunk[:1], len(chunk), not own))
    return shares


@dataclass(frozen=True)
class Group:
    """The batches of one optimizer step, this process's share of them."""

    batches: list[Batch]
    n_global: int
    """Windows of the whole step, over all processes."""

    @property
    def windows(self) -> list[int]:
        """Numbers of this process's windows."""
        return [int(number) for batch in self.batches for number in batch["window"]]


def load_groups(
    windows: Dataset[Any],
    order: Sequence[int],
    *,
    batch_size: int,
    accumulate: int,
    workers: int,
    pin_memory: bool,
) -> Iterator[Group]:
    """Load ``order`` one optimizer step after the other; the last step takes what is left."""
    shares = cut_shares(order, batch_size, distributed.rank(), distributed.world_size())
    loader = make_loader(windows, [share.windows for share in shares], workers=workers, pin_memory=pin_memory)
    pairs = zip(shares, loader, strict=True)
    while taken := list(islice(pairs, accumulate)):
        for share, batch in taken:
            if share.filler:
                batch["valid"] = torch.zeros_like(batch["valid"])
        yield Group([batch for _, batch in taken], sum(share.n_global for share, _ in taken))


def make_loader(
    windows: Dataset[Any], batches: list[list[int]], *, workers: int, pin_memory: bool
) -> DataLoader[Batch]:
    """Return a loader of exactly these ``batches``, which draws nothing from the global random generators.

    With a generator of its own, making a loader leaves the state of the others alone: a run that opens a second
    loader in the middle of an epoch, because it was resumed there, stays bitwise the same.
    """
    generator = torch.Generator().manual_seed(0)
    return DataLoader(windows, batch_sampler=batches, num_workers=workers, pin_memory=pin_memory, generator=generator)


def steps_per_epoch(n_windows: int, batch_size: int, accumulate: int) -> int:
    """Return the optimizer steps of an epoch, the last partial one included.

    >>> steps_per_epoch(9, batch_size=2, accumulate=2)
    3
    """
    n_batches = -(-n_windows // batch_size)
    return -(-n_batches // accumulate)
