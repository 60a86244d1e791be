"""Hooks that a project may implement in its ``conftest.py``."""

from collections.abc import Iterable

import pytest

from pytest_brainbrr.targets import Target


@pytest.hookspec
def pytest_brainbrr_targets(config: pytest.Config) -> Iterable[Target] | None:
    """Yield the trainers to smoke-test.

    A project that yields none gets the encoders of brainbrr, its own and those of the entry-point group
    ``brainbrr.encoders``.
    """
