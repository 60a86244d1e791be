"""What a person sees of a run: progress bars on a terminal, plain log lines elsewhere."""

import contextlib
import logging
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any, Protocol, TextIO

from brainbrr.training.validation import Scores

log = logging.getLogger("brainbrr")

SMOKE_BANNER = "SMOKE TEST (BGB_SMOKE_TEST=1): a check of the machinery, not for training; the weights are worthless"


class Console(Protocol):
    """Is told how a run goes."""

    def start(self, *, step: int, n_steps: int) -> None:
        """Say that steps after ``step`` up to ``n_steps`` begin."""

    def step(self, *, step: int, loss: float, learning_rate: float, n_windows: int) -> None:
        """Say that an optimizer step ended."""

    def validation(self, *, n_windows: int) -> None:
        """Say that a validation over ``n_windows`` begins."""

    def validated(self, n_windows: int) -> None:
        """Say that so many more windows of this process were scored."""

    def scores(self, step: int, scores: Scores) -> None:
        """Say what a validation found."""

    def close(self) -> None:
        """Say that nothing more comes."""


class Silent:
    """Says nothing: the console of every process but the writer."""

    def start(self, *, step: int, n_steps: int) -> None: ...  # noqa: D102 (the protocol says it)
    def step(self, *, step: int, loss: float, learning_rate: float, n_windows: int) -> None: ...  # noqa: D102
    def validation(self, *, n_windows: int) -> None: ...  # noqa: D102
    def validated(self, n_windows: int) -> None: ...  # noqa: D102
    def scores(self, step: int, scores: Scores) -> None: ...  # noqa: D102
    def close(self) -> None: ...  # noqa: D102


class Lines:
    """One log line after every so many steps, and one for each validation."""

    def __init__(self, every_steps: int) -> None:
        self._every = every_steps
        self._n_steps = 0
        self._first = 0
        self._since = time.monotonic()
        self._windows = 0

    def start(self, *, step: int, n_steps: int) -> None:
        """Begin to measure the rate."""
        self._first, self._n_steps, self._since = step, n_steps, time.monotonic()

    def step(self, *, step: int, loss: float, learning_rate: float, n_windows: int) -> None:
        """Say every so many steps, at the first and at the last, how it goes."""
        self._windows += n_windows
        if step % self._every and step not in (self._first + 1, self._n_steps):
            return
        seconds = max(time.monotonic() - self._since, 1e-9)
        left = seconds / (step - self._first) * (self._n_steps - step)
        log.info(
            "step %d of %d: loss %.4g, learning rate %.2e, %.2f windows/s, %s left",
            step, self._n_steps, loss, learning_rate, self._windows / seconds, duration(left),
        )  # fmt: skip

    def validation(self, *, n_windows: int) -> None:
        """Say nothing: the scores follow."""

    def validated(self, n_windows: int) -> None:
        """Say nothing."""

    def scores(self, step: int, scores: Scores) -> None:
        """Say what a validation found."""
        log.info("%s", describe(step, scores))

    def close(self) -> None:
        """Say nothing."""


class Bars:
    """Progress bars with loss, rate and time left, above which log lines scroll."""

    def __init__(self) -> None:
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeRemainingColumn,
        )

        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
            console=rich_console(),
        )
        self._steps: Any = None
        self._scoring: Any = None
        self._since = time.monotonic()
        self._windows = 0

    def start(self, *, step: int, n_steps: int) -> None:
        """Draw the bar of steps."""
        self._since = time.monotonic()
        self._steps = self._progress.add_task("training", total=n_steps, completed=step, note="")
        self._progress.start()

    def step(self, *, step: int, loss: float, learning_rate: float, n_windows: int) -> None:
        """Advance the bar; it redraws itself ten times a second whatever the number of steps."""
        self._windows += n_windows
        rate = self._windows / max(time.monotonic() - self._since, 1e-9)
        note = f"loss {loss:.4g}  {rate:.2f} windows/s"
        self._progress.update(self._steps, completed=step, note=note)

    def validation(self, *, n_windows: int) -> None:
        """Draw a second bar."""
        self._scoring = self._progress.add_task("validation", total=n_windows, note="")

    def validated(self, n_windows: int) -> None:
        """Advance the second bar."""
        self._progress.advance(self._scoring, n_windows)

    def scores(self, step: int, scores: Scores) -> None:
        """Remove the second bar and leave a line."""
        self._progress.remove_task(self._scoring)
        log.info("%s", describe(step, scores))

    def close(self) -> None:
        """Leave the bars as they are."""
        self._progress.stop()


def describe(step: int, scores: Scores) -> str:
    """Return a validation in one sentence."""
    parts = [f"loss {scores.loss:.4g}"]
    for name, value in (("AUROC", scores.auroc), ("AUPRC", scores.auprc)):
        reason = scores.reasons.get(name.lower())
        parts.append(f"{name} undefined ({reason})" if reason else f"{name} {value:.4f}")
    return f"validation after step {step} on {scores.n_windows} windows: {', '.join(parts)}"


def duration(seconds: float) -> str:
    """Return a length of time for people.

    >>> duration(9), duration(75), duration(8000)
    ('9 s', '1 min 15 s', '2 h 13 min')
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def make_console(log_every_steps: int, stream: TextIO | None = None) -> Console:
    """Return bars on a terminal, lines elsewhere."""
    return Bars() if is_terminal(stream or sys.stderr) else Lines(log_every_steps)


def is_terminal(stream: TextIO) -> bool:
    """Say whether somebody watches."""
    return stream.isatty()


_shared: list[Any] = []


def rich_console() -> Any:
    """Return the console on stderr that bars and log lines share while :func:`logging_to_stderr` is on."""
    from rich.console import Console as RichConsole

    return _shared[-1] if _shared else RichConsole(stderr=True)


@contextlib.contextmanager
def logging_to_stderr(*, level: int = logging.INFO) -> Iterator[None]:
    """Show the log of ``brainbrr`` on stderr for the length of the block: by rich on a terminal, plain elsewhere."""
    handler: logging.Handler
    if is_terminal(sys.stderr):
        from rich.highlighter import NullHighlighter
        from rich.logging import RichHandler

        _shared.append(rich_console())
        handler = RichHandler(console=_shared[-1], show_path=False, highlighter=NullHighlighter())
    else:
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s", "%H:%M:%S"))
    before = log.level
    log.addHandler(handler)
    log.setLevel(level)
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.setLevel(before)
        if _shared:
            _shared.pop()


def ignore(n_windows: int) -> None:
    """Take notice of progress that nobody watches."""


@contextlib.contextmanager
def counting(what: str, total: int) -> Iterator[Callable[[int], None]]:
    """Show the progress of ``total`` windows: a bar on a terminal, a line at the end elsewhere."""
    if not is_terminal(sys.stderr):
        since = time.monotonic()
        yield ignore
        log.info("%s: %d windows in %s", what, total, duration(time.monotonic() - since))
        return
    from rich.progress import Progress

    with Progress(console=rich_console()) as progress:
        task = progress.add_task(what, total=total)
        yield lambda n: progress.advance(task, n)
