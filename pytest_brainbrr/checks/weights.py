"""What should move moves, what should not stays."""

from pytest_brainbrr.checks.base import Check

CHECKS: tuple[Check, ...] = ()
