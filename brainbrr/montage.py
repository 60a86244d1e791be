"""The channels every model here sees, their names in real files, and how they are made from what a file holds.

Electrodes are those of the international 10-20 system (Jasper 1958, Electroencephalogr Clin Neurophysiol 10:370-375).
The newer names T7, T8, P7, P8 mean the electrodes T3, T4, T5, T6.

A *montage* is 19 rows. A row is one electrode against the file's common reference (``referential``), or the
difference of two electrodes (``bipolar``: the double banana and T3-T4). Bipolar rows can be made from referential
files and from bipolar ones such as those of CHB-MIT; referential rows cannot be made from bipolar files.
"""

import re
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from brainbrr.errors import DataError

CHANNELS: tuple[str, ...] = (
    "Fp1", "F3", "C3", "P3", "F7", "T3", "T5", "O1", "Fz", "Cz", "Pz", "Fp2", "F4", "C4", "P4", "F8", "T4", "T6", "O2",
)  # fmt: skip
N_CHANNELS = len(CHANNELS)

BIPOLAR: tuple[str, ...] = (
    "Fp1-F7", "F7-T3", "T3-T5", "T5-O1", "Fp1-F3", "F3-C3", "C3-P3", "P3-O1", "Fz-Cz", "Cz-Pz",
    "Fp2-F4", "F4-C4", "C4-P4", "P4-O2", "Fp2-F8", "F8-T4", "T4-T6", "T6-O2", "T3-T4",
)  # fmt: skip

MONTAGES: dict[str, tuple[str, ...]] = {"referential": CHANNELS, "bipolar": BIPOLAR}

# Unit sphere, x to the right ear, y to the nose, z up: the 10-20 angles (steps of 18 degrees from nasion to inion, the
# outer ring at 72 degrees from the vertex, F3/F4/P3/P4 half way between their ring and midline neighbours).
_RING = 72.0
_ANGLES: dict[str, tuple[float, float]] = {  # azimuth from the right ear towards the nose, angle from the vertex
    "Fp1": (108.0, _RING), "Fp2": (72.0, _RING), "F7": (144.0, _RING), "F8": (36.0, _RING),
    "T3": (180.0, _RING), "T4": (0.0, _RING), "T5": (216.0, _RING), "T6": (324.0, _RING),
    "O1": (252.0, _RING), "O2": (288.0, _RING), "Fz": (90.0, 36.0), "Cz": (0.0, 0.0), "Pz": (270.0, 36.0),
    "C3": (180.0, 36.0), "C4": (0.0, 36.0), "F3": (129.0, 50.0), "F4": (51.0, 50.0), "P3": (231.0, 50.0),
    "P4": (309.0, 50.0),
}  # fmt: skip
POSITIONS: dict[str, tuple[float, float, float]] = {
    name: (
        float(np.sin(np.radians(polar)) * np.cos(np.radians(azimuth))),
        float(np.sin(np.radians(polar)) * np.sin(np.radians(azimuth))),
        float(np.cos(np.radians(polar))),
    )
    for name, (azimuth, polar) in _ANGLES.items()
}

# Only these two are ever missing from clinical files whose other channels are sound (01_tcp_ar and kin), and each has
# all its neighbours around it.
INTERPOLATED_FROM: dict[str, tuple[str, ...]] = {"Fz": ("F3", "F4", "Cz"), "Pz": ("P3", "P4", "Cz")}

_SYNONYMS = {"T7": "T3", "T8": "T4", "P7": "T5", "P8": "T6", "01": "O1", "02": "O2"}
_ELECTRODES = {name.upper(): name for name in CHANNELS} | _SYNONYMS
# Further electrodes that link bipolar chains (CHB-MIT: T7-FT9, FT9-FT10, FT10-T8).
_LINKS = {"FT9": "FT9", "FT10": "FT10"}
# What stands behind an electrode's name when the channel is referential: a common reference, never another electrode
# of ours.
_REFERENCES = {"REF", "LE", "AVG", "AR", "CAR", "CS2", "M1M2", "A1A2"}
_PREFIX = re.compile(r"^EEG[ _:-]+", re.IGNORECASE)


def parse_label(label: str) -> tuple[str, str | None] | None:
    """Read a channel label: an electrode against the common reference, a pair of electrodes, or neither.

    >>> parse_label("EEG FP1-REF"), parse_label("T8-P8"), parse_label("fp2"), parse_label("EEG EKG1-REF")
    (('Fp1', None), ('T4', 'T6'), ('Fp2', None), None)
    """
    name = _PREFIX.sub("", label.strip()).upper().replace(" ", "")
    first, dash, second = name.partition("-")
    known = _ELECTRODES | _LINKS
    if first not in known:
        return None
    if not dash or second in _REFERENCES:
        return (_ELECTRODES[first], None) if first in _ELECTRODES else None
    # A second channel of the same pair carries a running number in some exports: T8-P8-1.
    second = re.sub(r"-\d$", "", second)
    return (known[first], known[second]) if second in known and known[second] != known[first] else None


