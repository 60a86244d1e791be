"""The output folder of a run: who may write there, the metrics log, the run's record.

The folder holds:

    OUTPUT/checkpoints/step-000003.pt   brainbrr.training.checkpoints
    OUTPUT/metrics.jsonl                one line per step and per validation; the same bytes whether interrupted or not
    OUTPUT/run.json                     what ran, on what, and how it ended
    OUTPUT/earlier-001/                 an earlier run that --fresh moved aside
"""

import contextlib
import json
import logging
import math
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from brainbrr.atomic import atomic_path
from brainbrr.errors import OutputError
from brainbrr.training.checkpoints import list_checkpoints

log = logging.getLogger(__name__)

_OWN = ("checkpoints", "metrics.jsonl", "run.json", "tensorboard", "wandb")


class OutputFolder:
    """The folder of one run, held by one writer."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.checkpoints = root / "checkpoints"
        self.metrics = root / "metrics.jsonl"
        self.record = root / "run.json"

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Make the folder, prove that it can be written and keep other runs out for the length of the block.

        Folders made here and still empty at the end are removed: a run that was refused leaves nothing behind.

        Raises:
            OutputError: the folder cannot be made or written, or another run holds it.
        """
        made = _make_folders(self.root)
        try:
            with _lock(self.root):
                yield
        finally:
            for folder in reversed(made):
                with contextlib.suppress(OSError):
                    folder.rmdir()

    def prepare(self, *, fresh: bool, step: int) -> None:
        """Make the folder ready for steps after ``step``.

        Raises:
            OutputError: something cannot be written.
        """
        if fresh:
            self.move_aside()
        try:
            self.checkpoints.mkdir(exist_ok=True)
            self.set_aside_later(step)
        except OSError as error:
            raise OutputError(f"cannot be written: {error.strerror or error}", where=self.checkpoints) from error

    def move_aside(self) -> None:
        """Move an earlier run's files into a folder of their own; delete those of a smoke run: they are worthless."""
        present = [self.root / name for name in _OWN if (self.root / name).exists()]
        if not present:
            return
        try:
            if self._is_smoke():
                for path in present:
                    shutil.rmtree(path) if path.is_dir() else path.unlink()
                return
            aside = next(path for n in range(1, 10_000) if not (path := self.root / f"earlier-{n:03d}").exists())
            aside.mkdir()
            for path in present:
                path.rename(aside / path.name)
        except OSError as error:
            raise OutputError(
                f"an earlier run cannot be moved aside: {error.strerror or error}", where=self.root
            ) from error
        log.info("moved an earlier run aside: %s", aside)

    def _is_smoke(self) -> bool:
        try:
            return json.loads(self.record.read_text(encoding="utf-8"))["smoke"] is True
        except (OSError, ValueError, KeyError, TypeError):
            return False

    def set_aside_later(self, step: int) -> None:
        """Rename checkpoints of steps after ``step``: they are damaged, or of a branch that is now left."""
        for later, path in list_checkpoints(self.checkpoints):
            if later > step:
                aside = path.with_name(path.name + ".aside")
                path.replace(aside)
                log.warning("%s is after the step this run starts from, and was renamed %s", path, aside.name)

    def write_record(self, record: dict[str, Any]) -> None:
        """Write ``run.json``."""
        with atomic_path(self.record) as temporary:
            temporary.write_text(json.dumps(record, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _make_folders(root: Path) -> list[Path]:
    """Make ``root`` and prove that a file can be written there; return the folders that were not there before."""
    missing = [path for path in (root, *root.parents) if not path.exists()]
    made: list[Path] = []
    try:
        for path in reversed(missing):
            path.mkdir(exist_ok=True)
            made.append(path)
        with tempfile.TemporaryFile(dir=root) as probe:
            probe.write(b"\0")
    except OSError as error:
        for path in reversed(made):
            with contextlib.suppress(OSError):
                path.rmdir()
        raise OutputError(
            f"the output folder cannot be written: {error.strerror or error}",
            where=root,
            hint="Name another one with --output-dir",
        ) from error
    return made


@contextlib.contextmanager
def _lock(root: Path) -> Iterator[None]:
    """Hold the folder's lock; the system frees it when the process ends, however it ends."""
    if os.name == "nt":
        yield
        return
    import fcntl

    handle = os.open(root, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise OutputError("another run is writing here", where=root, hint="Name another --output-dir") from None
        yield
    finally:
        os.close(handle)


class MetricsLog:
    """``metrics.jsonl``: appended to, flushed at every line, cut back to where a resumed run starts."""

    def __init__(self, path: Path, *, smoke: bool, start: int) -> None:
        self._smoke = smoke
        try:
            self._file: IO[bytes] = path.open("ab")
            size = self._file.tell()
            if size > start:
                self._file.truncate(start)
            elif size < start:
                log.warning(
                    "%s holds %d bytes of the %d this run had written: earlier lines are lost", path, size, start
                )
        except OSError as error:
            raise OutputError(f"cannot be written: {error.strerror or error}", where=path) from error
        self._path = path

    def write(self, **entry: Any) -> None:
        """Append one line; numbers that are not finite become null, as JSON has no word for them."""
        if self._smoke:
            entry["smoke"] = True
        line = json.dumps({key: _plain(value) for key, value in entry.items()}, ensure_ascii=False)
        try:
            self._file.write(line.encode() + b"\n")
            self._file.flush()
        except OSError as error:
            raise OutputError(f"cannot be written: {error.strerror or error}", where=self._path) from error

    def sync(self) -> int:
        """Make what was written durable and return its length in bytes."""
        os.fsync(self._file.fileno())
        return os.fstat(self._file.fileno()).st_size

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _plain(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return value
