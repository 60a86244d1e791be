"""What a corpus folder holds, in numbers: for people choosing it, and for finding what is wrong with it."""

from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from brainbrr.recordings.corpus import Corpus, scan_corpus
from brainbrr.recordings.index import index_recordings
from brainbrr.recordings.types import Recording


@dataclass
class Tally:
    """Numbers of one split, or of a corpus without splits."""

    recordings: int = 0
    patients: int = 0
    hours: float = 0.0
    recordings_with_seizures: int = 0
    seizures: int = 0
    seizure_hours: float = 0.0


@dataclass
class Survey:
    """Numbers of a corpus folder."""

    directory: str
    corpus: str
    recordings: int
    splits: dict[str, Tally]
    montages: dict[str, int] = field(default_factory=dict)
    rates_hz: dict[str, int] = field(default_factory=dict)
    interpolated: dict[str, int] = field(default_factory=dict)
    problems: dict[str, list[str]] = field(default_factory=dict)
    """Kind of problem -> the recordings that have it, each with its message."""

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return asdict(self)


def survey(directory: Path, name: str = "auto", montage: str = "referential") -> Survey:
    """Read every header and label file of a corpus.

    Raises:
        DataError: there is no corpus; problems of single recordings are part of the result.
    """
    corpus = scan_corpus(directory, name)
    indexed = index_recordings(corpus, corpus.located, montage)
    problems: dict[str, list[str]] = {}
    for item in indexed:
        if not isinstance(item, Recording):
            problems.setdefault(item.what, []).append(str(item))
    if corpus.strangers:
        problems["its place does not fit the layout"] = list(corpus.strangers)
    sound = [item for item in indexed if isinstance(item, Recording)]
    return Survey(
        directory=str(directory),
        corpus=corpus.reader.name,
        recordings=len(corpus.located) + len(corpus.strangers),
        splits=_tallies(corpus, sound),
        montages=_count(sound, lambda one: one.montage or "unnamed"),
        rates_hz=_count(sound, lambda one: f"{one.rate_hz:g}"),
        interpolated=_count([one for one in sound if one.interpolated], lambda one: " and ".join(one.interpolated)),
        problems=problems,
    )


def _tallies(corpus: Corpus, recordings: list[Recording]) -> dict[str, Tally]:
    tallies: dict[str, Tally] = {}
    for split in dict.fromkeys(one.split or "all" for one in corpus.located):
        mine = [one for one in recordings if (one.split or "all") == split]
        tallies[split] = Tally(
            recordings=len(mine),
            patients=len({one.patient for one in mine}),
            hours=sum(one.duration_s for one in mine) / 3600,
            recordings_with_seizures=sum(bool(one.seizures) for one in mine),
            seizures=sum(len(one.seizures) for one in mine),
            seizure_hours=sum(s.offset_s - s.onset_s for one in mine for s in one.seizures) / 3600,
        )
    return tallies


def _count(recordings: list[Recording], name: Callable[[Recording], str]) -> dict[str, int]:
    return dict(Counter(map(name, recordings)).most_common())
