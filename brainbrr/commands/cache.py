"""``brainbrr cache``: build, check and prune preprocessed recordings."""

import sys
from collections import Counter
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from brainbrr.windows import Windows

_CONFIG = click.argument("config", type=click.Path())
_SET = click.option("--set", "overrides", multiple=True, metavar="SECTION.KEY=VALUE", help="Override one key.")
_SPLITS = ("train", "dev", "eval")


@click.group()
def cache() -> None:
    """Build, check and prune preprocessed recordings."""


@cache.command()
@_CONFIG
@_SET
@click.option("--split", "splits", multiple=True, type=click.Choice(_SPLITS), help="Only these splits.")
@click.option("--jobs", type=click.IntRange(min=1), default=None, help="Processes; by default cache.jobs.")
@click.option(
    "--dask", "scheduler", default=None, metavar="ADDRESS", help="Run on the Dask cluster with this scheduler."
)
def build(
    config: str, overrides: tuple[str, ...], splits: tuple[str, ...], jobs: int | None, scheduler: str | None
) -> None:
    """Preprocess every recording that CONFIG uses and that is not cached yet."""
    loaded = _load(config, overrides, splits)
    with _backend(scheduler) as workers:
        for windows in loaded:
            before = windows.n_used
            _with_progress(windows, jobs or workers)
            click.echo(f"{windows.split}: {windows.n_used} of {before} recordings in {windows.store.directory}")
            for skipped in windows.skipped:
                click.echo(f"  skipped {skipped.key}: {skipped.reason}")


@cache.command()
@_CONFIG
@_SET
def info(config: str, overrides: tuple[str, ...]) -> None:
    """Print what the cache folder of CONFIG holds."""
    from brainbrr.windows.upkeep import entries, leftovers

    directory, key = _folder(config, overrides)
    found = entries(directory)
    click.echo(f"{directory}: {len(found)} arrays, {sum(entry.n_bytes for entry in found) / 1e6:.1f} MB")
    for settings, count in Counter(entry.settings for entry in found).most_common():
        mark = "these settings" if settings == key else "other settings" if settings else "damaged"
        click.echo(f"  {count} of {mark} {settings}")
    click.echo(f"  {len(leftovers(directory))} temporary files left behind")


@cache.command()
@_CONFIG
@_SET
@click.option("--remove", "removing", is_flag=True, help="Remove what is damaged; it is made again when needed.")
def verify(config: str, overrides: tuple[str, ...], removing: bool) -> None:
    """Compare every array in the cache folder of CONFIG with its checksum; exit status 1 if one is damaged."""
    from brainbrr.windows.upkeep import damage, entries, remove

    directory, _ = _folder(config, overrides)
    found = entries(directory)
    damaged = {entry.path: what for entry in found if (what := damage(entry.path))}
    for path, what in damaged.items():
        click.echo(f"{path}: {what}", err=True)
    if removing:
        remove(list(damaged))
    click.echo(
        f"{directory}: {len(found)} arrays, {len(damaged)} damaged{' and removed' if removing and damaged else ''}"
    )
    if damaged and not removing:
        sys.exit(1)


@cache.command()
@_CONFIG
@_SET
@click.option("--dry-run", is_flag=True, help="Only say what would be removed.")
def prune(config: str, overrides: tuple[str, ...], dry_run: bool) -> None:
    """Remove every array that CONFIG does not use, and what killed processes left behind."""
    from brainbrr.windows.upkeep import entries, leftovers, remove

    loaded = _load(config, overrides, ())
    store = loaded[0].store
    needed = {store.entry(recording) for windows in loaded for recording in windows.recordings}
    store.remember()
    unneeded = [entry.path for entry in entries(store.directory) if entry.path not in needed]
    unneeded += leftovers(store.directory)
    n_bytes = sum(path.stat().st_size for path in unneeded) if dry_run else remove(unneeded)
    verb = "would be removed" if dry_run else "removed"
    click.echo(f"{store.directory}: {len(unneeded)} files {verb}, {n_bytes / 1e6:.1f} MB; {len(needed)} in use")


def _load(config: str, overrides: tuple[str, ...], splits: tuple[str, ...]) -> list["Windows"]:
    """Index the splits of a configuration; those that the corpus does not have are left out unless they were named."""
    from brainbrr.config import load_config
    from brainbrr.windows import load_split
    from brainbrr.windows.loading import split_names

    loaded = load_config(config, overrides)
    return [load_split(loaded, split) for split in splits or split_names(loaded)]


def _folder(config: str, overrides: tuple[str, ...]) -> tuple[Path, str]:
    from brainbrr.config import load_config
    from brainbrr.windows.store import Store

    loaded = load_config(config, overrides)
    store = Store(loaded.data, loaded.preprocessing, loaded.cache)
    return store.directory, store.key.settings


def _with_progress(windows: "Windows", jobs: int | None) -> None:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task(windows.split, total=windows.n_used)
        windows.prepare(jobs=jobs, progress=lambda done, total: progress.update(task, completed=done, total=total))


def _backend(scheduler: str | None) -> Any:
    """Choose where joblib runs: processes here, or a Dask cluster with as many jobs as it has threads."""
    if scheduler is None:
        return nullcontext(None)
    from brainbrr.windows.cluster import dask_backend

    return dask_backend(scheduler)
