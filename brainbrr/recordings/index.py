"""Know every recording exactly before any signal is read: EDF headers and label files only, remembered between runs."""

from collections.abc import Sequence

from brainbrr.errors import DataError
from brainbrr.recordings.corpus import Corpus
from brainbrr.recordings.edf import read_facts
from brainbrr.recordings.labels import check_end
from brainbrr.recordings.types import Located, Recording, Seizure


class MissingLabelsError(DataError):
    """A recording has no label file: refused under every policy, or it would train as background."""


def index_recording(corpus: Corpus, located: Located, montage: str) -> Recording:
    """Read one recording's header and labels and check that they belong together.

    Raises:
        MissingLabelsError: there is no label file.
        DataError: header or labels are wrong, or do not fit each other.
    """
    if located.annotation is None:
        raise MissingLabelsError(
            "missing label file", where=located.path, hint="Every recording needs one, also those without a seizure"
        )
    facts = read_facts(located.path, montage)
    annotation = corpus.reader.annotate(located)
    duration_s = float(facts.n_samples / facts.rate)
    if annotation.duration_s is not None and abs(annotation.duration_s - duration_s) > 2.0:
        raise DataError(
            "labels and recording differ in duration",
            where=located.annotation,
            got=f"{annotation.duration_s:g} s",
            expected=f"{duration_s:g} s of {located.path.name}",
        )
    for seizure in annotation.seizures:
        check_end(seizure, duration_s, located.annotation)
    return Recording(
        **{name: getattr(located, name) for name in Located.__dataclass_fields__},
        n_samples=facts.n_samples,
        rate=facts.rate,
        interpolated=facts.interpolated,
        seizures=tuple(
            Seizure(s.onset_s, min(s.offset_s, duration_s), s.label)
            for s in annotation.seizures
            if s.onset_s < duration_s
        ),
    )


def index_recordings(corpus: Corpus, located: Sequence[Located], montage: str) -> list[Recording | DataError]:
    """Index many recordings; an item that is an error says why its recording cannot be used."""
    indexed: list[Recording | DataError] = []
    for one in located:
        try:
            indexed.append(index_recording(corpus, one, montage))
        except DataError as error:
            indexed.append(error)
    return indexed