@dataclass(frozen=True)
class Derivation:
    """How the rows of a montage are made from the channels of one file."""

    labels: tuple[str, ...]
    """The file's channels that are needed, by their labels in the file."""
    sources: tuple[int, ...]
    """Their places in the file."""
    weights: npt.NDArray[np.float32]
    """Rows of the montage x needed channels."""
    interpolated: tuple[str, ...]
    """Electrodes that the file lacks and that stand for the weighted mean of their neighbours."""

    def apply(self, signal_CN: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Turn the needed channels (sources, N) into the montage (rows, N); order alone costs one copy."""
        picks = self.weights.argmax(1)
        if np.array_equal(self.weights, np.eye(len(self.sources), dtype=np.float32)[picks]):
            return np.asarray(signal_CN[picks])
        return np.asarray(self.weights @ signal_CN, dtype=np.float32)


def derive(labels: Sequence[str], montage: str = "referential", *, where: object = None) -> Derivation:
    """Find the rows of a montage among a file's channel labels, by name and never by position.

    Args:
        labels: channel labels in the file's order; unknown ones are decoys and ignored.
        montage: a name in :data:`MONTAGES`.
        where: the file, for the message.

    Raises:
        DataError: electrodes other than Fz and Pz are missing, or one stands in the file twice.
    """
    try:
        return _derive(tuple(labels), montage)
    except DataError as error:
        error.where = None if where is None else str(where)
        raise


@lru_cache(maxsize=256)  # thousands of files share a few lists of labels
def _derive(labels: tuple[str, ...], montage: str) -> Derivation:
    electrodes: dict[str, int] = {}
    pairs: dict[tuple[str, str], int] = {}
    for place, label in enumerate(labels):
        found = parse_label(label)
        if found is None:
            continue
        first, second = found
        if second is None:
            if first in electrodes:
                raise DataError(f"channel {first} stands twice", got=f"{labels[electrodes[first]]!r} and {label!r}")
            electrodes[first] = place
        else:
            pairs.setdefault((first, second), place)  # CHB-MIT holds T8-P8 twice, with equal samples
    rows = MONTAGES[montage]
    expressions, interpolated, missing = _solve(rows, electrodes, pairs)
    if missing:
        hint = None
        if montage == "referential" and len(pairs) >= 16:
            hint = "These channels are bipolar: set data.montage: bipolar"
        raise DataError(f"missing channels: {', '.join(missing)}", got=f"{len(labels)} channels", hint=hint)
    sources = sorted({place for expression in expressions for place in expression})
    weights = np.zeros((len(rows), len(sources)), np.float32)
    for row, expression in enumerate(expressions):
        for place, weight in expression.items():
            weights[row, sources.index(place)] = weight
    return Derivation(tuple(labels[place] for place in sources), tuple(sources), weights, tuple(interpolated))


Expression = dict[int, float]


def _solve(
    rows: Sequence[str], electrodes: dict[str, int], pairs: dict[tuple[str, str], int]
) -> tuple[list[Expression], list[str], list[str]]:
    """Express each row by places in the file; return the expressions, the interpolated and the missing names."""
    expressions: list[Expression] = []
    interpolated: list[str] = []
    missing: list[str] = []

    def electrode(name: str) -> Expression | None:
        if name in electrodes:
            return {electrodes[name]: 1.0}
        neighbors = INTERPOLATED_FROM.get(name, ())
        if not neighbors or not all(neighbor in electrodes for neighbor in neighbors):
            return None
        if name not in interpolated:
            interpolated.append(name)
        closeness = [1 / _squared_distance(name, neighbor) for neighbor in neighbors]
        return {electrodes[n]: c / sum(closeness) for n, c in zip(neighbors, closeness, strict=True)}

    for row in rows:
        first, _, second = row.partition("-")
        expression: Expression | None
        if not second:
            expression = electrode(first)
        elif (chain := _chain(first, second, pairs)) is not None:
            expression = chain
        else:
            plus, minus = electrode(first), electrode(second)
            expression = None if plus is None or minus is None else _subtract(plus, minus)
        if expression is None:
            missing.append(row)
        else:
            expressions.append(expression)
    return expressions, interpolated, missing


def _subtract(plus: Expression, minus: Expression) -> Expression:
    return {place: plus.get(place, 0.0) - minus.get(place, 0.0) for place in plus | minus}


def _squared_distance(first: str, second: str) -> float:
    return float(np.sum((np.array(POSITIONS[first]) - np.array(POSITIONS[second])) ** 2))


def _chain(first: str, second: str, pairs: dict[tuple[str, str], int]) -> Expression | None:
    """Return the shortest signed sum of the file's pairs that gives first minus second, or None."""
    neighbors: dict[str, list[tuple[str, int, float]]] = {}
    for (a, b), place in pairs.items():
        neighbors.setdefault(a, []).append((b, place, 1.0))
        neighbors.setdefault(b, []).append((a, place, -1.0))
    paths: dict[str, Expression] = {first: {}}
    queue = deque([first])
    while queue:
        here = queue.popleft()
        if here == second:
            return paths[here]
        for there, place, sign in neighbors.get(here, []):
            if there not in paths:
                paths[there] = paths[here] | {place: sign}
                queue.append(there)
    return None
