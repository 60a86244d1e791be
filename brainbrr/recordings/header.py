"""Parse and check an EDF header before any signal is read.

The layout is that of Kemp et al. 1992 (Electroencephalogr Clin Neurophysiol 82:391-393) and its extension EDF+ (Kemp
and Olivan 2003, Clin Neurophysiol 114:1755-1761). Readers accept much that is wrong and return signals of another
scale, so everything that gives the samples their meaning is checked here: sizes, ranges, units, continuity.
"""

import re
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from brainbrr.errors import DataError

# Spellings that MNE converts to volts; it takes any other one, nanovolts and blank included, for volts.
UNITS_UV = {"uV": 1.0, "\u00b5V": 1.0, "\u03bcV": 1.0, "mV": 1e3, "V": 1e6}

_INTEGER = re.compile(r"[+-]?\d+")
_NUMBER = re.compile(r"[+-]?(\d+([.,]\d*)?|[.,]\d+)([eE][+-]?\d+)?")


@dataclass(frozen=True)
class Channel:
    """One signal of the file, as its header declares it: texts, to be judged where the channel is wanted."""

    label: str
    unit: str
    physical_min: str
    physical_max: str
    digital_min: str
    digital_max: str
    samples_per_record: int


@dataclass(frozen=True)
class Header:
    """The parts of an EDF header that say how to read the samples."""

    path: Path
    labels: tuple[str, ...]
    """Channel labels in the file's order."""
    samples_per_record: tuple[int, ...]
    n_records: int
    record_s: Fraction
    variable: bytes
    """The header's second part, one column of fields after the other."""

    def channel(self, place: int) -> Channel:
        """Return the channel at a place in the file."""
        n = len(self.labels)

        def text(name: str) -> str:
            before, width = _COLUMNS[name]
            return _text(self.variable, n * before + place * width, width)

        return Channel(
            label=self.labels[place],
            unit=text("unit"),
            physical_min=text("physical_min"),
            physical_max=text("physical_max"),
            digital_min=text("digital_min"),
            digital_max=text("digital_max"),
            samples_per_record=self.samples_per_record[place],
        )

    @property
    def channels(self) -> tuple[Channel, ...]:
        """All channels, in the file's order."""
        return tuple(map(self.channel, range(len(self.labels))))


# Bytes per channel before a column, and its width.
_COLUMNS = {
    "label": (0, 16), "transducer": (16, 80), "unit": (96, 8), "physical_min": (104, 8), "physical_max": (112, 8),
    "digital_min": (120, 8), "digital_max": (128, 8), "prefilter": (136, 80), "samples": (216, 8),
    "reserved": (224, 32),
}  # fmt: skip


def read_header(path: Path) -> Header:
    """Read and check the structure of an EDF file against its size.

    Raises:
        DataError: the file cannot be opened, is no EDF, is cut, has grown, or is discontinuous (EDF+D).
    """
    try:
        with path.open("rb") as stream:
            fixed = stream.read(256)
            n_signals = _n_signals(fixed, path)
            variable = stream.read(256 * n_signals)
            size = stream.seek(0, 2)
    except OSError as error:
        raise DataError(f"cannot be opened: {error.strerror or error}", where=path) from error
    if len(variable) < 256 * n_signals:
        raise DataError(
            "the EDF header is cut", where=path, got=f"{size} bytes", expected=f"{256 * (n_signals + 1)} at least"
        )
    header_bytes = _integer(fixed, 184, 8, "size of the header", path)
    if header_bytes != 256 * (n_signals + 1):
        raise DataError("wrong size of the header", where=path, got=header_bytes, expected=256 * (n_signals + 1))
    if _text(fixed, 192, 44).startswith("EDF+D"):
        raise DataError(
            "a discontinuous recording (EDF+D): its gaps would be read as if they were not there", where=path
        )
    n_records = _integer(fixed, 236, 8, "number of records", path)
    record_s = _fraction(_text(fixed, 244, 8), "duration of a record", path)
    if n_records < 1 or record_s <= 0:
        raise DataError(
            "the header declares no signal", where=path, got=f"{n_records} records of {float(record_s):g} s"
        )
    labels = tuple(_column(variable, n_signals, "label"))
    counts = tuple(
        _int(text, "number of samples", f"{path}: channel {label!r}")
        for label, text in zip(labels, _column(variable, n_signals, "samples"), strict=True)
    )
    if min(counts) < 0:
        raise DataError("a negative number of samples", where=path, got=min(counts))
    expected = header_bytes + n_records * 2 * sum(counts)
    if size != expected:
        raise DataError(
            "the file's size does not fit its header: cut, or still being written",
            where=path,
            got=f"{size} bytes",
            expected=f"{expected} for {n_records} records",
        )
    return Header(path, labels, counts, n_records, record_s, variable)


