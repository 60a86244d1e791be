"""Parse TUSZ label files, ``.csv_bi`` (one row per event) and ``.csv`` (one row per event and channel).

Codes are those of the corpus's own document (Shah et al. 2018, Front Neuroinform 12:83, and the AAREADME of release
2.0.3).
"""

import csv
import math
import re
from pathlib import Path

from brainbrr.errors import DataError
from brainbrr.recordings.types import Annotation, Seizure, check_interval, merge

SEIZURE_CODES = frozenset(
    ("seiz", "fnsz", "gnsz", "spsz", "cpsz", "absz", "tnsz", "cnsz", "tcsz", "atsz", "mysz")
)  # fmt: skip
# ``nesz`` is a non-epileptic attack; ``bkgd`` is a slip of the pen that occurs in releases.
BACKGROUND_CODES = frozenset(("bckg", "bkgd", "nesz"))

_COLUMNS = ["channel", "start_time", "stop_time", "label", "confidence"]
_DURATION = re.compile(r"#\s*duration\s*=\s*([0-9.]+)\s*secs?")
_NAME = re.compile(r"#\s*bname\s*=\s*(\S+)")


def read_text(path: Path) -> str:
    """Read a label file whole.

    Raises:
        DataError: it cannot be read, or holds bytes that are no text.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise DataError("the label file is no text", where=path) from None
    except OSError as error:
        raise DataError(f"the label file cannot be read: {error.strerror or error}", where=path) from error


def read_tusz_labels(path: Path) -> Annotation:
    """Parse a ``.csv_bi`` or ``.csv`` file; seizures of all channels are united.

    Raises:
        DataError: naming file and line: a cut row, an unknown code, an impossible interval, no row at all, or the
        labels
            of another recording.
    """
    text = read_text(path)
    if not text.endswith("\n"):
        raise DataError("the label file is cut: its last line has no end", where=path)
    lines = [(f"{path}:{number}", line) for number, line in enumerate(text.splitlines(), start=1) if line.strip()]
    duration_s = _comments([(where, line) for where, line in lines if line.startswith("#")], path)
    table = [(where, next(csv.reader([line]))) for where, line in lines if not line.startswith("#")]
    if not table or table[0][1] != _COLUMNS:
        where, cells = table[0] if table else (str(path), [])
        raise DataError(
            "not a header of TUSZ labels",
            where=where,
            got=",".join(cells)[:80] or "nothing",
            expected=",".join(_COLUMNS),
        )
    if len(table) == 1:
        raise DataError("the label file holds no row, not even background", where=path)
    seizures = [seizure for where, cells in table[1:] if (seizure := _row(cells, where)) is not None]
    if duration_s is not None:
        for seizure in seizures:
            check_end(seizure, duration_s, path)
    return Annotation(merge(seizures), duration_s)


def _comments(lines: list[tuple[str, str]], path: Path) -> float | None:
    """Return the duration that the comments claim; refuse the name of another recording."""
    duration_s = None
    for where, line in lines:
        if found := _DURATION.match(line):
            duration_s = parse_seconds(found[1], where)
        elif (found := _NAME.match(line)) and found[1] != path.stem:
            raise DataError("labels of another recording", where=where, got=found[1], expected=path.stem)
    return duration_s


def check_end(seizure: Seizure, duration_s: float, where: object) -> None:
    """Refuse a seizure that ends more than a second after the recording: the labels belong to another file.

    Raises:
        DataError: naming both times.
    """
    if seizure.offset_s > duration_s + 1.0:
        raise DataError(
            "a seizure ends after the recording",
            where=where,
            got=f"{seizure.offset_s:g} s",
            expected=f"at most {duration_s:g} s",
        )


def _row(cells: list[str], where: str) -> Seizure | None:
    if len(cells) != len(_COLUMNS):
        raise DataError("a row of another width", where=where, got=len(cells), expected=len(_COLUMNS))
    onset_s, offset_s = parse_seconds(cells[1], where), parse_seconds(cells[2], where)
    confidence = parse_seconds(cells[4], where)
    if not 0 <= confidence <= 1:
        raise DataError("not a confidence", where=where, got=cells[4], expected="0 to 1")
    code = cells[3].strip().lower()
    if code in BACKGROUND_CODES:
        return None
    if code not in SEIZURE_CODES:
        known = ", ".join(sorted(SEIZURE_CODES | BACKGROUND_CODES))
        raise DataError("unknown label", where=where, got=repr(cells[3]), expected=f"one of {known}")
    check_interval(onset_s, offset_s, where)
    return Seizure(onset_s, offset_s, code)


def parse_seconds(text: str, where: object) -> float:
    """Parse a plain decimal number.

    Raises:
        DataError: anything else, infinities included.
    """
    try:
        value = float(text)
    except ValueError:
        raise DataError("not a number", where=where, got=repr(text)) from None
    if not math.isfinite(value) or "_" in text:
        raise DataError("not a finite number", where=where, got=repr(text))
    return value
