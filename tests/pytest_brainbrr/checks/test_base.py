"""How a check reaches its outcome, whatever its judge does."""

import pytest

from pytest_brainbrr.checks.base import ITSELF, Check, Vacuous
from pytest_brainbrr.checks.catalogue import CHECKS, PLANS
from pytest_brainbrr.results import Finding
from pytest_brainbrr.targets import Target
from pytest_brainbrr.trace import Trace

TARGET = Target("x", train=print, expected_failures={"known": "why"})


def outcome(judge, *, name="check", needs=("straight",)):
    check = Check(name, "title", "group", judge, needs=needs)
    return check.run({"straight": Trace([])}, TARGET, {"resumed": "no checkpoint"})


def finding(severity):
    return lambda traces, target: [Finding("check", "here", severity, "odd")]


@pytest.mark.parametrize(
    ("judge", "status"),
    [(lambda traces, target: [], "passed"), (finding("warning"), "warned"), (finding("error"), "failed")],
)
def test_the_worst_finding_decides(judge, status):
    assert outcome(judge).status == status


def test_nothing_to_judge_is_vacuous_with_its_reason():
    def judge(traces, target):
        raise Vacuous("no step was seen")
        yield

    assert (outcome(judge).status, outcome(judge).reason) == ("vacuous", "no step was seen")
    needs = outcome(judge, needs=("straight", "resumed"))
    assert (needs.status, needs.reason) == ("vacuous", "run 'resumed': no checkpoint")


def test_what_was_found_before_the_facts_ran_out_stands():
    def judge(traces, target):
        yield from finding("error")(traces, target)
        raise Vacuous("no further step was seen")

    assert outcome(judge).status == "failed"
    assert len(outcome(judge).findings) == 1


def test_a_flaw_of_a_check_is_neither_a_failure_nor_a_pass():
    flawed = outcome(lambda traces, target: traces["nowhere"])
    assert flawed.status == "vacuous"
    assert flawed.reason == f"{ITSELF} (KeyError: 'nowhere'): please report it"


def test_a_declared_failure_is_carried_along():
    assert outcome(finding("error"), name="known").expected_failure == "why"
    assert not outcome(finding("error"), name="known").counts_as_failure


def of_a_cut_run(traces, target):
    if not traces["straight"].process.get("cut"):
        raise Vacuous("no validation was seen")
    yield Finding("check", "model", "error", "odd", {"count": 3})


def test_a_cut_run_is_judged_where_the_straight_one_shows_nothing():
    traces = {"straight": Trace([]), "cut": Trace([{"kind": "process", "n": 0, "step": 0, "cut": True}])}
    check = Check("check", "title", "group", of_a_cut_run, cut=True)
    assert check.run({"straight": traces["straight"]}, TARGET).reason == "no validation was seen"
    (found,) = check.run(traces, TARGET).findings
    assert dict(found.evidence) == {"count": 3, "run": "cut"}
    assert Check("check", "title", "group", of_a_cut_run).run(traces, TARGET).status == "vacuous"


def test_runs_that_were_cut_are_compared_with_the_cut_one():
    cut = Trace([{"kind": "process", "n": 0, "step": 0, "cut": True}])
    seen = []
    check = Check(
        "check", "title", "group", lambda traces, target: seen.append(traces) or [], needs=("straight", "resumed")
    )
    check.run({"straight": Trace([]), "cut": cut, "resumed": cut}, TARGET)
    assert seen[0]["straight"] is cut


def test_the_catalogue_is_complete():
    ids = [check.id for check in CHECKS]
    assert len(ids) == len(set(ids))
    for check in CHECKS:
        assert check.title
        assert check.proves
        assert check.faults, f"{check.id} names no fault it catches"
        assert set(check.plans) <= set(PLANS)
        assert not check.cut or check.needs == ("straight",)


@pytest.mark.parametrize(
    ("end", "reason"),
    [
        ({"how": "raised", "exception": "ImportError", "message": "no x\nmore"}, "ImportError: no x"),
        (
            {"how": "system_exit", "code": 2, "message": "2", "last_lines": ["usage", "train.py: error: y"]},
            "2: train.py: error",
        ),
        ({"how": "killed", "message": "the process was ended by SIGKILL"}, "killed: the process was ended"),
        ({"how": "raised", "exception": "ValueError", "message": "z", "steps": 3}, None),
        ({"how": "returned"}, None),
    ],
)
def test_a_run_that_broke_off_is_the_first_reason(end, reason):
    def judge(traces, target):
        raise Vacuous("no step was seen")
        yield

    check = Check("check", "title", "group", judge)
    trace = Trace([{"kind": "exit", "code": 1, "steps": 0, **end}])
    found = check.run({"straight": trace}, TARGET).reason
    assert (reason in found and "broke off" in found) if reason else found == "no step was seen"
