"""Errors that users see: each says what, where, got, expected and what to do, and carries its exit status."""

from typing import Any


class BrainbrrError(Exception):
    """Stop the command with one clear message and ``exit_status``.

    The parts stay separate attributes, and the exception survives pickling, so that it crosses process borders
    whole.
    """

    exit_status = 1

    def __init__(
        self,
        what: str,
        *,
        where: object = None,
        got: object = None,
        expected: object = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(what)
        self.what = what
        self.where = None if where is None else str(where)
        self.got = None if got is None else str(got)
        self.expected = None if expected is None else str(expected)
        self.hint = hint

    def __str__(self) -> str:
        message = self.what if self.where is None else f"{self.where}: {self.what}"
        facts = [f"{name} {value}" for name, value in (("got", self.got), ("expected", self.expected)) if value]
        if facts:
            message += f" ({', '.join(facts)})"
        return message if self.hint is None else f"{message}. {self.hint}"

    def __reduce__(self) -> tuple[Any, ...]:
        return (_rebuild, (type(self), self.args[0], dict(self.__dict__)))


def _rebuild(cls: type[BrainbrrError], what: str, state: dict[str, Any]) -> BrainbrrError:
    error = cls.__new__(cls)
    Exception.__init__(error, what)
    error.__dict__.update(state)
    return error


class ConfigError(BrainbrrError):
    """A configuration file, option or environment variable is wrong: nothing was started."""

    exit_status = 2


class DataError(BrainbrrError):
    """A recording, an annotation or a corpus cannot be used as it is."""


class ModelInputError(BrainbrrError):
    """A batch was refused at the model's door."""


class CheckpointError(BrainbrrError):
    """A checkpoint is damaged, belongs to another model or must not be used here."""


class OutputError(BrainbrrError):
    """A result cannot be written."""


class NoSeizureError(BrainbrrError):
    """The training windows hold no seizure: training would waste its time."""


class NonFiniteError(BrainbrrError):
    """A loss or a gradient is not finite: stopped before it reached the weights."""
