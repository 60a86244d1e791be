"""The plugin held to account: planted faults are caught for the right reason, healthy trainers give no failure.

A few cases run always, one per class of fault, each with the checks that concern it; the whole matrix is slow, and
``benchmarks/teeth.py`` prints it as a table.
"""

import pytest
from zoo import FAULTS, HEALTHY
from zoo.diagnoses import right_checks

from pytest_brainbrr.checks.catalogue import CHECKS
from pytest_brainbrr.runner import run

FAST_FAULTS = {
    "missing-zero-grad", "optimizer-head-only", "schedule-never-stepped", "detached-encoder", "missing-eval",
    "loss-sign-flipped", "labels-rolled-in-collate", "val-reads-train", "prefix-mismatch", "clip-before-unscale",
    "lit-loss-not-returned", "acc-running-loss-keeps-graph",
}  # fmt: skip
FAST_HEALTHY = {"base-bare", "fused-in-backward", "gan"}
STRAIGHT = [check.id for check in CHECKS if set(check.needs) == {"straight"}]


def cases(table, fast):
    """Parametrize over a table; all but the fast ones are slow."""
    marks = [pytest.param(case, id=case.name, marks=() if case.name in fast else pytest.mark.slow) for case in table]
    return pytest.mark.parametrize("case", marks)


@cases(FAULTS, FAST_FAULTS)
def test_fault_is_caught_for_the_right_reason(case, tmp_path):
    report = run(case.target(), workdir=tmp_path, checks=sorted(right_checks(case)))
    assert report.findings, {outcome.check: (outcome.status, outcome.reason) for outcome in report.outcomes}


@cases(HEALTHY, FAST_HEALTHY)
def test_healthy_trainer_gives_no_failure(case, tmp_path):
    report = run(case.target(), workdir=tmp_path, checks=STRAIGHT)
    report.raise_if_failed()


@pytest.mark.slow
@pytest.mark.parametrize("case", HEALTHY, ids=lambda case: case.name)
def test_healthy_trainer_gives_no_failure_in_any_run(case, tmp_path):
    run(case.target(), workdir=tmp_path).raise_if_failed()
