"""The checkpoint brings back what was saved."""

from pytest_brainbrr.checks.base import Check

CHECKS: tuple[Check, ...] = ()
