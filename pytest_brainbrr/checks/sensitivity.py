"""The model called from outside, and runs with other data: what must not matter does not, what must matter does."""

from collections.abc import Iterable, Mapping
from typing import Any

from pytest_brainbrr.checks.base import Check, Vacuous
from pytest_brainbrr.checks.determinism import contents, noisy, steps_digests
from pytest_brainbrr.checks.feeds import train_feeds
from pytest_brainbrr.results import Finding
from pytest_brainbrr.targets import Target
from pytest_brainbrr.trace import Trace

ROUNDING = 1e-3
"""Relative size of differences that may be rounding."""
MANY = 20.0
BATCH_HINT = "set batch_first=True, or move the axes before the layer"


def _result(trace: Trace, name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the probe event and its result.

    Raises:
        Vacuous: the probe did not run, or could not.
    """
    found = [event for event in trace.events("probe", after=True) if event["name"] == name and event["at"] != "resume"]
    if not found:
        reasons = [event["why"] for event in trace.events("not_observed", after=True) if event["what"] == "probe"]
        raise Vacuous(reasons[0] if reasons else "the model was not called from outside")
    event = found[-1]
    if event["raised"]:
        raise Vacuous(f"the model could not be called from outside: {event['raised'][:120]}")
    if event["result"] is None:
        raise Vacuous("the model's input has no floating tensor with a batch, or too short a one")
    return event, event["result"]


def judge_batch(traces: Mapping[str, Trace], target: Target) -> Iterable[Finding]:
    """Replace the other samples of a batch: the first one's output stays."""
    trace = traces["probe"]
    _, result = _result(trace, "batch_independence")
    training = [feed for feed in train_feeds(traces["straight"]) if feed.batch is not None]
    if not training:
        raise Vacuous("no watched loader says which dimension of the input is the batch")
    if not any(feed.batch and feed.inputs and feed.inputs[0]["shape"][:1] == [feed.batch["size"]] for feed in training):
        raise Vacuous("the first dimension of the model's input is not the batch")
    first = training[0].call
    if any(fact["shape"][:2] == [result["size"]] * 2 for fact in first["outputs"]):
        raise Vacuous("the output compares the samples of a batch with each other")
    scale = max(float(result["scale"]), 1e-12)
    if result["difference"] <= max(ROUNDING * scale, MANY * result["noise"]):
        return
    text = "the output for one sample depends on the other samples of its batch, in evaluation mode"
    cause = "attention or a recurrent layer runs along the batch (batch_first left out), or batch statistics are used"
    evidence = {"difference": result["difference"], "scale": result["scale"], "batch": result["size"]}
    yield Finding("batch-independent", "model output", "error", text, evidence, cause, BATCH_HINT)


def judge_repeat(traces: Mapping[str, Trace], target: Target) -> Iterable[Finding]:
    """Call the model twice in evaluation mode."""
    trace = traces["probe"]
    _, result = _result(trace, "repeat_eval")
    if result["equal"]:
        return
    dropped = result.get("dropout")
    if not dropped:
        raise Vacuous("the model draws random numbers in evaluation mode, not through dropout: it may be meant to")
    text = "dropout is active in evaluation mode: the same input gives different outputs"
    cause = "F.dropout is called without training=self.training"
    hint = "pass training=self.training, or use nn.Dropout"
    evidence = {"difference": result["difference"], "functions": dropped}
    yield Finding("evaluation-repeats", "model output", "error", text, evidence, cause, hint)


def judge_input(traces: Mapping[str, Trace], target: Target) -> Iterable[Finding]:
    """Give the model another input: its output changes."""
    _, result = _result(traces["probe"], "input_sensitivity")
    if result["changed"]:
        yield from _half_lost(traces["probe"])
        return
    training = train_feeds(traces["straight"])
    outputs = [fact for feed in training for fact in feed.call["outputs"]]
    if not any(feed.call["grad_enabled"] for feed in training) or not outputs:
        raise Vacuous("no training call was seen")
    heads = [fact for fact in traces["straight"].parameters.values() if fact.get("zero")]
    if heads and all(fact["constant"] for fact in outputs):
        raise Vacuous("a layer that begins at zero has not moved yet")
    text = "the output does not change with the input"
    cause = "the input is cut off on its way: multiplied by zero, replaced, or saturated"
    yield Finding("input-matters", "model output", "error", text, {}, cause, "follow the signal through the layers")


def _half_lost(trace: Trace) -> Iterable[Finding]:
    """Warn where the output stays to the last bit when the second half of the input is another one."""
    try:
        _, result = _result(trace, "look_ahead")
    except Vacuous:
        return
    if result.get("varied") and result.get("late") == 0.0:
        text = "the second half of the input, along its last dimension, has no influence on the output"
        cause = "the output is cut to the length of the labels instead of being brought to their rate, or input is cut"
        hint = "pool or interpolate the output to the labels' rate"
        yield Finding("input-matters", "second half of the input", "warning", text, {}, cause, hint)


def judge_look_ahead(traces: Mapping[str, Trace], target: Target) -> Iterable[Finding]:
    """Change the second half of the input of a model declared causal: the first half of the output stays."""
    if not target.causal:
        raise Vacuous("the target is not declared causal")
    _, result = _result(traces["probe"], "look_ahead")
    if not result["time"]:
        raise Vacuous("the output has no dimension of time")
    scale = max(float(result["scale"]), 1e-12)
    if result["before"] > ROUNDING * scale:
        text = "the model is declared causal, but its output changes before its input does"
        cause = "a convolution pads both sides, a layer runs backwards, or a normalization spans all of time"
        evidence = {"difference": result["before"], "scale": result["scale"]}
        yield Finding(
            "no-look-ahead", "model output", "error", text, evidence, cause, "pad on the left only, and mask attention"
        )


def judge_touched(traces: Mapping[str, Trace], target: Target) -> Iterable[Finding]:
    """Change a held-out file: what training is given, and what it makes of it, stays."""
    one, other = traces["straight"], traces["touched"]
    for reason in noisy(traces):
        raise Vacuous(reason)
    if not one.steps or not other.steps:
        raise Vacuous("one of the two runs took no optimizer step")
    given, given_ = contents(one), contents(other)
    inputs = [[fact["digest"] for fact in feed.inputs] for feed in train_feeds(one)]
    inputs_ = [[fact["digest"] for fact in feed.inputs] for feed in train_feeds(other)]
    hint = "compute statistics, vocabularies and thresholds on training recordings only"
    if given != given_ or inputs != inputs_:
        text = "changing a held-out recording changes what the model trains on"
        cause = (
            "statistics are computed over training and held-out recordings together, or held-out ones are trained on"
        )
        yield Finding("held-out-apart", "training data", "error", text, {}, cause, hint)
        return
    if steps_digests(one) == steps_digests(other):
        return
    if _rates(one) != _rates(other) or len(one.steps) != len(other.steps):
        raise Vacuous("the learning rate or the end of training depends on the validation, so weights may differ")
    text = "changing a held-out recording changes the trained weights, though batches and learning rates are equal"
    cause = "validation leaves gradients, running statistics or drawn random numbers behind"
    hint = "validate without gradients, in evaluation mode"
    yield Finding("held-out-apart", "trained weights", "error", text, {}, cause, hint)


def _rates(trace: Trace) -> list[list[Any]]:
    return [[group.get("lr") for group in step["groups"]] for step in trace.steps]


CHECKS: tuple[Check, ...] = (
    Check(
        "batch-independent",
        "Samples of a batch do not influence each other",
        "batch",
        judge_batch,
        needs=("straight", "probe"),
        proves="In evaluation mode the output for the first sample stays when the others are replaced.",
        faults=("batch_first left out", "statistics of the batch in evaluation"),
        limits=(
            "Differences below a thousandth of the output's size are taken for rounding. Outputs that compare "
            "samples are not judged."
        ),
    ),
    Check(
        "evaluation-repeats",
        "Evaluation mode has no dropout",
        "modes",
        judge_repeat,
        needs=("straight", "probe"),
        proves="The same input twice in evaluation mode gives the same output, or what is random is not dropout.",
        faults=("F.dropout without training=",),
        limits="Other randomness in evaluation (sampling a latent code) may be meant and is not judged.",
    ),
    Check(
        "input-matters",
        "The output depends on the input",
        "wiring",
        judge_input,
        needs=("straight", "probe"),
        proves="Another input gives another output, and so does another second half of it.",
        faults=("input multiplied by zero", "input replaced", "output cut to the labels' length instead of pooled"),
        limits="Half of the input that does not matter only warns, and is the half of the last dimension; a constant "
        "one is padding.",
    ),
    Check(
        "no-look-ahead",
        "A causal model does not look ahead",
        "wiring",
        judge_look_ahead,
        needs=("straight", "probe"),
        proves="For a target declared causal: later input does not change earlier output.",
        faults=("symmetric padding", "attention without a mask"),
        limits="The last dimension of input and output is time.",
    ),
    Check(
        "held-out-apart",
        "Held-out recordings do not influence training",
        "split",
        judge_touched,
        needs=("straight", "touched"),
        wants=("repeat",),
        proves="After a held-out file was changed, training is given the same data and reaches the same weights.",
        faults=(
            "standardised with statistics over both splits",
            "validation trains",
            "held-out recordings are trained on",
        ),
        limits=(
            "Needs a folder named for validation below the workdir, with files in a format the plugin can change "
            "(npy, "
            "npz, EDF). Not judged where two equal runs differ."
        ),
    ),
)
