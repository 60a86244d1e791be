"""Known signals at known places: channels, rate, time axis and labels as the model and the loss get them."""

from collections.abc import Iterable, Mapping
from typing import Any

from pytest_brainbrr.checks.base import Check, Vacuous
from pytest_brainbrr.results import Finding
from pytest_brainbrr.targets import Target
from pytest_brainbrr.trace import Trace

WINDOW_S = 60
FIRST_HZ, STEP_HZ = 3.0, 1.5
EDGE = 32
"""Samples by which an edge of the smoothed loudness may be off: 1/8 s at 256 Hz."""


def judge_signal(traces: Mapping[str, Trace], target: Target) -> Iterable[Finding]:
    """Compare the strongest frequency of each channel with the tone it was given."""
    trace = traces["canary"]
    seen = _seen(trace)
    given = {fact["digest"] for call in trace.events("forward") for fact in call["inputs"]}
    batches = {part["digest"] for batch in trace.events("batch") for part in batch["tensors"]}
    if not given & batches:
        raise Vacuous("no batch reached the model as it was delivered")
    rows = [row for result in seen for row in result["cycles"]]
    wanted = [(FIRST_HZ + STEP_HZ * channel) * WINDOW_S for channel in range(len(rows[0]))]
    wrong = [row for row in rows if any(abs(cycles - tone) > 1 for cycles, tone in zip(row, wanted, strict=True))]
    if not wrong:
        return
    evidence = {"windows": len(rows), "wrong": len(wrong), "first": wrong[0][:6], "wanted": wanted[:6]}
    if any(sorted(row) == sorted(int(tone) for tone in wanted) for row in wrong):
        text, where = "channels reach the model in another order than the montage's", "channels"
        cause = "channels are taken in the order of the file"
        hint = "pick channels by name"
    else:
        text, where = "tones reach the model at other frequencies than recorded", "time axis"
        cause = "a rate is taken for another: resampling is left out, or done with the wrong ratio"
        hint = "resample from each file's own rate"
    yield Finding("canary-signal", where, "error", text, evidence, cause, hint)


def judge_labels(traces: Mapping[str, Trace], target: Target) -> Iterable[Finding]:
    """Compare where the signal is loud with where the label is set."""
    trace = traces["canary"]
    rows = [row for result in _seen(trace) for overlaps in result["overlaps"].values() for row in overlaps]
    if not rows:
        raise Vacuous("no label of the signal's length was delivered")
    wanted = {
        part["digest"]
        for batch in trace.events("batch")
        for part in batch["tensors"]
        if len(part["shape"]) == 2  # (B, T)
    }
    reached = {fact["digest"] for loss in trace.events("loss") for fact in loss["args"] if fact["at"] == "target"}
    if trace.events("loss") and not reached & wanted:
        raise Vacuous("the labels delivered were changed before they reached a loss that can be seen")
    wrong = [row for row in rows if row["apart"] > EDGE * max(1, row["edges"])]
    if not any(row["labelled"] for row in rows) and any(row["loud"] for row in rows):
        wrong = [row for row in rows if row["loud"]]
    if wrong:
        text = "labels are not where the annotated bursts are in the signal"
        cause = "signal and labels are cut at different places, labels are inverted, or annotations are not found"
        evidence = {"windows": len(rows), "wrong": len(wrong), "first": dict(wrong[0])}
        hint = "cut signal and mask with one slice, at the model's rate"
        yield Finding("canary-labels", "labels", "error", text, evidence, cause, hint)


def _seen(trace: Trace) -> list[dict[str, Any]]:
    found = [event["result"] for event in trace.events("probe", after=True) if event["name"] == "canary"]
    if not found:
        raise Vacuous("no batch of the canary corpus was seen")
    return found


CHECKS: tuple[Check, ...] = (
    Check(
        "canary-signal",
        "Each channel's own tone arrives in its place, at its frequency",
        "reading",
        judge_signal,
        needs=("canary",),
        proves=(
            "On recordings with one tone per channel, at several rates and orders of channels, the model's input "
            "holds each tone where it belongs."
        ),
        faults=("channels in the file's order", "resampling left out", "wrong rate"),
        limits=(
            "Targets that declare the variant canary: brainbrr's own encoders. Scales are standardised away and "
            "not judged."
        ),
    ),
    Check(
        "canary-labels",
        "Labels are set where the known bursts are",
        "labels",
        judge_labels,
        needs=("canary",),
        proves=(
            "On recordings with known bursts, the labels delivered to the loss cover the bursts in the signal, to "
            "1/8 s per edge."
        ),
        faults=("labels shifted", "labels inverted", "annotations not found"),
        limits="Targets that declare the variant canary.",
    ),
)
