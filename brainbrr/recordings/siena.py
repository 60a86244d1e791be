"""Siena: ``PNxx/PNxx-N.edf`` with one ``Seizures-list-PNxx.txt`` in the folder.

The corpus is that of Detti et al. 2020 (PhysioNet siena-scalp-eeg 1.0.0).

The list gives clock times. They are read modulo a day from the registration's start, so that nights wrap.
"""

import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from brainbrr.errors import DataError
from brainbrr.recordings.labels import read_text
from brainbrr.recordings.types import Annotation, Located, Seizure, check_interval, merge

_STEM = re.compile(r"(?P<patient>PN\d\d)-[\d.]+", re.IGNORECASE)
_FILE = re.compile(r"File name:\s*(\S+)", re.IGNORECASE)
_LINE = re.compile(r"(?:(Registration|Seizure)\s+)?(start|end) time:\s*(.*)", re.IGNORECASE)
_CLOCK = re.compile(r"(\d{1,2})[.:](\d{1,2})[.:](\d{1,2})")
_DAY_S = 86_400

# PN00-3 lasts 41 minutes and its one seizure would last 61: the hour of its end is a slip of the pen.
_ERRATA = {("pn00-3.edf", "end", "19.29.29"): "18.29.29"}


class Siena:
    """The Siena Scalp EEG Database."""

    name = "siena"

    def matches(self, key: str) -> bool:
        """Say whether a path relative to the corpus has the layout of this one."""
        return _STEM.fullmatch(PurePosixPath(key).stem) is not None

    def locate(self, root: Path, key: str) -> Located:
        """Tell patient and list from the place; the corpus has no official split."""
        path = root / key
        found = _STEM.fullmatch(path.stem)
        if found is None:
            raise DataError("not a name of Siena", where=path, expected="PNxx-N.edf")
        patient = found["patient"].upper()
        listed = path.with_name(f"Seizures-list-{patient}.txt")
        return Located(
            path=path,
            key=key,
            patient=patient,
            split=None,
            session=path.stem,
            montage="referential",
            annotation=listed if listed.is_file() else None,
        )

    def annotate(self, located: Located) -> Annotation:
        """Find the recording in the list of its folder; the list omits recordings without a seizure.

        A name in the list that fits no file here may be this recording, misspelt: then it is refused.

        Raises:
            DataError: the list cannot be read, or it cannot be told whether it mentions the recording.
        """
        assert located.annotation is not None
        listed = read_list(located.annotation)
        here = {path.name.lower() for path in located.path.parent.iterdir() if path.suffix.lower() == ".edf"}
        by_file = {_correct(name, here): seizures for name, seizures in listed.items()}
        name = located.path.name.lower()
        if name in by_file:
            return Annotation(by_file[name])
        if unknown := sorted(by_file.keys() - here):
            raise DataError(
                "the list names recordings that are not here and omits one that is",
                where=located.annotation,
                got=f"{', '.join(unknown)} but not {located.path.name}",
            )
        return Annotation(())


def _correct(name: str, here: set[str]) -> str:
    """Undo the slips of the lists: PNO6-1 (the letter O), PN01 for PN01-1, PN11- for PN11-1."""
    name = re.sub(r"^pno", "pn0", name)
    if name in here:
        return name
    completed = re.sub(r"^(pn\d\d)-?\.edf$", r"\1-1.edf", name)
    return completed if completed in here else name


@dataclass
class _Block:
    """What was read about one file so far."""

    name: str
    registered_s: int | None = None
    start_s: int | None = None


def read_list(path: Path) -> dict[str, tuple[Seizure, ...]]:
    """Return the seizures of every file that a list names, by lower-case file name.

    Raises:
        DataError: naming file and line: an unreadable clock time, a start without its end.
    """
    files: dict[str, list[Seizure]] = {}
    registered: dict[str, int] = {}
    block: _Block | None = None
    for number, raw in enumerate(read_text(path).splitlines(), start=1):
        where, line = f"{path}:{number}", raw.strip()
        if found := _FILE.match(line):
            if block is not None and block.start_s is not None:
                raise DataError("a seizure without its end", where=where)
            block = _Block(found[1].lower())
            block.registered_s = registered.get(block.name)
            files.setdefault(block.name, [])
        elif found := _LINE.match(line):
            if block is None:
                raise DataError("no file name before this line", where=where)
            _read_time(block, found, files, where)
            if block.registered_s is not None:
                registered[block.name] = block.registered_s
    if block is not None and block.start_s is not None:
        raise DataError("a seizure without its end", where=path)
    if not files:
        raise DataError("the list names no recording", where=path)
    return {name: merge(seizures) for name, seizures in files.items()}


def _read_time(block: _Block, found: re.Match[str], files: dict[str, list[Seizure]], where: str) -> None:
    edge, text = found[2].lower(), found[3]
    clock_s = _clock(_ERRATA.get((block.name, edge, text.strip()), text), where)
    # In PN01 the seizures' lines say only Start time and End time.
    if (found[1] or "Seizure").lower() == "registration":
        if edge == "start":
            block.registered_s = clock_s
        return
    if block.registered_s is None:
        raise DataError("no start of the registration before this line", where=where)
    after_s = (clock_s - block.registered_s) % _DAY_S
    if edge == "start":
        if block.start_s is not None:
            raise DataError("a seizure without its end", where=where)
        block.start_s = after_s
        return
    if block.start_s is None:
        raise DataError("the end of a seizure without its start", where=where)
    check_interval(block.start_s, after_s, where)
    files[block.name].append(Seizure(float(block.start_s), float(after_s)))
    block.start_s = None


def _clock(text: str, where: str) -> int:
    """Read a clock time in seconds; blanks inside it (``1 6.49.25``) are slips of the pen."""
    found = _CLOCK.fullmatch("".join(text.split()))
    if found is None or int(found[1]) > 23 or int(found[2]) > 59 or int(found[3]) > 59:
        raise DataError("not a clock time", where=where, got=repr(text), expected="hh.mm.ss")
    return int(found[1]) * 3600 + int(found[2]) * 60 + int(found[3])