def check_channels(header: Header, places: tuple[int, ...]) -> tuple[Fraction, int]:
    """Check unit and ranges of the wanted channels; return their common rate in Hz and number of samples.

    Raises:
        DataError: an unknown or blank unit, an empty range, or different rates, each naming the channel.
    """
    for place in places:
        channel = header.channel(place)
        where = f"{header.path}: channel {channel.label!r}"
        if channel.unit not in UNITS_UV:
            raise DataError("unknown physical unit", where=where, got=repr(channel.unit), expected="uV, mV or V")
        low, high = (_float(text, "digital range", where) for text in (channel.digital_min, channel.digital_max))
        if not -32768 <= low < high <= 32767:
            raise DataError("impossible digital range", where=where, got=f"{low:g} to {high:g}")
        low, high = (_float(text, "physical range", where) for text in (channel.physical_min, channel.physical_max))
        if low == high:
            raise DataError("the physical range is empty: the scale is lost", where=where, got=f"{low:g} to {high:g}")
    counts = {header.samples_per_record[place] for place in places}
    if len(counts) != 1 or not min(counts):
        rates = ", ".join(f"{float(count / header.record_s):g}" for count in sorted(counts))
        raise DataError("the wanted channels differ in their sampling rate", where=header.path, got=f"{rates} Hz")
    (count,) = counts
    return Fraction(count) / header.record_s, count * header.n_records


def _n_signals(fixed: bytes, path: Path) -> int:
    if len(fixed) < 256 or fixed[:8].strip() != b"0":
        got = "an empty file" if not fixed else f"{fixed[:8]!r} at its start"
        raise DataError("not an EDF file", where=path, got=got)
    n_signals = _integer(fixed, 252, 4, "number of signals", path)
    if n_signals < 1:
        raise DataError("the file holds no signal", where=path, got=n_signals)
    return n_signals


def _column(variable: bytes, n_signals: int, name: str) -> list[str]:
    before, width = _COLUMNS[name]
    return [_text(variable, before * n_signals + place * width, width) for place in range(n_signals)]


def _text(block: bytes, offset: int, width: int) -> str:
    # The format allows printable characters only; a NUL inside a number would cut it to another one, so it stays in.
    return block[offset : offset + width].decode("latin-1").strip(" ")


def _integer(block: bytes, offset: int, width: int, name: str, where: object) -> int:
    return _int(_text(block, offset, width), name, where)


def _int(text: str, name: str, where: object) -> int:
    _check_number(text, name, where, _INTEGER)
    return int(text)


def _float(text: str, name: str, where: object) -> float:
    _check_number(text, name, where, _NUMBER)
    return float(text.replace(",", "."))


def _fraction(text: str, name: str, where: object) -> Fraction:
    _check_number(text, name, where, _NUMBER)
    return Fraction(text.replace(",", "."))


def _check_number(text: str, name: str, where: object, pattern: re.Pattern[str]) -> None:
    # Python would also take underscores, infinities and the digits of other scripts.
    if not (pattern.fullmatch(text) and text.isascii()):
        raise DataError(f"unreadable {name} in the EDF header", where=where, got=repr(text), expected="a number")
