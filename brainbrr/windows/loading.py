"""From a configuration to the windows of a split."""

import logging
from collections.abc import Sequence
from pathlib import Path

from brainbrr import environment
from brainbrr.config import Config
from brainbrr.errors import DataError
from brainbrr.recordings.corpus import open_corpus
from brainbrr.recordings.index import MissingLabelsError, index_recordings
from brainbrr.recordings.single import unlabeled
from brainbrr.recordings.splits import SPLITS, check_disjoint, split_recordings
from brainbrr.recordings.types import Recording, Skipped
from brainbrr.windows.dataset import Windows, check_skipped
from brainbrr.windows.preprocess import resampling_ratio

log = logging.getLogger(__name__)


def load_split(config: Config, split: str, *, rank: int = 0, world_size: int = 1) -> Windows:
    """Index the windows of a split: no signal is read.

    ``BGB_LIMIT_FILES`` limits the recordings used, in the order of their keys. The splits' patients are compared on the
    recordings used.

    Args:
        config: the configuration.
        split: ``train``, ``dev`` or ``eval``.
        rank: number of this process among those that train together; it only divides the work of preprocessing.
        world_size: how many they are.

    Raises:
        DataError: no recording, a missing label file, a bad recording under ``on_bad_recording: error``, too many
        skipped,
            or a patient in two splits.
    """
    if split not in SPLITS:
        raise ValueError(f"{split=}, expected one of {SPLITS}")
    corpus = open_corpus(config.data)
    skipped = _strangers(corpus.strangers, config, corpus.directory)
    splits = split_recordings(corpus.located, config.data, where=corpus.directory)
    n_found = len(splits[split])
    limit = environment.limit_files()
    used = {name: located[:limit] for name, located in splits.items()}
    check_disjoint(used, where=corpus.directory)
    if not used[split]:
        raise DataError(f"no recording in split {split!r}", where=corpus.directory, got=f"{len(corpus.located)} in all")
    recordings: list[Recording] = []
    for located, indexed in zip(used[split], index_recordings(corpus, used[split], config.data.montage), strict=True):
        error = indexed if isinstance(indexed, DataError) else _unusable(indexed, config)
        if error is not None:
            if isinstance(error, MissingLabelsError) or config.data.on_bad_recording == "error":
                raise error
            log.warning("skipped %s: %s", located.key, error)
            skipped.append(Skipped(located.key, str(error)))
            continue
        assert isinstance(indexed, Recording)
        if config.windows.short == "skip" and indexed.duration_s < config.windows.length_s:
            log.info("skipped %s: shorter than a window", located.key)
            skipped.append(Skipped(located.key, f"shorter than a window ({indexed.duration_s:g} s)", bad=False))
        else:
            recordings.append(indexed)
    check_skipped(skipped, len(used[split]), config, split)
    windows = Windows(config, split, recordings, n_found=n_found, skipped=skipped, rank=rank, world_size=world_size)
    if windows.n_interpolated:
        log.info("%s: Fz or Pz interpolated in %d of %d recordings", split, windows.n_interpolated, windows.n_used)
    return windows


def _unusable(recording: Recording, config: Config) -> DataError | None:
    """Return why a sound recording cannot be brought to the model's rate, or None."""
    try:
        resampling_ratio(recording.rate, config.preprocessing)
    except DataError as error:
        error.where = str(recording.path)
        return error
    return None


def split_names(config: Config) -> list[str]:
    """Return the splits that hold a recording.

    Raises:
        DataError: there is no corpus.
    """
    corpus = open_corpus(config.data)
    splits = split_recordings(corpus.located, config.data, where=corpus.directory)
    return [name for name in SPLITS if splits[name]]


def _strangers(keys: Sequence[str], config: Config, directory: Path) -> list[Skipped]:
    if keys and config.data.on_bad_recording == "error":
        raise DataError(
            "an EDF file whose place does not fit the corpus's layout",
            where=directory / keys[0],
            got=f"{len(keys)} such files" if len(keys) > 1 else None,
            hint="Move it away, or set data.on_bad_recording: skip",
        )
    return [Skipped(key, "its place does not fit the corpus's layout") for key in keys]


def load_files(config: Config, paths: Sequence[Path | str]) -> Windows:
    """Index the windows of single EDF files without labels, to predict on.

    Raises:
        DataError: a file is refused.
    """
    recordings = [unlabeled(Path(path), config.data.montage) for path in paths]
    return Windows(config, "files", recordings, n_found=len(recordings))
