"""The one table of checks. Help, docs pages, test items and the completeness test are made from it."""

from collections.abc import Iterable, Mapping

from pytest_brainbrr.checks import devices, gradients, round_trip, shapes, weights
from pytest_brainbrr.checks.base import PLANS, Check, Judge, Vacuous
from pytest_brainbrr.results import Outcome
from pytest_brainbrr.targets import Target
from pytest_brainbrr.trace import Trace

__all__ = ["CHECKS", "PLANS", "Check", "Judge", "Vacuous", "judge"]

CHECKS: tuple[Check, ...] = (
    *shapes.CHECKS,
    *gradients.CHECKS,
    *weights.CHECKS,
    *round_trip.CHECKS,
    *devices.CHECKS,
)
"""Every check, in the order of the report. A new file of checks adds its own ``CHECKS`` here."""


def judge(
    checks: Iterable[Check], traces: Mapping[str, Trace], target: Target, missing: Mapping[str, str] | None = None
) -> tuple[Outcome, ...]:
    """Run the checks, each alone, and return their outcomes."""
    return tuple(check.run(traces, target, missing) for check in checks)
