"""The corpus readers by name: ours, and those that other packages register as entry points ``brainbrr.corpora``."""

from importlib.metadata import entry_points
from pathlib import Path
from typing import Protocol, runtime_checkable

from brainbrr.errors import ConfigError
from brainbrr.recordings.bids import Bids
from brainbrr.recordings.chbmit import ChbMit
from brainbrr.recordings.siena import Siena
from brainbrr.recordings.tusz import Tusz
from brainbrr.recordings.types import Annotation, Located

GROUP = "brainbrr.corpora"


@runtime_checkable
class CorpusReader(Protocol):
    """What a layout needs to say; instances are made without arguments."""

    name: str

    def matches(self, key: str) -> bool:
        """Say whether a path of an EDF file relative to the corpus folder has this layout."""
        ...

    def locate(self, root: Path, key: str) -> Located:
        """Tell what the place of an EDF file says; ``annotation`` is None where its label file is missing."""
        ...

    def annotate(self, located: Located) -> Annotation:
        """Read the label file of a recording that has one."""
        ...


_OURS: dict[str, type[CorpusReader]] = {"tusz": Tusz, "chb-mit": ChbMit, "siena": Siena, "bids": Bids}


def reader_names() -> list[str]:
    """Return every registered name, in the order in which ``auto`` tries them."""
    return [*_OURS, *sorted(point.name for point in entry_points(group=GROUP) if point.name not in _OURS)]


def reader(name: str) -> CorpusReader:
    """Make the reader called ``name``.

    Raises:
        ConfigError: nobody registered the name, or what is registered is no corpus reader.
    """
    if name in _OURS:
        return _OURS[name]()
    for point in entry_points(group=GROUP, name=name):
        made = point.load()()
        if not isinstance(made, CorpusReader):
            raise ConfigError("not a corpus reader", where=point.value, expected="name, matches, locate and annotate")
        return made
    raise ConfigError(
        "unknown corpus", where="data.corpus", got=repr(name), expected=", ".join(["auto", *reader_names()])
    )
