"""TUSZ 2.0.x: ``{train,dev,eval}/<patient>/<session>/<montage>/<patient>_<session>_<token>.edf``.

Label files of the same stem lie beside: ``.csv_bi`` or ``.csv``.
"""

import re
from pathlib import Path, PurePosixPath

from brainbrr.errors import DataError
from brainbrr.recordings.labels import read_tusz_labels
from brainbrr.recordings.types import Annotation, Located

_STEM = re.compile(r"(?P<patient>[a-z]{8})_(?P<session>s\d{3})_(?P<token>t\d{3})", re.IGNORECASE)
_SESSION = re.compile(r"s\d{3}_\d{4}(_\d{2}_\d{2})?")
_MONTAGE = re.compile(r"\d{2}_tcp_\w+")
SPLITS = ("train", "dev", "eval")


class Tusz:
    """The TUH EEG Seizure Corpus."""

    name = "tusz"

    def matches(self, key: str) -> bool:
        """Say whether a path relative to the corpus has the layout of this one."""
        place = PurePosixPath(key)
        return _STEM.fullmatch(place.stem) is not None and (
            len(place.parts) == 1 or _MONTAGE.fullmatch(place.parts[-2]) is not None
        )

    def locate(self, root: Path, key: str) -> Located:
        """Tell patient, split and label file from the place; ``.csv_bi`` is preferred to ``.csv``."""
        path = root / key
        found = _STEM.fullmatch(path.stem)
        if found is None:
            raise DataError("not a name of TUSZ", where=path, expected="<patient>_sNNN_tNNN.edf")
        folders = PurePosixPath(key).parts[:-1]
        sessions = [part for part in folders if _SESSION.fullmatch(part)]
        montages = [part for part in folders if _MONTAGE.fullmatch(part)]
        # The corpus folder may itself lie inside a split: then its own path tells which.
        above = (*root.resolve().parts, *folders)
        split = next((part for part in reversed(above) if part in SPLITS), None)
        labels = (path.with_suffix(suffix) for suffix in (".csv_bi", ".csv"))
        return Located(
            path=path,
            key=key,
            patient=found["patient"].lower(),
            split=split,
            session=sessions[-1] if sessions else found["session"],
            montage=montages[-1] if montages else "",
            annotation=next((label for label in labels if label.is_file()), None),
        )

    def annotate(self, located: Located) -> Annotation:
        """Read the label file."""
        assert located.annotation is not None
        return read_tusz_labels(located.annotation)
