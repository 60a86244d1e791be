"""Labels matter: after they were changed at the loader, loss or gradients of training are others."""

from collections.abc import Iterable, Mapping
from typing import Any

from pytest_brainbrr.checks.base import Check, Vacuous
from pytest_brainbrr.checks.determinism import noisy, steps_digests
from pytest_brainbrr.checks.feeds import Feed, argument, elements, losses_of, train_feeds, validation_feeds
from pytest_brainbrr.label_places import is_target
from pytest_brainbrr.results import Finding
from pytest_brainbrr.targets import Target
from pytest_brainbrr.trace import Trace

SHOWN_LINES = 40
MOST_CLASSES = 1000


def judge_effect(traces: Mapping[str, Trace], target: Target) -> Iterable[Finding]:
    """Compare training with the run whose labels were changed: something must differ, if labels are meant to count."""
    one, other = traces["straight"], traces["relabeled"]
    changed = {(event["epoch"], event["position"]) for event in other.events("relabel", after=True)}
    fed = [feed for feed in train_feeds(other) if feed.batch is not None]
    if not any((feed.batch["epoch"], feed.batch["position"]) in changed for feed in fed if feed.batch is not None):
        raise Vacuous("no batch of training came again with labels that could be changed")
    for reason in noisy(traces):
        raise Vacuous(reason)
    before, after = _training(one), _training(other)
    count = min(len(before), len(after))
    if not count:
        raise Vacuous("no backward and no step was seen in both runs")
    if before[:count] != after[:count]:
        late = _late(one, other, changed)
        if late is not None:
            yield late
        return
    if _targets(one) != _targets(other):
        raise Vacuous("a loss is given the labels, but is no part yet of what training descends")
    others = _other_sources(one)
    if others:
        raise Vacuous(f"labels change nothing in training, which has another source to learn from: {others}")
    wanted = _wanted(traces)
    if wanted is None:
        raise Vacuous("labels change nothing in training, and nothing says that they should: validation takes none")
    text = "the labels of the training batches have no influence on the loss or its gradients"
    cause = "the loss compares the prediction with itself, with a constant, or with a target made anew"
    evidence = {"steps_compared": len(steps_digests(other)), "labels_matter_in": wanted}
    hint = "hand the batch's labels to the loss"
    yield Finding("labels-matter", "loss", "warning", text, evidence, cause, hint)


def _late(one: Trace, other: Trace, changed: set[Any]) -> Finding | None:
    """Return what is wrong if the first backward that differs is of a batch whose labels are as they were.

    The weights are still the same then, and so is the batch: what differs is the label of a batch before it, which
    changed nothing in a backward of its own.
    """
    batches = {feed.call["call"]: feed for feed in train_feeds(other)}
    passed: set[Any] = set()
    for before, after in zip(one.events("backward"), other.events("backward"), strict=False):
        fed = [batches.get(call) for call in after["forwards"]]
        sure = [feed.batch for feed in fed if feed is not None and feed.batch is not None and _as_delivered(feed)]
        if not fed or len(sure) < len(fed):
            return None
        own = {(batch["epoch"], batch["position"]) for batch in sure}
        same = (before["root"].get("digest"), list(before["raw_norms"].values()))
        if same == (after["root"].get("digest"), list(after["raw_norms"].values())):
            passed |= own
            continue
        if own & changed or not passed & changed:
            return None
        text = "labels take effect in the step of a later batch, and not in that of their own"
        cause = "the loss is given the labels of the batch before: a stale variable, or a queue that is one behind"
        evidence = {"batches_before": len(passed)}
        hint = "hand the loss the labels of the batch that the model was given"
        return Finding("labels-matter", "loss", "error", text, evidence, cause, hint)
    return None


def _as_delivered(feed: Feed) -> bool:
    """Return whether the model was given a signal of the batch: the same bytes, or the same forms row by row."""
    for part, given in feed.signals:
        forms = part.get("forms") or []
        if part.get("digest") is not None and part["digest"] == given.get("digest"):
            return True
        if forms and None not in forms and forms == given.get("forms") and len(set(forms)) > 1:
            return True
    return False


def judge_padding(traces: Mapping[str, Trace], target: Target) -> Iterable[Finding]:
    """Compare training with the run whose labels were changed where the signal is padding: nothing may differ."""
    one, other = traces["straight"], traces["padded"]
    changed = other.events("relabel", after=True)
    if not changed:
        raise Vacuous("no signal was padded as its mask or its lengths say, with labels there that could be changed")
    for reason in noisy(traces):
        raise Vacuous(reason)
    before, after = _training(one), _training(other)
    count = min(len(before), len(after))
    if not count:
        raise Vacuous("no backward and no step was seen in both runs")
    if before[:count] == after[:count]:
        return
    text = "labels where the signal is padding have influence on the loss"
    evidence = {"batches": len(changed)}
    hint = "mask the loss by what is real, and pad signals, labels and mask on the same side"
    if any("elsewhere" in event["how"] for event in changed):
        cause = "signals are padded on one side, labels and mask on the other"
        yield Finding("padding-left-out", "loss", "error", text, evidence, cause, hint)
        return
    cause = "the mask is inverted, or not applied to the loss"
    yield Finding("padding-left-out", "loss", "warning", text, evidence, cause, hint)


