"""Checkpoint files: written whole or not at all, checked before they are believed, plain data only.

A checkpoint is what ``torch.save`` writes: a zip archive of tensors and one pickle of plain data, which loads with
``weights_only=True``. The archive stores a CRC-32 of every record; :func:`read_checkpoint` recomputes them all first,
which torch's own reader does not, so that a truncated or altered file is recognised.

    {"schema": 1, "smoke": bool, "step": int, "metrics_bytes": int, "config": {...}, "code": {...},
     "environment": {...}, "data": {...}, "state": {...}}

``state`` is :class:`brainbrr.training.state.TrainState`; the rest says where it came from.
"""

import logging
import pickle
import re
import shutil
import zipfile
import zlib
from pathlib import Path
from typing import Any

import torch

from brainbrr.atomic import atomic_path
from brainbrr.errors import CheckpointError

SCHEMA = 1
_NAME = re.compile(r"step-(\d{6,})\.pt")
_KEYS = {"schema", "smoke", "step", "metrics_bytes", "config", "code", "environment", "data", "state"}
_PLAIN = {torch.Tensor, torch.nn.Parameter, str, int, float, bool, type(None)}

log = logging.getLogger(__name__)


def checkpoint_path(folder: Path, step: int) -> Path:
    """Return the path of the checkpoint after optimizer step ``step``."""
    return folder / f"step-{step:06d}.pt"


def list_checkpoints(folder: Path) -> list[tuple[int, Path]]:
    """Return (step, path) of the checkpoints in ``folder``, oldest first; files of other names do not count."""
    if not folder.is_dir():
        return []
    found = [(match, path) for path in folder.iterdir() if (match := _NAME.fullmatch(path.name))]
    return sorted((int(match[1]), path) for match, path in found)


def write_checkpoint(path: Path, content: dict[str, Any]) -> None:
    """Write ``content`` (tensors and plain data) to ``path``, atomically.

    Raises:
        TypeError: it holds something that :func:`read_checkpoint` would refuse.
        OutputError: it cannot be written, for instance because the disk is full.
    """
    _check_plain(content, "content")
    with atomic_path(path) as temporary:
        try:
            # By path, not by an open file: torch then writes without a detour through Python, three times as fast.
            torch.save(content, temporary)
        except RuntimeError as error:
            free = shutil.disk_usage(path.parent).free
            raise OSError(f"not all of it reached the disk, which has {free / 1e6:.0f} MB free") from error


def _check_plain(value: Any, name: str) -> None:
    if isinstance(value, dict):
        for key, item in value.items():
            _check_plain(key, f"a key of {name}")
            _check_plain(item, f"{name}[{key!r}]")
    elif isinstance(value, list | tuple):
        for number, item in enumerate(value):
            _check_plain(item, f"{name}[{number}]")
    elif type(value) not in _PLAIN:
        raise TypeError(f"{name} is a {type(value).__name__}, neither a tensor nor plain data")


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read, check and return a checkpoint, its tensors on the CPU.

    Raises:
        CheckpointError: there is no such file, it is damaged, it is no checkpoint of this program or of a schema that
            this version does not know, or it holds anything beside tensors and plain data.
    """
    _check_records(path)
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            "holds objects other than tensors and plain data, and was not loaded",
            where=path,
            got=found[1] if (found := re.search(r"[Uu]nsupported (?:global: )?GLOBAL (\S+)", str(error))) else None,
            hint="Loading such a file can run code: do not use it unless you know where it comes from",
        ) from error
    except (RuntimeError, OSError, EOFError, ValueError, KeyError) as error:
        raise CheckpointError(f"damaged checkpoint: {_first_line(error)}", where=path) from error
    if not isinstance(content, dict) or not content.keys() >= _KEYS:
        raise CheckpointError("not a checkpoint of brainbrr", where=path, expected=f"the keys {sorted(_KEYS)}")
    if content["schema"] != SCHEMA:
        raise CheckpointError(
            "a checkpoint of another format",
            where=path,
            got=f"schema {content['schema']}",
            expected=f"schema {SCHEMA}",
            hint="Use the version of brainbrr that wrote it",
        )
    return content


def _check_records(path: Path) -> None:
    """Recompute the checksum of every record of the archive."""
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
    except FileNotFoundError:
        raise CheckpointError("no such checkpoint", where=path) from None
    except IsADirectoryError:
        raise CheckpointError("a folder, not a checkpoint", where=path) from None
    except (zipfile.BadZipFile, zlib.error, EOFError, ValueError, NotImplementedError, RuntimeError) as error:
        raise CheckpointError(f"damaged or no checkpoint: {_first_line(error)}", where=path) from error
    except OSError as error:
        raise CheckpointError(f"cannot be read: {error.strerror or error}", where=path) from error
    if damaged is not None:
        raise CheckpointError(f"damaged checkpoint: wrong checksum of record {damaged!r}", where=path)


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def latest_checkpoint(folder: Path) -> tuple[Path, dict[str, Any]] | None:
    """Return (path, content) of the newest checkpoint in ``folder`` that is whole, or None where there is none at all.

    A damaged one is reported and the one before it is used.

    Raises:
        CheckpointError: there are checkpoints and every one is damaged.
    """
    candidates = list_checkpoints(folder)
    for _, path in reversed(candidates):
        try:
            return path, read_checkpoint(path)
        except CheckpointError as error:
            log.warning("%s; trying the checkpoint before it", error)
    if candidates:
        raise CheckpointError(
            "no checkpoint here is whole", where=folder, got=f"{len(candidates)} damaged", hint="--fresh starts over"
        )
    return None


def prune_checkpoints(folder: Path, *, keep_last: int, best: list[int], keep_best: int) -> None:
    """Delete checkpoints beside the newest ``keep_last`` and the ``keep_best`` first of the steps in ``best``."""
    steps = [step for step, _ in list_checkpoints(folder)]
    kept = {*steps[-keep_last:], *best[:keep_best]}
    for step in steps:
        if step not in kept:
            checkpoint_path(folder, step).unlink(missing_ok=True)
    # What a killed process left half-written; the writer is the only one here.
    for leftover in folder.glob(".step-*.partial"):
        leftover.unlink(missing_ok=True)
