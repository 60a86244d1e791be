"""Gradients reach every trainable parameter."""

from pytest_brainbrr.checks.base import Check

CHECKS: tuple[Check, ...] = ()
