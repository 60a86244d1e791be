"""BIDS-EEG with SzCORE events: ``sub-*/ses-*/eeg/*_eeg.edf`` and ``*_events.tsv``.

The standard is that of Dan et al. 2024, Epilepsia 66 (suppl. 3):14-24.
"""

import csv
import re
from pathlib import Path, PurePosixPath

from brainbrr.errors import DataError
from brainbrr.recordings.labels import parse_seconds, read_text
from brainbrr.recordings.types import Annotation, Located, Seizure, check_interval, merge

_STEM = re.compile(r"sub-(?P<subject>[0-9A-Za-z]+)(_ses-(?P<session>[0-9A-Za-z]+))?_.*eeg")
_SEIZURE = re.compile(r"sz(_[a-z0-9_]+)?")


class Bids:
    """A corpus in BIDS with the events of the SzCORE standard."""

    name = "bids"

    def matches(self, key: str) -> bool:
        """Say whether a path relative to the corpus has the layout of this one."""
        return _STEM.fullmatch(PurePosixPath(key).stem) is not None

    def locate(self, root: Path, key: str) -> Located:
        """Tell subject, session and events file from the name."""
        path = root / key
        found = _STEM.fullmatch(path.stem)
        if found is None:
            raise DataError("not a name of BIDS-EEG", where=path, expected="sub-*_eeg.edf")
        events = path.with_name(path.stem.removesuffix("eeg") + "events.tsv")
        return Located(
            path=path,
            key=key,
            patient=found["subject"],
            split=None,
            session=found["session"] or "",
            montage="",
            annotation=events if events.is_file() else None,
        )

    def annotate(self, located: Located) -> Annotation:
        """Read the events file."""
        assert located.annotation is not None
        return read_events(located.annotation)


def read_events(path: Path) -> Annotation:
    """Parse an ``events.tsv``: columns by name; ``n/a`` where the standard allows it.

    Raises:
        DataError: naming file and line: a missing column, a cut row, an unknown event type, no event at all.
    """
    text = read_text(path)
    rows = list(csv.reader(text.splitlines(), delimiter="\t"))
    if not rows or not {"onset", "duration", "eventType"} <= set(rows[0]):
        got = " ".join(rows[0])[:80] if rows else "nothing"
        raise DataError("not SzCORE events", where=path, got=got, expected="columns onset, duration, eventType")
    names = rows[0]
    if len(rows) == 1:
        raise DataError("the events file holds no row, not even background", where=path)
    if not text.endswith("\n"):
        raise DataError("the events file is cut: its last line has no end", where=path)
    seizures: list[Seizure] = []
    durations: set[float] = set()
    for number, cells in enumerate(rows[1:], start=2):
        where = f"{path}:{number}"
        if len(cells) != len(names):
            raise DataError("a row of another width", where=where, got=len(cells), expected=len(names))
        row = dict(zip(names, cells, strict=True))
        if (claimed := row.get("recordingDuration", "n/a")) != "n/a":
            durations.add(parse_seconds(claimed, where))
        if row["eventType"] == "bckg":
            continue
        if not _SEIZURE.fullmatch(row["eventType"]):
            raise DataError(
                "unknown event type", where=where, got=repr(row["eventType"]), expected="bckg, sz or sz_..."
            )
        onset_s = parse_seconds(row["onset"], where)
        offset_s = onset_s + parse_seconds(row["duration"], where)
        check_interval(onset_s, offset_s, where)
        seizures.append(Seizure(onset_s, offset_s, row["eventType"]))
    if len(durations) > 1:
        raise DataError("rows differ in recordingDuration", where=path, got=sorted(durations))
    return Annotation(merge(seizures), durations.pop() if durations else None)
