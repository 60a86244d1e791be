"""Known signals at known places: channels, rate, time axis and labels as the model and the loss get them."""

from collections.abc import Iterable, Mapping
from typing import Any

from pytest_brainbrr.checks.base import Check, Vacuous
from pytest_brainbrr.checks.iterations import finite_number
from pytest_brainbrr.results import Finding
from pytest_brainbrr.targets import Target
from pytest_brainbrr.trace import Trace

EDGE = 32
"""Samples by which an edge of the smoothed loudness may be off: 1/8 s at 256 Hz."""
SPREAD = 1.1
"""How far sizes that should be equal may lie apart: filters and windows leave their traces."""
WAYS = {
    "robust": "by the quartiles of each channel of each recording",
    "zscore": "by mean and deviation of each channel of each recording",
    "none": "in microvolts",
}


def judge_signal(traces: Mapping[str, Trace], target: Target) -> Iterable[Finding]:
    """Compare the strongest frequency of each channel with the tone it was given, and its size with that tone's."""
    trace = traces["canary"]
    seen = _seen(trace)
    given = {fact["digest"] for call in trace.events("forward") for fact in call["inputs"]}
    batches = {part["digest"] for batch in trace.events("batch") for part in batch["tensors"]}
    if not given & batches:
        raise Vacuous("no batch reached the model as it was delivered")
    rows = [pair for result in seen for pair in zip(result["cycles"], result["recordings"], strict=True)]
    strange = [cycles for cycles, recording in rows if recording is None]
    # The tones of a recording rise from the first channel to the last.
    turned = [cycles for cycles, recording in rows if recording is not None and cycles != sorted(cycles)]
    if turned:
        text, where = "channels reach the model in another order than the montage's", "channels"
        cause = "channels are taken in the order of the file"
        hint = "pick channels by name"
    elif strange:
        text, where = "tones reach the model at other frequencies than recorded", "time axis"
        cause = "a rate is taken for another: resampling is left out, or done with the wrong ratio"
        hint = "resample from each file's own rate"
    else:
        yield from _scaled(traces, seen)
        return
    evidence = {"windows": len(rows), "wrong": len(turned or strange), "first": (turned or strange)[0][:6]}
    yield Finding("canary-signal", where, "error", text, evidence, cause, hint)


def _scaled(traces: Mapping[str, Trace], seen: list[dict[str, Any]]) -> Iterable[Finding]:
    """Look for a way to standardize under which every channel of every recording has the size it should have."""
    told = _told(traces)
    spreads: dict[str, float] = {}
    for way in [told] if told in WAYS else WAYS:
        sizes = [
            size
            for result in seen
            for scales in result["scales"]
            for size in (scales or {}).get(way, ())
            if finite_number(size)
        ]
        if not sizes:
            return
        # Whatever is standardized has no unit: only microvolts are to be found again as they were.
        low, high = min(sizes), max(sizes)
        spreads[way] = max(high, 1 / max(low, 1e-12)) if way == "none" else high / max(low, 1e-12)
    if min(spreads.values()) <= SPREAD:
        return
    way = min(spreads, key=lambda way: spreads[way])
    text = "channels or recordings reach the model at sizes that no standardization of each alone explains"
    if told in WAYS:
        text = f"signals do not reach the model as configured: {WAYS[way]}"
    cause = "statistics are taken over several recordings or channels, held-out ones included, or units are mixed up"
    evidence = {"configured": told, "largest_over_smallest": round(spreads[way], 3)}
    hint = "convert to microvolts once, at the reader; standardize each channel of each recording by its own numbers"
    yield Finding("canary-signal", "scale", "error", text, evidence, cause, hint)


def _told(traces: Mapping[str, Trace]) -> str | None:
    """Return the way to standardize that a checkpoint's configuration names."""
    for trace in traces.values():
        for checkpoint in trace.checkpoints:
            for path, value in checkpoint["scalars"].items():
                if path.endswith("preprocessing/standardize"):
                    return str(value)
    return None


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
        "Each channel's own tone arrives in its place, at its frequency and size",
        "reading",
        judge_signal,
        needs=("canary",),
        wants=("straight",),
        proves=(
            "On recordings with one tone per channel, at several rates and orders of channels, the model's input "
            "holds each tone where it belongs, as large as the configured standardization makes it."
        ),
        faults=("channels in the file's order", "resampling left out", "wrong rate", "statistics over both splits"),
        limits=(
            "Targets that declare the variant canary: brainbrr's own encoders. A factor that all channels and "
            "recordings share is seen only where nothing is standardized."
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
