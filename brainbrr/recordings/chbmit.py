"""CHB-MIT: ``chbNN/chbNN_MM.edf`` with one ``chbNN-summary.txt`` in the folder (Shoeb 2009, PhysioNet chbmit 1.0.0).

The recordings are bipolar: set ``data.montage: bipolar``. chb21 is the same child as chb01, 1.5 years later.
"""

import re
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from brainbrr.errors import DataError
from brainbrr.recordings.labels import read_text
from brainbrr.recordings.types import Annotation, Located, Seizure, check_interval, merge

_STEM = re.compile(r"(?P<case>chb\d\d)[a-z]?_\d\d\+?", re.IGNORECASE)
_FILE = re.compile(r"File Name:\s*(\S+)", re.IGNORECASE)
_COUNT = re.compile(r"Number of Seizures in File:\s*(\d+)", re.IGNORECASE)
_TIME = re.compile(r"Seizure(?:\s+\d+)?\s+(Start|End) Time:\s*(\d+)\s*seconds?", re.IGNORECASE)
SAME_PATIENT = {"chb21": "chb01"}


class ChbMit:
    """The CHB-MIT Scalp EEG Database."""

    name = "chb-mit"

    def matches(self, key: str) -> bool:
        """Say whether a path relative to the corpus has the layout of this one."""
        return _STEM.fullmatch(PurePosixPath(key).stem) is not None

    def locate(self, root: Path, key: str) -> Located:
        """Tell patient and summary from the place; the corpus has no official split."""
        path = root / key
        found = _STEM.fullmatch(path.stem)
        if found is None:
            raise DataError("not a name of CHB-MIT", where=path, expected="chbNN_MM.edf")
        case = found["case"].lower()
        summary = path.with_name(f"{case}-summary.txt")
        return Located(
            path=path,
            key=key,
            patient=SAME_PATIENT.get(case, case),
            split=None,
            session=case,
            montage="bipolar",
            annotation=summary if summary.is_file() else None,
        )

    def annotate(self, located: Located) -> Annotation:
        """Find the recording in its summary."""
        assert located.annotation is not None
        files = read_summary(located.annotation)
        name = located.path.name.lower()
        if name in files:
            return Annotation(files[name])
        # chb24's summary lists no file without a seizure; the others list every file.
        if files and all(files.values()):
            return Annotation(())
        raise DataError(
            "the summary does not mention the recording", where=located.annotation, expected=located.path.name
        )


def read_summary(path: Path) -> dict[str, tuple[Seizure, ...]]:
    """Return the seizures of every file that a summary lists, by lower-case file name.

    Raises:
        DataError: naming file and line: a start without its end, a count that does not fit, a file listed twice.
    """
    summary = _Summary()
    for number, line in enumerate(read_text(path).splitlines(), start=1):
        summary.read_line(line.strip(), f"{path}:{number}")
    if summary.start_s is not None:
        raise DataError("a seizure without its end", where=path)
    for name, seizures in summary.files.items():
        if summary.counts.get(name) != len(seizures):
            raise DataError(
                "number of seizures does not fit",
                where=f"{path}: {name}",
                got=len(seizures),
                expected=summary.counts.get(name, "a count"),
            )
    return {name: merge(seizures) for name, seizures in summary.files.items()}


@dataclass
class _Summary:
    """What was read so far."""

    files: dict[str, list[Seizure]] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    name: str | None = None
    start_s: float | None = None

    def read_line(self, line: str, where: str) -> None:
        if found := _FILE.match(line):
            self.name = found[1].lower()
            if self.start_s is not None or self.name in self.files:
                raise DataError("a seizure without its end, or a file listed twice", where=where, got=self.name)
            self.files[self.name] = []
        elif found := _COUNT.match(line):
            self.counts[_known(self.name, where)] = int(found[1])
        elif found := _TIME.match(line):
            self._read_time(found, where)
        elif line.lower().startswith("seizure"):
            raise DataError("unreadable time of a seizure", where=where, got=line[:80])

    def _read_time(self, found: re.Match[str], where: str) -> None:
        if (found[1].lower() == "start") != (self.start_s is None):
            raise DataError("start and end of seizures do not alternate", where=where, got=found[0])
        if self.start_s is None:
            self.start_s = float(found[2])
            return
        check_interval(self.start_s, float(found[2]), where)
        self.files[_known(self.name, where)].append(Seizure(self.start_s, float(found[2])))
        self.start_s = None


def _known(name: str | None, where: str) -> str:
    if name is None:
        raise DataError("no file name before this line", where=where)
    return name
