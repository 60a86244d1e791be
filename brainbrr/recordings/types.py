"""What every corpus reader returns, whatever the layout it read."""

from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

from brainbrr.errors import DataError


@dataclass(frozen=True, order=True)
class Seizure:
    """One seizure: half-open ``[onset_s, offset_s)`` in seconds from the recording's start."""

    onset_s: float
    offset_s: float
    label: str = field(default="seiz", compare=False)


@dataclass(frozen=True)
class Annotation:
    """The content of a label file: seizures sorted and disjoint."""

    seizures: tuple[Seizure, ...]
    duration_s: float | None = None
    """Duration the label file claims, to compare with the EDF header."""


@dataclass(frozen=True)
class Located:
    """A recording as its place in the corpus tells it, before any file is opened."""

    path: Path
    key: str
    """Path relative to the corpus, with ``/``: unique in the corpus, where file stems are not."""
    patient: str
    """One person; the unit that splits never share."""
    split: str | None
    """Official split, or None where the corpus has none."""
    session: str
    montage: str
    """The corpus's own name of the recording montage, for instance ``01_tcp_ar``."""
    annotation: Path | None
    """Label file, or None when it is missing."""


@dataclass(frozen=True)
class Recording(Located):
    """A recording with what its EDF header and its label file say."""

    n_samples: int
    """Samples of each wanted channel."""
    rate: Fraction
    """Their exact sampling rate in Hz."""
    interpolated: tuple[str, ...]
    """Electrodes that the file lacks and that are interpolated."""
    seizures: tuple[Seizure, ...]

    @property
    def rate_hz(self) -> float:
        """Sampling rate of the file."""
        return float(self.rate)

    @property
    def duration_s(self) -> float:
        """Duration of the file."""
        return float(self.n_samples / self.rate)


@dataclass(frozen=True)
class Skipped:
    """A recording that was left out on request, and why."""

    key: str
    reason: str
    bad: bool = True
    """False where nothing is wrong with it: it is only shorter than a window."""


def merge(seizures: list[Seizure]) -> tuple[Seizure, ...]:
    """Sort seizures and join those that overlap or touch; the union keeps the label of its earliest part.

    >>> merge([Seizure(5, 9), Seizure(1, 5), Seizure(11, 12)])
    (Seizure(onset_s=1, offset_s=9, label='seiz'), Seizure(onset_s=11, offset_s=12, label='seiz'))
    """
    merged: list[Seizure] = []
    for seizure in sorted(seizures):
        if merged and seizure.onset_s <= merged[-1].offset_s:
            last = merged[-1]
            merged[-1] = Seizure(last.onset_s, max(last.offset_s, seizure.offset_s), last.label)
        else:
            merged.append(seizure)
    return tuple(merged)


def check_interval(onset_s: float, offset_s: float, where: object) -> None:
    """Refuse an event that ends before it starts or starts before the recording.

    Raises:
        DataError: naming the place in the label file.
    """
    if not 0 <= onset_s < offset_s < float("inf"):
        raise DataError(
            "not an interval", where=where, got=f"{onset_s:g} to {offset_s:g} s", expected="0 <= start < stop"
        )
