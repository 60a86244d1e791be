"""The one table of checks. Help, docs pages, test items and the completeness test are made from it."""

from collections.abc import Iterable, Mapping

from pytest_brainbrr.checks import (
    augmentation,
    averaged_statistics,
    axes,
    backward,
    best,
    canary,
    checkpoints,
    class_weights,
    clipping,
    configuration,
    contents,
    determinism,
    devices,
    gradients,
    label_effect,
    labels,
    leaks,
    loaders,
    loss,
    loss_graph,
    loss_sums,
    masks,
    memory,
    modes,
    optimizer,
    options,
    owner,
    patients,
    precision,
    progress,
    ranks,
    reading,
    resume,
    round_trip,
    schedule,
    scores,
    sensitivity,
    shapes,
    split,
    state,
    tokens,
    validation,
    variants,
    weights,
    wiring,
)
from pytest_brainbrr.checks.base import PLANS, Check, Judge, Vacuous
from pytest_brainbrr.results import Outcome
from pytest_brainbrr.targets import Target
from pytest_brainbrr.trace import Trace

__all__ = ["CHECKS", "PLANS", "Check", "Judge", "Vacuous", "judge"]

CHECKS: tuple[Check, ...] = (
    # Causes come before consequences: the first findings name what went wrong, the last ones what it led to.
    *progress.CHECKS,
    *loss_graph.CHECKS,
    *loss.CHECKS,
    *loss_sums.CHECKS,
    *class_weights.CHECKS,
    *masks.CHECKS,
    *backward.CHECKS,
    *clipping.CHECKS,
    *precision.CHECKS,
    *optimizer.CHECKS,
    *options.CHECKS,
    *wiring.CHECKS,
    *schedule.CHECKS,
    *modes.CHECKS,
    *state.CHECKS,
    *averaged_statistics.CHECKS,
    *memory.CHECKS,
    *configuration.CHECKS,
    *ranks.CHECKS,
    *shapes.CHECKS,
    *gradients.CHECKS,
    *weights.CHECKS,
    *checkpoints.CHECKS,
    *resume.CHECKS,
    *round_trip.CHECKS,
    *devices.CHECKS,
    *reading.CHECKS,
    *contents.CHECKS,
    *labels.CHECKS,
    *label_effect.CHECKS,
    *leaks.CHECKS,
    *tokens.CHECKS,
    *split.CHECKS,
    *patients.CHECKS,
    *loaders.CHECKS,
    *augmentation.CHECKS,
    *validation.CHECKS,
    *scores.CHECKS,
    *best.CHECKS,
    *axes.CHECKS,
    *determinism.CHECKS,
    *sensitivity.CHECKS,
    *variants.CHECKS,
    *canary.CHECKS,
    *owner.CHECKS,
)
"""Every check, in the order of the report. A new file of checks adds its own ``CHECKS`` here."""


def judge(
    checks: Iterable[Check], traces: Mapping[str, Trace], target: Target, missing: Mapping[str, str] | None = None
) -> tuple[Outcome, ...]:
    """Run the checks, each alone, and return their outcomes."""
    return tuple(check.run(traces, target, missing) for check in checks)
