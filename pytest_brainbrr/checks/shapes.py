"""What goes in and out of the model has the declared shape."""

from pytest_brainbrr.checks.base import Check

CHECKS: tuple[Check, ...] = ()
