"""Data without positives, and data with NaN: the trainer says so instead of training on."""

import re
from collections.abc import Iterable, Mapping

from pytest_brainbrr.checks.base import Check, Vacuous
from pytest_brainbrr.checks.feeds import Fact, train_feeds
from pytest_brainbrr.checks.labels import pairs
from pytest_brainbrr.results import Finding
from pytest_brainbrr.targets import Target
from pytest_brainbrr.trace import Trace

SAID = re.compile(
    r"(\b(no|zero|without|0|none)\b.{0,60}(seizure|positive|event|label|annotat|class|target|spike|example))|((seizure|positive|event|label)s?\b.{0,40}\b(no|none|zero|0|missing|empty)\b)",
    re.IGNORECASE,
)
SAID_NAN = re.compile(
    r"\bnan\b|non-?finite|\binf(inity|inite)?\b|not finite|skip|invalid|corrupt|artefact|artifact|reject|interpolat",
    re.IGNORECASE,
)


def _texts(trace: Trace, straight: Trace | None = None) -> list[str]:
    """Return what a run said; what the straight run says as well is not about the data."""
    found = [
        *trace.exit.get("last_lines", []),
        str(trace.exit.get("message") or ""),
        *(event["text"] for event in trace.events("warning", after=True)),
    ]
    usual = set(_texts(straight)) if straight is not None else set()
    return [text for text in found if text not in usual]


def _labels(trace: Trace) -> list[Fact]:
    """Return the labels between 0 and 1 that losses of training were given."""
    found = [label for _, _, _, label in pairs(trace)]
    return [label for label in found if label["min"] is not None and 0 <= label["min"] <= label["max"] <= 1]


def judge_no_positives(traces: Mapping[str, Trace], target: Target) -> Iterable[Finding]:
    """Run on data without a positive label: refuse, or at least say so; and no label may be positive."""
    trace = traces["no_positives"]
    steps, ended = len(trace.steps), trace.exit["how"]
    refused = ended == "raised" or (ended == "system_exit" and trace.exit["code"])
    if refused:
        if steps:
            text = "the trainer refuses data without positives only after it has trained on them"
            cause = "the labels are looked at during training instead of before it"
            evidence = {"steps": steps}
            yield Finding(
                "no-positives", "guard", "error", text, evidence, cause, "look at the labels before the first step"
            )
        elif trace.checkpoints:
            text = "a checkpoint is left by a run that refused its data"
            yield Finding(
                "no-positives",
                "checkpoint",
                "error",
                text,
                {},
                "saving comes before the guard",
                "look at the labels first",
            )
        return
    if not steps:
        raise Vacuous("the run on data without positives took no step")
    positive = [label for label in _labels(trace) if label["max"] > 0]
    normal = [label for label in _labels(traces["straight"]) if label["max"] > 0] if "straight" in traces else []
    if positive:
        text = "labels are positive although the data hold no positive"
        cause = "labels are inverted, made up, or taken from a cache of other data"
        evidence = {"batches": len(positive), "mean": positive[0]["mean"]}
        yield Finding(
            "no-positives", "labels", "error", text, evidence, cause, "check the mask against the annotations"
        )
        return
    if target.refuses_no_positives:
        text = "data without positives are trained on, though the trainer is declared to refuse them"
        cause = "the guard is swallowed, or a switch that opens it is always on"
        hint = "stop before the first step where no label is positive"
        yield Finding("no-positives", "guard", "error", text, {"steps": steps}, cause, hint)
        return
    if any(SAID.search(text) for text in _texts(trace, traces.get("straight"))):
        return
    text = "the trainer trains on data without a single positive and says nothing"
    cause = "nothing looks at the labels before training"
    evidence = {"steps": steps, "batches_with_positives_on_normal_data": len(normal)}
    hint = "count the positives of the training windows, and refuse to start, or warn loudly, when there are none"
    yield Finding("no-positives", "guard", "error", text, evidence, cause, hint)


def _called(trace: Trace) -> int:
    """Return how often a model was called to be trained."""
    return sum(call["training"] and call["grad_enabled"] and not call["raised"] for call in trace.events("forward"))


def judge_painted_over(traces: Mapping[str, Trace], target: Target) -> Iterable[Finding]:
    """Run on data with NaN: if it neither fails nor drops nor mentions them, they were painted over."""
    trace, straight = traces["non_finite"], traces["straight"]
    if not trace.finished or any(SAID_NAN.search(text) for text in _texts(trace, straight)):
        return
    lengths = [[event["length"] for event in one.events("dataset")] for one in (straight, trace)]
    called, reached = _called(trace), len(trace.events("backward"))
    if lengths[0] == lengths[1] and reached < called and _called(straight) == len(straight.events("backward")):
        text = "on data with NaN batches are passed over, and nothing says so"
        cause = "a loss that is not finite is skipped with `continue`, or its exception is swallowed"
        evidence = {"calls": called, "backwards": reached}
        hint = "count what is left out and say it, or let it be an error"
        yield Finding("non-finite-said", "training", "warning", text, evidence, cause, hint)
        return
    if not trace.steps:
        raise Vacuous("the run on data with NaN took no step")
    if any(not fact["finite"] for feed in train_feeds(trace) for fact in feed.inputs if fact["finite"] is not None):
        raise Vacuous("NaN reach the model, which other checks judge")
    if lengths[0] != lengths[1]:
        return
    if not lengths[0] or not train_feeds(straight):
        raise Vacuous("no data set was seen, so it cannot be told whether windows were left out")
    text = "NaN in the recordings are replaced by something else, and nothing says so"
    cause = "nan_to_num, fillna or an exception handler stands in the reading path"
    hint = "leave such windows out and count them, or let them be an error"
    yield Finding("non-finite-said", "reading", "warning", text, {"samples": lengths[1][0]}, cause, hint)


CHECKS: tuple[Check, ...] = (
    Check(
        "no-positives",
        "Data without positives are refused",
        "labels",
        judge_no_positives,
        needs=("no_positives",),
        wants=("straight",),
        proves=(
            "On data without positives the trainer ends with an error before its first step and without a "
            "checkpoint, or says so, and no label is positive."
        ),
        faults=("guard missing", "guard too late", "labels inverted"),
        limits=(
            "Needs a target that declares the variant no_positives. A message is enough unless the target is declared "
            "as `refuses_no_positives`."
        ),
    ),
    Check(
        "non-finite-said",
        "NaN in the data are not painted over",
        "hidden",
        judge_painted_over,
        needs=("straight", "non_finite"),
        proves="Data with NaN end in an error, in fewer windows, or in a message that normal data do not bring.",
        faults=("nan_to_num in the reading path", "`continue` where the loss is not finite"),
        limits="A warning. Needs a target that declares the variant non_finite.",
    ),
)
