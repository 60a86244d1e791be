"""Every check has a planted fault that names it, and a healthy trainer close by on which it runs and passes."""

import pytest
from pytest_brainbrr.runner import run

from zoo import HEALTHY
from zoo.diagnoses import DIAGNOSES, KNOWN
from zoo.near_misses import NEAR_MISSES, NO_FAULT, NO_NEAR_MISS

CASES = {case.name: case for case in HEALTHY}
BY_TRAINER = {
    name: sorted(check for check, near in NEAR_MISSES.items() if near == name) for name in NEAR_MISSES.values()
}


def test_every_check_has_a_planted_fault():
    named = {check for checks in DIAGNOSES.values() for check in checks.split()}
    lacking = sorted(KNOWN - named - NO_FAULT.keys())
    assert not lacking, (
        f"no planted fault names {', '.join(lacking)}: add one to tests/zoo/families/, with the check in its DIAGNOSES, "
        "or say in NO_FAULT of tests/zoo/near_misses.py why there can be none"
    )
    needless = sorted(NO_FAULT.keys() & named)
    assert not needless, f"these checks have a planted fault by now; take them out of NO_FAULT: {', '.join(needless)}"


def test_every_check_has_a_near_miss():
    lacking = sorted(KNOWN - NEAR_MISSES.keys() - NO_NEAR_MISS.keys())
    assert not lacking, (
        f"no healthy trainer stands beside {', '.join(lacking)}: name in NEAR_MISSES of tests/zoo/near_misses.py one on "
        "which the check passes (records of `benchmarks/teeth.py --kind healthy --json FILE` list what passed), or say "
        "in NO_NEAR_MISS why there can be none"
    )
    needless = sorted(NO_NEAR_MISS.keys() & NEAR_MISSES.keys())
    assert not needless, f"these checks have a near miss by now; take them out of NO_NEAR_MISS: {', '.join(needless)}"


def test_tables_name_what_exists():
    assert {*NEAR_MISSES, *NO_FAULT, *NO_NEAR_MISS} <= KNOWN
    assert set(NEAR_MISSES.values()) <= CASES.keys()


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(BY_TRAINER))
def test_near_miss_is_judged_and_passes(name, tmp_path):
    report = run(CASES[name].target(), workdir=tmp_path, checks=BY_TRAINER[name])
    other = {
        outcome.check: (outcome.status, outcome.reason) for outcome in report.outcomes if outcome.status != "passed"
    }
    assert other == {}
