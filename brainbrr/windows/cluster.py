"""Preprocess on a Dask cluster through joblib's Dask backend: Dask schedules, we only hand over recordings."""

from collections.abc import Iterator
from contextlib import contextmanager

from brainbrr.errors import ConfigError


@contextmanager
def dask_backend(address: str) -> Iterator[int]:
    """Make joblib run on the cluster at ``address``; yields how many tasks run there at once.

    Recordings and cache folder must have the same paths on every worker.

    Raises:
        ConfigError: Dask is not installed, or no scheduler answers.
    """
    try:
        from distributed import Client
    except ImportError:
        raise ConfigError("Dask is not installed", where="--dask", hint="pip install brainbrr[cluster]") from None
    import joblib

    try:
        client = Client(address, timeout="10s")  # type: ignore[no-untyped-call]  # distributed has no types
    except (OSError, ValueError) as error:
        raise ConfigError("no Dask scheduler answers", where="--dask", got=address) from error
    with client:
        n_threads = sum(client.nthreads().values())  # type: ignore[no-untyped-call]  # likewise
        if not n_threads:
            raise ConfigError("the Dask cluster has no worker", where="--dask", got=address)
        with joblib.parallel_config(backend="dask", n_jobs=n_threads):
            yield n_threads
