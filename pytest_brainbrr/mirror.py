"""A working folder for a script that reads the user's files and never writes them.

The folder the script is started from is mirrored by symbolic links, its code by copies. Before the script writes,
renames or removes below the mirror, the place becomes real: a linked folder turns into a folder of links, a linked
file into a copy.

Limits: Python's own file calls, SQLite's and ``torch.save`` are noticed, in Python processes that the script starts
too; a C library, or a program that is not Python, that opens a linked file for writing by itself is not, and absolute
paths outside the mirror are the script's own business.
"""

import contextlib
import itertools
import os
import shutil
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

WRITE_EVENT = "pytest_brainbrr.write"
"""Audit event that a watcher raises before a file is written in a way the interpreter does not see."""

MAX_LOOKED, MAX_IN_FOLDER = 4000, 500
"""Entries that are looked at for Python files: in all, and in one folder."""

WRITING = {
    WRITE_EVENT: (0,),
    "open": (0,),
    "os.mkdir": (0,),
    "os.rename": (0, 1),
    "os.remove": (0,),
    "os.rmdir": (0,),
    "os.truncate": (0,),
    "os.chmod": (0,),
    "os.utime": (0,),
    "os.link": (1,),
    "os.symlink": (1,),
    "shutil.rmtree": (0,),
    "sqlite3.connect": (0,),
}
"""Audit event -> which of its arguments are paths that are written."""


def mirror(source: Path, folder: Path, *, skip: Path) -> None:
    """Link everything of ``source`` into ``folder``, leaving out ``skip`` and what leads to it.

    Args:
        source: folder to mirror.
        folder: an existing folder.
        skip: folder of the smoke run itself, which may lie inside ``source``.
    """
    _lay(source, folder, skip=skip, real=_with_code(source))


def _lay(source: Path, folder: Path, *, skip: Path, real: set[Path]) -> None:
    for entry in os.scandir(source):
        target, place = Path(entry.path).resolve(), folder / entry.name
        if target == skip:
            continue
        if skip.is_relative_to(target) or Path(entry.path) in real:
            place.mkdir()
            _lay(Path(entry.path), place, skip=skip, real=real)
        elif (
            source in real
            and entry.name.endswith(".py")
            and entry.is_file(follow_symlinks=False)
            and os.access(entry.path, os.R_OK)
        ):
            shutil.copy2(entry.path, place)
        else:
            place.symlink_to(target, target_is_directory=entry.is_dir())


def _with_code(source: Path) -> set[Path]:
    """Return the folders that Python files lie in, and those that lead there; looks at a few thousand entries only.

    Their code is copied: ``Path(__file__).resolve().parent / "runs"`` would lead out of a mirror of links.
    """
    found, waiting, left = {source}, [source], MAX_LOOKED
    for folder in waiting:
        for entry in itertools.islice(_entries(folder), min(MAX_IN_FOLDER, max(0, left))):
            left -= 1
            if entry.is_dir(follow_symlinks=False):
                own = Path(entry.path)
                if not entry.name.startswith((".", "__")) and not (own / "pyvenv.cfg").exists():
                    waiting.append(own)
            elif entry.name.endswith(".py"):
                found.update(parent for parent in (folder, *folder.parents) if parent.is_relative_to(source))
    return found


def _entries(folder: Path) -> Iterator[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            yield from entries
    except OSError:
        return  # unreadable: it is linked, and the script will say what it misses


def carry_over(source: Path, folder: Path) -> None:
    """Copy what was written in one mirror into another: a run goes on where an earlier one left its files."""
    guard = WriteGuard(folder)
    for parent, _, names in os.walk(source):
        for name in names:
            path = Path(parent) / name
            if not path.is_symlink():
                place = folder / path.relative_to(source)
                guard.make_real(place, keep=False)
                place.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(path, place)


@contextlib.contextmanager
def _alone(lock: Path) -> Iterator[None]:
    """Keep the other threads and processes of a run out, where the system can."""
    try:
        import fcntl
    except ImportError:
        yield
        return
    with lock.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # ends with the file, and with the process
        yield


class WriteGuard:
    """Makes places below a mirror real just before they are written. Several processes may guard one mirror."""

    def __init__(self, folder: Path) -> None:
        self.folder = Path(os.path.abspath(folder))  # noqa: PTH100 (resolve would follow the links)
        self._lock, self._aside = (self.folder.parent / f"mirror.{name}" for name in ("lock", "part"))
        self._here = threading.local()

    def install(self) -> None:
        """Listen to the interpreter's file calls, for the rest of the process: audit hooks cannot be taken away."""
        sys.addaudithook(self._audit)

    def make_real(self, path: str | os.PathLike[str], *, keep: bool) -> None:
        """Turn the links on the way to ``path`` into folders, and a link at ``path`` into a file of its own.

        Args:
            path: a place about to be written; outside the mirror nothing happens.
            keep: whether the file's content is still wanted (appending, updating in place, changing its times).
        """
        place = Path(os.path.abspath(path))  # noqa: PTH100
        if self.folder not in place.parents:
            return
        with _alone(self._lock):
            for parent in reversed(place.relative_to(self.folder).parents):
                self._unfold(self.folder / parent)
            if place.is_symlink() and place.is_file():
                if keep:
                    shutil.copy2(place.resolve(), self._aside)
                    self._aside.replace(place)
                else:
                    place.unlink()

    def _unfold(self, folder: Path) -> None:
        if not folder.is_symlink() or not folder.is_dir():
            return
        # Laid out aside, so that the threads and processes that read there miss nothing.
        shutil.rmtree(self._aside, ignore_errors=True)
        self._aside.mkdir()
        for entry in os.scandir(folder.resolve()):
            (self._aside / entry.name).symlink_to(entry.path, target_is_directory=entry.is_dir())
        folder.unlink()
        self._aside.rename(folder)

    def _audit(self, event: str, args: tuple[Any, ...]) -> None:
        if event not in WRITING or getattr(self._here, "busy", False):
            return
        keep = event != WRITE_EVENT
        if event == "open":
            # Python's own open passes the flags too; what is made afresh needs no copy of what was there.
            flags = args[2] if isinstance(args[2], int) else os.O_RDONLY
            if not flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC):
                return
            keep = not (flags & os.O_TRUNC and flags & os.O_CREAT)
        self._here.busy = True
        try:
            for place in WRITING[event]:
                path = args[place]
                if isinstance(path, str | bytes | os.PathLike):
                    self._one(event, os.fsdecode(path), keep=keep)
        finally:
            self._here.busy = False

    def _one(self, event: str, path: str, *, keep: bool) -> None:
        """Handle one path of one call. Removing or renaming a link leaves what it leads to alone."""
        if event in {"open", WRITE_EVENT, "os.truncate", "os.chmod", "os.utime", "sqlite3.connect"}:
            self.make_real(path, keep=keep)
        elif event == "shutil.rmtree":
            self.make_real(Path(path) / "x", keep=True)
        else:
            self.make_real(Path(path).parent / "x", keep=True)
