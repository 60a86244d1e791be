"""On CUDA everything sits there, and memory stays in bounds."""

from pytest_brainbrr.checks.base import Check

CHECKS: tuple[Check, ...] = ()
