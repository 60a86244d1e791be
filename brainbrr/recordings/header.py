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
    """One signal of the file, as its header declares it."""

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
    channels: tuple[Channel, ...]
    n_records: int
    record_s: Fraction

    @property
    def labels(self) -> tuple[str, ...]:
        """Channel labels in the file's order."""
        return tuple(channel.label for channel in self.channels)


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
    record_s = Fraction(_number(fixed, 244, 8, "duration of a record", path))
    if n_records < 1 or record_s <= 0:
        raise DataError(
            "the header declares no signal", where=path, got=f"{n_records} records of {float(record_s):g} s"
        )
    channels = _channels(variable, n_signals, path)
    record_bytes = 2 * sum(channel.samples_per_record for channel in channels)
    if size != header_bytes + n_records * record_bytes:
        raise DataError(
            "the file's size does not fit its header: cut, or still being written",
            where=path,
            got=f"{size} bytes",
            expected=f"{header_bytes + n_records * record_bytes} for {n_records} records",
        )
    return Header(path, channels, n_records, record_s)


def check_channels(header: Header, places: tuple[int, ...]) -> tuple[Fraction, int]:
    """Check unit and ranges of the wanted channels; return their common rate in Hz and number of samples.

    Raises:
        DataError: an unknown or blank unit, an empty range, or different rates, each naming the channel.
    """
    for place in places:
        channel = header.channels[place]
        where = f"{header.path}: channel {channel.label!r}"
        if channel.unit not in UNITS_UV:
            raise DataError("unknown physical unit", where=where, got=repr(channel.unit), expected="uV, mV or V")
        low, high = (_parse(text, "digital range", where) for text in (channel.digital_min, channel.digital_max))
        if not -32768 <= low < high <= 32767:
            raise DataError("impossible digital range", where=where, got=f"{float(low):g} to {float(high):g}")
        low, high = (_parse(text, "physical range", where) for text in (channel.physical_min, channel.physical_max))
        if low == high:
            raise DataError(
                "the physical range is empty: the scale is lost", where=where, got=f"{float(low):g} to {float(high):g}"
            )
    counts = {header.channels[place].samples_per_record for place in places}
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


_FIELDS = (("label", 16), ("transducer", 80), ("unit", 8), ("physical_min", 8), ("physical_max", 8), ("digital_min", 8),
           ("digital_max", 8), ("prefilter", 80), ("samples", 8), ("reserved", 32))  # fmt: skip


def _channels(variable: bytes, n_signals: int, path: Path) -> tuple[Channel, ...]:
    columns: dict[str, list[str]] = {}
    offset = 0
    for name, width in _FIELDS:
        columns[name] = [_text(variable, offset + i * width, width) for i in range(n_signals)]
        offset += width * n_signals
    channels = []
    for i in range(n_signals):
        where = f"{path}: channel {columns['label'][i]!r}"
        samples = int(_parse(columns["samples"][i], "number of samples", where, _INTEGER))
        if samples < 0:
            raise DataError("a negative number of samples", where=where, got=samples)
        named = {
            name: columns[name][i]
            for name in ("label", "unit", "physical_min", "physical_max", "digital_min", "digital_max")
        }
        channels.append(Channel(**named, samples_per_record=samples))
    return tuple(channels)


def _text(block: bytes, offset: int, width: int) -> str:
    # The format allows printable characters only; a NUL inside a number would cut it to another one, so it stays in.
    return block[offset : offset + width].decode("latin-1").strip(" ")


def _integer(block: bytes, offset: int, width: int, name: str, where: object) -> int:
    return int(_parse(_text(block, offset, width), name, where, _INTEGER))


def _number(block: bytes, offset: int, width: int, name: str, where: object) -> Fraction:
    return _parse(_text(block, offset, width), name, where)


def _parse(text: str, name: str, where: object, pattern: re.Pattern[str] = _NUMBER) -> Fraction:
    if not (text.isascii() and pattern.fullmatch(text)):
        raise DataError(f"unreadable {name} in the EDF header", where=where, got=repr(text), expected="a number")
    return Fraction(text.replace(",", "."))
