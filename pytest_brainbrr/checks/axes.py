"""Predictions are chosen, and probabilities normalized, along the classes."""

from collections.abc import Iterable, Mapping

from pytest_brainbrr.checks.base import Check, Vacuous
from pytest_brainbrr.results import Finding
from pytest_brainbrr.targets import Target
from pytest_brainbrr.trace import Trace


def judge_axis(traces: Mapping[str, Trace], target: Target) -> Iterable[Finding]:
    """Look at argmax over a model's output: along an axis of one, or along the batch."""
    trace = traces["straight"]
    choices = [event for event in trace.events("choice") if len(event["shape"]) > 1]
    if not choices:
        raise Vacuous("neither argmax nor softmax was called on a tensor of two or more dimensions")
    outputs = {fact["digest"] for call in trace.events("forward") for fact in call["outputs"] if fact.get("digest")}
    sizes = {fact["shape"][0] for call in trace.events("forward") for fact in call["outputs"] if fact["shape"]}
    rows = {
        row
        for call in trace.events("forward")
        for fact in call["outputs"]
        if len(fact["shape"]) == 2 and fact["shape"][1] > 1 and "float" in fact["dtype"]
        for row in fact.get("samples") or ()
    }
    hint = "choose along the axis of the classes; compare one logit with 0"
    for event in choices:
        evidence = {"shape": event["shape"], "axis": event["axis"]}
        chosen = event["function"] == "argmax"
        if chosen and event["shape"][event["axis"]] == 1 and event["shape"][0] > 1:
            text = "argmax runs over an axis of one: every prediction is class 0"
            cause = "a single logit is treated like one per class"
            yield Finding("metric-axis", "argmax", "error", text, evidence, cause, hint)
            return
        of_output = event["digest"] in outputs and event["shape"][0] in sizes
        # Outputs of several batches, one after the other, as a metric of a whole validation is given them.
        of_output |= set(event.get("ends") or [None]) <= rows
        if not of_output or event["axis"] != 0 or len(event["shape"]) != 2 or event["shape"][0] < 2:
            continue
        if chosen:
            text = "argmax over the model's output runs along the batch, not along the classes"
            cause = "the axis is 0 where 1 or -1 was meant"
            yield Finding("metric-axis", "argmax", "error", text, evidence, cause, hint)
            return
        # A table of every sample with every other is compared both ways, and what trains may weigh samples on purpose.
        if len(set(event["shape"])) == 2 and event["shape"][1] > 1 and not event["grad_enabled"]:
            text = "softmax over the model's output runs along the batch, not along the classes"
            cause = "the axis is 0 where 1 or -1 was meant: probabilities depend on what else is in the batch"
            yield Finding("metric-axis", "softmax", "warning", text, evidence, cause, "normalize along the classes")
            return


CHECKS: tuple[Check, ...] = (
    Check(
        "metric-axis",
        "Predictions are chosen along the classes",
        "metrics",
        judge_axis,
        proves="argmax runs neither over an axis of one nor, on a model's output, along the batch; nor does softmax "
        "along the batch where nothing is trained.",
        faults=("argmax over a single logit", "argmax over the batch", "probabilities of a metric from softmax(dim=0)"),
        limits="argmax and softmax of torch, and NumPy's function argmax; not the method of an array. Softmax "
        "only warns.",
    ),
)
