"""The step limit: ends a run from outside, as late as possible.

The exception is raised where iteration N+1 would begin (its first training forward or first backward), so that
everything the trainer does after step N (schedule, validation, checkpoint, logging) still happens. It is a
BaseException, as KeyboardInterrupt is: `except Exception` does not stop it.
Limits: a trainer that catches BaseException and goes on is stopped at each further iteration, and finally by time.
"""

import os
import threading
from collections.abc import Callable

from pytest_brainbrr.observers.core import Watch

RESTING = 10


class StopTraining(BaseException):
    """Raised in the trainer when it has taken as many steps as were asked for."""


class StopRank(SystemExit):
    """The same in a process or a thread that the target started: it ends there, and well."""


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


class Limit:
    """Raises :class:`StopTraining` at the border after ``steps``."""

    def __init__(
        self,
        watch: Watch,
        steps: int | None,
        before: Callable[[], None] | None = None,
        stop: type[BaseException] = StopTraining,
    ) -> None:
        self.watch, self.steps, self._before, self._stop = watch, steps, before, stop
        self._pid = os.getpid()
        self.reached = False

    def install(self) -> None:
        """Listen for new iterations."""
        if self.steps is not None:
            self.watch.on_boundary.append(self._check)

    def wait_for(self, path: str) -> None:
        """Let calls be that come before any optimizer is made and before this file, or one below it, is read.

        Models are called while they are built, to learn shapes or to set up a parametrization.
        """
        watch = self.watch

        def too_early() -> bool:
            if next(watch.registry.alive("o"), None) is not None:
                return False
            opened = (key[1] for key in watch.shared if isinstance(key, tuple) and key[0] == "file" and not key[2])
            return not any(name == path or name.startswith(path + os.sep) for name in opened)

        watch.shared["too_early"] = too_early

    def _check(self) -> None:
        watch = self.watch
        taken = steps_taken(watch)
        if self.steps is None or taken < self.steps:
            return
        if not self.reached:
            self.reached = True
            if self._before is not None:
                self._before()
            watch.after = True
        if self._stop is StopRank or os.getpid() != self._pid or not _in_main_thread():
            raise StopRank(0)
        raise self._stop(f"stopped after {taken} optimizer steps, as asked")


def steps_taken(watch: Watch) -> int:
    """Count iterations: with several optimizers the slowest, since an iteration ends when each has had its turn."""
    counts = [count for count in watch.shared.get("attempts", {}).values() if count]
    if not counts:
        # A trainer without any torch optimizer: a backward stands for a step.
        alone = next(watch.registry.alive("o"), None) is None
        return int(watch.shared.get("backwards", 0)) if alone else 0
    # An optimizer that rests for good (a finished stage) must not keep the run going.
    return int(max(min(counts), max(counts) // RESTING))