def _training(trace: Trace) -> list[Any]:
    """Return what training computes, in order: roots and norms of gradients, and weights after each step."""
    found: list[Any] = [
        (event["root"].get("digest"), list(event["raw_norms"].values())) for event in trace.events("backward")
    ]
    return found or steps_digests(trace)


def _targets(trace: Trace) -> list[Any]:
    """Return the targets of the losses of the first iteration, which every run has."""
    losses = [loss for loss in trace.events("loss", step=0) if loss["grad_enabled"]]
    return [(argument(loss, "target") or {}).get("digest") for loss in losses]


def _other_sources(trace: Trace) -> str | None:
    """Name what else could teach the model: another model, or a call of its own beside training."""
    trained = {feed.call["model"] for feed in train_feeds(trace)}
    if len(trained) != 1:
        return "several models are trained"
    validating = {feed.call["call"] for feed in validation_feeds(trace)}
    training = {feed.call["call"] for feed in train_feeds(trace)}
    beside = [call for call in trace.events("forward") if call["call"] not in validating | training]
    if any(call["model"] not in trained for call in beside):
        return "another model is called beside it"
    return "the model is called without being trained, outside of validation" if beside else None


def _wanted(traces: Mapping[str, Trace]) -> str | None:
    """Name where labels do matter, in validation, on the output that training trains; None if nowhere is known."""
    one = traces["straight"]
    shapes = {tuple(fact["shape"][1:]) for feed in train_feeds(one) for fact in feed.call["outputs"]}
    for feed in validation_feeds(one):
        if {tuple(fact["shape"][1:]) for fact in feed.call["outputs"]} & shapes and _has_label_loss(one, feed):
            return "the loss of validation"
    if any(_fits(feed) for feed in train_feeds(one)) and _numbers_differ(traces):
        return "what the run says of its validation"
    if any(_fits(feed, closely=True) for feed in train_feeds(one)) and _logs_differ(traces):
        return "what the run logs of its validation"
    return None


def _has_label_loss(trace: Trace, feed: Feed) -> bool:
    return any(is_target(loss, label) for loss in losses_of(trace, feed) for label in feed.labels)


def _fits(feed: Feed, *, closely: bool = False) -> bool:
    """Return whether an output has a number per label, or one per class, and is not a copy of an input's shape.

    Closely: of several labels a sample, so that no features of that number stand in for it by chance.
    """
    for label in feed.labels:
        rows = label["shape"][0]
        whole = "int" in label["dtype"] and label["max"] is not None and label["min"] is not None
        classes = int(label["max"]) + 1 if whole and label["min"] >= 0 else 0
        for fact in feed.call["outputs"]:
            if fact["shape"][:1] != [rows] or any(fact["shape"] == given["shape"] for given in feed.inputs):
                continue
            if elements(fact) == elements(label):
                if not closely or elements(label) > rows:
                    return True
                continue
            if closely:
                continue
            if elements(label) == rows and len(fact["shape"]) == 2 and classes <= fact["shape"][1] <= MOST_CLASSES:
                return classes > 1
    return False


def _numbers_differ(traces: Mapping[str, Trace]) -> bool:
    """Return whether the run with other labels says something that the straight run does not, on its console."""
    if "repeat" not in traces:
        return False
    lines, same, other = (_lines(traces[plan]) for plan in ("straight", "repeat", "relabeled"))
    return lines is not None and lines == same and other is not None and not set(other) <= set(lines)


def _logs_differ(traces: Mapping[str, Trace]) -> bool:
    """Return whether the run with other labels logs other numbers, where a repetition logs the same."""
    if "repeat" not in traces:
        return False
    rows, same, other = (
        {event["path"]: event["rows"] for event in traces[plan].events("metrics_file", after=True)}
        for plan in ("straight", "repeat", "relabeled")
    )
    return any(
        len(table) == len(other.get(path, ())) and same.get(path) == table and other[path] != table
        for path, table in rows.items()
    )


def _lines(trace: Trace) -> list[str] | None:
    lines = [str(line).replace(str(trace.process.get("workdir")), "") for line in trace.exit.get("last_lines", [])]
    return lines if len(lines) < SHOWN_LINES else None


CHECKS: tuple[Check, ...] = (
    Check(
        "padding-left-out",
        "Labels under padding do not count",
        "labels",
        judge_padding,
        needs=("straight", "padded"),
        wants=("repeat",),
        proves="With other labels where the signal is padding, loss and gradients of training stay the same.",
        faults=("padding averaged into the loss", "mask inverted", "signals and labels padded on opposite sides"),
        limits=(
            "Signals padded with zeros, a label per sample, and a mask or lengths in the batch that say how much is "
            "padding. A warning, since padding may be meant to count; an error where the mask lies on the other side."
        ),
    ),
    Check(
        "labels-matter",
        "The loss depends on the labels",
        "labels",
        judge_effect,
        needs=("straight", "relabeled"),
        wants=("repeat",),
        proves=(
            "With other labels in the same batches, the loss or its gradients are others. Losses written by hand count "
            "like those of torch."
        ),
        faults=(
            "target replaced by zeros in a loss written by hand",
            "prediction compared with itself",
            "labels of the batch before given to the loss",
        ),
        limits=(
            "Labels that take effect with a later batch are an error. Else a warning, since learning without labels "
            "may be meant: given only where one model is trained, nothing else teaches it, and validation measures the "
            "same output against labels."
        ),
    ),
)
