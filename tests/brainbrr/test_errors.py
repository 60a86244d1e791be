"""Errors say what, where, got, expected and what to do, and cross process borders whole."""

import pickle

import pytest

from brainbrr import errors


def test_a_message_says_everything_it_was_given() -> None:
    error = errors.DataError("wrong rate", where="a.edf", got="0 Hz", expected="a positive rate", hint="Convert it")
    assert str(error) == "a.edf: wrong rate (got 0 Hz, expected a positive rate). Convert it"
    assert str(errors.DataError("no recordings")) == "no recordings"


@pytest.mark.parametrize(
    "cls",
    [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.BrainbrrError)],
)
def test_errors_survive_pickling(cls: type[errors.BrainbrrError]) -> None:
    error = cls("what", where="here", got=1, expected=2, hint="Do this")
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is cls
    assert str(again) == str(error)
    assert (again.exit_status, again.hint) == (cls.exit_status, "Do this")
