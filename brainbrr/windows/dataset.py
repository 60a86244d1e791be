"""The windows of a split as a torch dataset, known exactly before a signal is read.

Legend: T samples in a window, C = 19 channels, rates are the model's.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import Dataset

from brainbrr.config import Config
from brainbrr.errors import DataError
from brainbrr.montage import N_CHANNELS
from brainbrr.recordings.types import Recording, Skipped
from brainbrr.windows.cutting import (
    FULL,
    NONE,
    PARTIAL,
    Samples,
    fresh_from,
    mask,
    overlaps,
    seizure_samples,
    window_starts,
)
from brainbrr.windows.store import Store

log = logging.getLogger(__name__)

Item = dict[str, Any]


@dataclass(frozen=True)
class _Cut:
    """One recording's windows."""

    starts: Samples
    fresh: Samples
    stops: Samples
    seizure_counts: Samples
    intervals: Samples
    n_samples: int


class Windows(Dataset[Item]):
    """Windows of one split.

    ``windows[i]`` is a dict of ``signal`` (19, T) float32, ``label`` (T,) float32, ``valid`` (T,) bool and ``window``
    i.

    ``valid`` is False on padding and, outside training, on samples that an earlier window of the recording already
    covers: there every sample counts exactly once. All numbers below come from headers and label files; signals are
    read when a window is asked for or by :meth:`prepare`.
    """

    def __init__(
        self,
        config: Config,
        split: str,
        recordings: Sequence[Recording],
        *,
        n_found: int,
        skipped: Sequence[Skipped] = (),
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self.config = config
        self.split = split
        self.n_found = n_found
        self.skipped: list[Skipped] = list(skipped)
        self.rank = rank
        self.world_size = world_size
        self.length = round(config.windows.length_s * config.preprocessing.rate_hz)
        self.rate_hz = config.preprocessing.rate_hz
        stride_s = config.windows.stride_s if split == "train" else config.windows.length_s
        self.stride = max(1, round(stride_s * self.rate_hz))
        self.store = Store(config.data, config.preprocessing, config.cache)
        self._prepared = False
        self._index(recordings)

    def _index(self, recordings: Sequence[Recording]) -> None:
        self.recordings: list[Recording] = list(recordings)
        cuts = [self._cut(recording) for recording in self.recordings]
        self._cuts = cuts
        counts = [len(cut.starts) for cut in cuts]
        self.first_window = np.concatenate([[0], np.cumsum(counts, dtype=np.int64)])
        self.n_windows = int(self.first_window[-1])
        self.starts = _join([cut.starts for cut in cuts])
        self._fresh = _join([cut.fresh for cut in cuts])
        self._stops = _join([cut.stops for cut in cuts])
        counted = self._stops - self.starts - self._fresh
        seizure = _join([cut.seizure_counts for cut in cuts])
        self.kinds = np.where(seizure == 0, NONE, np.where(seizure == counted, FULL, PARTIAL)).astype(np.int8)
        self.n_seizure_windows = int((self.kinds != NONE).sum())
        self.seizure_share = float(seizure.sum() / counted.sum()) if counted.sum() else 0.0

    def _cut(self, recording: Recording) -> _Cut:
        n_samples = self.store.n_samples(recording)
        starts = window_starts(n_samples, self.length, self.stride)
        fresh = fresh_from(starts, self.length) if self.split != "train" else np.zeros_like(starts)
        stops = np.minimum(starts + self.length, n_samples)
        intervals = seizure_samples(recording.seizures, self.rate_hz, n_samples)
        return _Cut(starts, fresh, stops, overlaps(starts + fresh, stops, intervals), intervals, n_samples)

    @property
    def n_used(self) -> int:
        """Recordings in use."""
        return len(self.recordings)

    @property
    def n_seizures(self) -> int:
        """Seizures in the recordings in use."""
        return sum(len(recording.seizures) for recording in self.recordings)

    @property
    def n_interpolated(self) -> int:
        """Recordings in use that lack Fz or Pz."""
        return sum(bool(recording.interpolated) for recording in self.recordings)

    def __len__(self) -> int:
        return self.n_windows

    def recording_of(self, i: int) -> int:
        """Return the place in ``recordings`` of the recording that window ``i`` is cut from."""
        if not 0 <= i < self.n_windows:
            raise IndexError(i)
        return int(np.searchsorted(self.first_window, i, side="right")) - 1

    def describe(self, i: int) -> str:
        """Name a window for people: the recording and where in it."""
        return f"{self.recordings[self.recording_of(i)].key} @ {self.starts[i] / self.rate_hz:g} s"

    def labels(self, recording: int) -> npt.NDArray[np.bool_]:
        """Return the seizure mask of a whole recording at the model's rate."""
        cut = self._cuts[recording]
        return mask(0, cut.n_samples, cut.intervals).astype(bool)

    def __getitem__(self, i: int) -> Item:
        place = self.recording_of(i)
        cut = self._cuts[place]
        start, stop = int(self.starts[i]), int(self._stops[i])
        array_CN = self.store.array(self.recordings[place])
        signal_CT = torch.zeros(N_CHANNELS, self.length)
        # torch widens half precision ten times faster than numpy.
        signal_CT[:, : stop - start] = torch.from_numpy(np.array(array_CN[:, start:stop]))
        valid = np.zeros(self.length, bool)
        valid[int(self._fresh[i]) : stop - start] = True
        return {
            "signal": signal_CT,
            "label": torch.from_numpy(mask(start, self.length, cut.intervals)),
            "valid": torch.from_numpy(valid),
            "window": i,
        }

    def prepare(self, *, jobs: int | None = None, progress: Callable[[int, int], None] | None = None) -> None:
        """Preprocess every recording that is not cached yet; leave out the bad ones where the configuration says so.

        Call it after the verdict of :func:`make_sampler` (which does for training) and before counting on ``len``.

        Args:
            jobs: processes; by default ``cache.jobs``.
            progress: called with (done, all).

        Raises:
            DataError: a recording is bad and ``on_bad_recording`` is ``error``, or too many are.
        """
        if self._prepared:
            return
        from brainbrr.windows.build import build  # joblib

        bad = build(self.store, self.recordings, jobs=jobs or self.config.cache.jobs, first=self.rank,
        step=self.world_size,
                    progress=progress)  # fmt: skip
        if bad:
            self._leave_out(bad)
        self._prepared = True

    def _leave_out(self, bad: Sequence[DataError | None]) -> None:
        kept = []
        for recording, error in zip(self.recordings, bad, strict=True):
            if error is None:
                kept.append(recording)
                continue
            if self.config.data.on_bad_recording == "error":
                raise error
            log.warning("skipped %s: %s", recording.key, error)
            self.skipped.append(Skipped(recording.key, str(error)))
        check_skipped(
            self.skipped, self.n_used + len(self.skipped) - (self.n_used - len(kept)), self.config, self.split
        )
        self._index(kept)


def check_skipped(skipped: Sequence[Skipped], n_tried: int, config: Config, split: str) -> None:
    """Refuse a split of which too much was skipped.

    Raises:
        DataError: naming the first ones.
    """
    bad = [one for one in skipped if one.bad]
    if len(bad) > config.data.max_skipped_share * n_tried:
        raise DataError(
            f"too many recordings of {split} skipped",
            where="data.max_skipped_share",
            got=f"{len(bad)} of {n_tried}: {'; '.join(f'{one.key} ({one.reason})' for one in bad[:3])}",
            expected=f"a share up to {config.data.max_skipped_share:g}",
        )


def _join(arrays: list[Samples]) -> Samples:
    return np.concatenate(arrays) if arrays else np.zeros(0, np.int64)
