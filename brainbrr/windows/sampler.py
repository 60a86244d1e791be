"""Which training windows come in which order: seeded, balanced, the same over any number of ranks, resumable.

One epoch is one order of windows for all ranks together; rank r of W takes places r, r + W, r + 2 W, ... of it. So
the windows of a step are the next ``batch x W`` places whatever W is, and a position counted in places says where any
number of ranks goes on.
"""

import hashlib
import logging
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
from torch.utils.data import Sampler

from brainbrr import environment
from brainbrr.config import Config
from brainbrr.config.data import Sampling
from brainbrr.errors import CheckpointError, NoSeizureError
from brainbrr.windows.cutting import FULL, KINDS, NONE, PARTIAL
from brainbrr.windows.dataset import Windows

log = logging.getLogger(__name__)

Order = npt.NDArray[np.int64]


class WindowSampler(Sampler[int]):
    """Window numbers of one rank, epoch by epoch.

    Data loaders ask for windows ahead of their use, so the trainer says what was used: call ``advance(n)`` after each
    optimizer step with the windows of the step over all ranks. ``state_dict`` holds that position, and iteration starts
    at it. ``set_epoch`` starts an epoch at its first window, unless it is the epoch under way.
    """

    def __init__(self, windows: Windows, sampling: Sampling, *, seed: int, rank: int = 0, world_size: int = 1) -> None:
        if not 0 <= rank < world_size:
            raise ValueError(f"{rank=} outside {world_size=}")
        self.windows = windows
        self.sampling = sampling
        self.seed = seed
        self.rank = rank
        self.world_size = world_size
        self.epoch = 0
        self.position = 0
        self.quotas = _quotas(windows, sampling)

    @property
    def n_epoch(self) -> int:
        """Windows of an epoch over all ranks: a multiple of their number, so that all take equally many steps."""
        n = sum(self.quotas.values())
        return -(-n // self.world_size) * self.world_size

    def __len__(self) -> int:
        remaining = max(sum(self.quotas.values()) - self.position, 0)
        return (remaining + self.world_size - 1) // self.world_size

    def __iter__(self) -> Iterator[int]:
        # So that every rank takes equally many steps, the first windows come again at the end.
        order = np.resize(self.order(self.epoch), self.position + len(self) * self.world_size)
        yield from order[self.position + self.rank :: self.world_size].tolist()

    def order(self, epoch: int) -> Order:
        """Return the windows of an epoch, over all ranks."""
        random = np.random.default_rng((self.seed, epoch))
        chosen = [_draw(np.flatnonzero(self.windows.kinds == kind), n, random) for kind, n in self.quotas.items() if n]
        return random.permutation(np.concatenate(chosen))

    def set_epoch(self, epoch: int) -> None:
        """Go to the start of another epoch; the epoch under way goes on where it is."""
        if epoch != self.epoch:
            self.epoch, self.position = epoch, 0

    def advance(self, n: int) -> None:
        """Count ``n`` windows, over all ranks, as used."""
        self.position += n

    def state_dict(self) -> dict[str, Any]:
        """Return where the sampler is and over which windows."""
        return {"seed": self.seed, "epoch": self.epoch, "position": self.position, "windows": self._fingerprint()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where another sampler was, whatever its number of ranks.

        Raises:
            CheckpointError: the windows are not those of the state: the data, their labels or their settings changed.
        """
        if state["windows"] != self._fingerprint():
            raise CheckpointError(
                "the training windows are not those of the checkpoint",
                got=f"{self.windows.n_windows} windows of {self.windows.n_used} recordings",
                hint="Recordings, labels, BGB_LIMIT_FILES or the settings of windows or sampling changed since",
            )
        self.seed, self.epoch, self.position = int(state["seed"]), int(state["epoch"]), int(state["position"])

    def _fingerprint(self) -> str:
        digest = hashlib.blake2b(digest_size=8)
        digest.update(self.sampling.model_dump_json().encode())
        digest.update("\n".join(recording.key for recording in self.windows.recordings).encode())
        digest.update(self.windows.starts.tobytes())
        digest.update(self.windows.kinds.tobytes())
        return digest.hexdigest()


def make_sampler(
    config: Config,
    windows: Windows,
    *,
    seed: int,
    rank: int = 0,
    world_size: int = 1,
    require_seizures: bool = True,
    progress: Callable[[int, int], None] | None = None,
) -> WindowSampler:
    """Make the sampler of the training windows, after the verdict whether they are worth training on.

    The verdict comes first, from headers and label files. Then what is not cached yet is preprocessed
    (:meth:`Windows.prepare`, which tells ``progress``); where that leaves out bad recordings, the verdict is asked
    again.

    Raises:
        NoSeizureError: no window holds a seizure, seizures are required, and smoke mode is off.
        DataError: from preprocessing.
    """
    _verdict(windows, require_seizures=require_seizures)
    windows.prepare(progress=progress)
    _verdict(windows, require_seizures=require_seizures, again=True)
    return WindowSampler(windows, config.sampling, seed=seed, rank=rank, world_size=world_size)


def _verdict(windows: Windows, *, require_seizures: bool, again: bool = False) -> None:
    if windows.n_seizure_windows or not require_seizures:
        return
    error = NoSeizureError(f"No seizures found in {windows.n_windows} windows!")
    if not environment.smoke_test():
        raise error
    if not again:
        log.warning("%s Smoke mode is on: sampling uniformly. This run is not for training.", error)


def _quotas(windows: Windows, sampling: Sampling) -> dict[int, int]:
    """Return how many windows of each kind an epoch holds; an absent kind leaves its share to the others."""
    available = {kind: int((windows.kinds == kind).sum()) for kind in (NONE, PARTIAL, FULL)}
    n_seizure = available[PARTIAL] + available[FULL]
    if sampling.strategy == "uniform" or not n_seizure:
        return _divide(
            sampling.windows_per_epoch or windows.n_windows, {kind: float(n) for kind, n in available.items()}
        )
    wanted = {NONE: sampling.none_share, PARTIAL: sampling.partial_share, FULL: sampling.full_share}
    shares = {kind: share if available[kind] else 0.0 for kind, share in wanted.items()}
    if not (available[PARTIAL] and available[FULL]):
        # Where only one kind of seizure window occurs it stands for both: seizures keep their share of the epoch.
        shares[PARTIAL if available[PARTIAL] else FULL] = sampling.partial_share + sampling.full_share
    absent = [KINDS[kind] for kind, share in wanted.items() if share and not available[kind]]
    if absent:
        log.info("no %s window: its share goes to the other kinds", " and no ".join(absent))
    total = sampling.windows_per_epoch
    if total is None:
        total = max(1, round(n_seizure * sum(shares.values()) / (shares[PARTIAL] + shares[FULL])))
    return _divide(total, shares)


def _divide(total: int, shares: dict[int, float]) -> dict[int, int]:
    """Divide ``total`` in proportion, by largest remainder.

    >>> _divide(10, {0: 2.0, 1: 1.0})
    {0: 7, 1: 3}
    """
    scale = total / sum(shares.values())
    counts = {kind: int(share * scale) for kind, share in shares.items()}
    remainders = sorted(shares, key=lambda kind: shares[kind] * scale - counts[kind], reverse=True)
    for kind in remainders[: total - sum(counts.values())]:
        counts[kind] += 1
    return counts


def _draw(pool: Order, n: int, random: np.random.Generator) -> Order:
    """Draw ``n`` of a pool, each as often as any other, give or take one."""
    rounds = [random.permutation(pool) for _ in range(-(-n // len(pool)))]
    return np.concatenate(rounds)[:n]
