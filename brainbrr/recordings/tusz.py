"""TUSZ 2.0.x: ``{train,dev,eval}/<patient>/<session>/<montage>/<patient>_<session>_<token>.edf``.

Label files of the same stem lie beside: ``.csv_bi`` or ``.csv``.
"""

import os
import re
from functools import lru_cache
from pathlib import Path

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
        folders, _, name = key.rpartition("/")
        montage = folders.rpartition("/")[2]
        return _STEM.fullmatch(name[:-4]) is not None and (not folders or _MONTAGE.fullmatch(montage) is not None)

    def locate(self, root: Path, key: str) -> Located:
        """Tell patient, split and label file from the place; ``.csv_bi`` is preferred to ``.csv``."""
        *folders, name = key.split("/")
        found = _STEM.fullmatch(name[:-4])
        if found is None:
            raise DataError("not a name of TUSZ", where=root / key, expected="<patient>_sNNN_tNNN.edf")
        sessions = [part for part in folders if _SESSION.fullmatch(part)]
        montages = [part for part in folders if _MONTAGE.fullmatch(part)]
        split = next((part for part in reversed(folders) if part in SPLITS), None)
        # Plain text: pathlib would cost more than all the rest for thousands of files.
        base = f"{root}/{key[:-4]}"
        label = next((base + suffix for suffix in (".csv_bi", ".csv") if os.path.isfile(base + suffix)), None)  # noqa: PTH113
        return Located(
            path=Path(base + key[-4:]),
            key=key,
            patient=found["patient"].lower(),
            split=split or _split_above(root),
            session=sessions[-1] if sessions else found["session"],
            montage=montages[-1] if montages else "",
            annotation=None if label is None else Path(label),
        )

    def annotate(self, located: Located) -> Annotation:
        """Read the label file."""
        assert located.annotation is not None
        return read_tusz_labels(located.annotation)


@lru_cache(maxsize=16)
def _split_above(root: Path) -> str | None:
    """Return the split that the corpus folder itself lies in, where it is one split or a part of one."""
    return next((part for part in reversed(root.resolve().parts) if part in SPLITS), None)
