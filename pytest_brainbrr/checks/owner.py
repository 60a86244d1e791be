"""What the owner of a target asks of a run himself: ``Target.verify``."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from pytest_brainbrr.checks.base import Check, Vacuous
from pytest_brainbrr.results import Finding
from pytest_brainbrr.targets import Target
from pytest_brainbrr.trace import Trace


def judge_verified(traces: Mapping[str, Trace], target: Target) -> Iterable[Finding]:
    """Let the owner look at what the run left."""
    if target.verify is None:
        raise Vacuous("the target declares no verify")
    trace = traces["straight"]
    if not trace.finished:
        raise Vacuous("the run did not end well")
    for sentence in target.verify(Path(trace.process["workdir"])):
        cause = "what `Target.verify` found in the folder of the run"
        hint = "read the sentence: it is the target's own"
        yield Finding("run-verified", "output", "error", str(sentence), {}, cause, hint)


CHECKS: tuple[Check, ...] = (
    Check(
        "run-verified",
        "What the run left is what its owner asks for",
        "configuration",
        judge_verified,
        proves="`Target.verify` was given the folder of the finished run and named nothing wrong.",
        faults=("a mark missing from an artefact", "a limit that does nothing", "any other promise that was not kept"),
        limits="As good as the function: without one the check is vacuous. It runs in pytest's own process.",
    ),
)
