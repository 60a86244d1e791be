"""Make the missing arrays of many recordings, in parallel and beside other processes that do the same."""

import logging
from collections.abc import Callable, Sequence

from brainbrr.errors import DataError
from brainbrr.recordings.types import Recording
from brainbrr.windows.store import Store

log = logging.getLogger(__name__)


def build(
    store: Store,
    recordings: Sequence[Recording],
    *,
    jobs: int = 1,
    first: int = 0,
    step: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> list[DataError | None]:
    """Make every missing array.

    Processes that build the same recordings at once need no lock: each starts with its own share (``first::step``),
    looks again before each recording, and entries appear whole.

    Args:
        store: where the arrays go.
        recordings: what to make.
        jobs: worker processes; joblib's backend in force decides where they run.
        first: number of this process among those that build together.
        step: how many they are.
        progress: called with (done, all).

    Returns:
        One item per recording: None, or the error that refused it.

    Raises:
        OutputError: an array cannot be written.
    """
    order = [*range(first, len(recordings), step), *(i for i in range(len(recordings)) if i % step != first)]
    errors: list[DataError | None] = [None] * len(recordings)
    missing = []
    for i in order:
        try:
            if not store.holds(recordings[i]):
                missing.append(i)
        except DataError as refused:
            errors[i] = refused
    done = len(recordings) - len(missing)
    if missing:
        log.info("preprocessing %d of %d recordings into %s", len(missing), len(recordings), store.directory)
    if progress:
        progress(done, len(recordings))
    if jobs == 1 or len(missing) < 2:
        results = ((i, _make(store, recordings[i])) for i in missing)
    else:
        import joblib

        tasks = (joblib.delayed(_make_one)(i, store, recordings[i]) for i in missing)
        results = joblib.Parallel(n_jobs=jobs, return_as="generator_unordered")(tasks)
    for i, error in results:
        errors[i] = error
        done += 1
        if progress:
            progress(done, len(recordings))
    store.remember()
    return errors


def _make(store: Store, recording: Recording) -> DataError | None:
    try:
        if not store.holds(recording):
            store.make(recording)
    except DataError as error:
        return error
    return None


def _make_one(i: int, store: Store, recording: Recording) -> tuple[int, DataError | None]:
    return i, _make(store, recording)
