"""Smoke-test PyTorch trainers as they are: run them for a few steps, watch from outside, judge exactly."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pytest_brainbrr.results import Finding, Outcome, Report, SmokeFailedError
    from pytest_brainbrr.runner import run
    from pytest_brainbrr.targets import Run, Target

__all__ = ["Finding", "Outcome", "Report", "Run", "SmokeFailedError", "Target", "run"]

# Resolved when first used: pytest imports this package at every start, with or without --smoke.
_HOMES = {
    "Finding": "results",
    "Outcome": "results",
    "Report": "results",
    "Run": "targets",
    "SmokeFailedError": "results",
    "Target": "targets",
    "run": "runner",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        message = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(message)
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
