"""Clipping sees the gradients, before the step, with a limit that leaves something of them."""

from collections.abc import Iterator, Mapping

from pytest_brainbrr.checks.base import Check, Vacuous
from pytest_brainbrr.checks.iterations import Event, error, stepping
from pytest_brainbrr.results import Finding
from pytest_brainbrr.targets import Target
from pytest_brainbrr.trace import Trace

TINY = 1e-6
HUGE = 1e6
"""Clipping to such a norm only measures."""


def _clips(trace: Trace) -> list[Event]:
    """Return the calls that limit something; an infinite or a huge limit only measures the norm."""
    found = [clip for clip in trace.events("clip") if clip["limit"] is not None and clip["limit"] < HUGE]
    if not found:
        raise Vacuous(trace.lost("optimizers") or "no gradient was clipped by torch.nn.utils")
    return found


def before_step(traces: Mapping[str, Trace], target: Target) -> Iterator[Finding]:
    """Gradients are clipped between backward and step."""
    trace = traces["straight"]
    clips, found = _clips(trace), stepping(trace)
    backwards = trace.events("backward")
    late = 0
    for clip in clips:
        held = set(clip["parameters"])
        arrived = max(
            (event["n"] for event in backwards if event["n"] < clip["n"] and held.intersection(event["touched"])),
            default=-1,
        )
        used = [
            turn
            for own in found.values()
            for turn in own
            if arrived < turn.step["n"] < clip["n"]
            and held.intersection(turn.parameters)
            and not turn.step["in_backward"]
        ]
        late += arrived >= 0 and bool(used) and clip["with_grad"] > 0
    if late and late >= len(clips) / 2:
        yield error(
            "clip-before-step",
            "clip",
            "gradients were clipped after the step that used them",
            cause="clip_grad_norm_ stands behind optimizer.step()",
            hint="order: backward, unscale, clip, step",
            clips=late,
        )


def has_gradients(traces: Mapping[str, Trace], target: Target) -> Iterator[Finding]:
    """Every clipping is given parameters that have gradients."""
    trace = traces["straight"]
    clips = _clips(trace)
    nothing = [clip for clip in clips if clip["given"] == 0]
    some = [clip for clip in clips if clip["given"]]
    if nothing and trace.steps:
        yield error(
            "clip-sees-gradients",
            "clip",
            "clipping was given no parameter at all: gradients are not limited",
            cause="a generator (model.parameters()) kept in a variable is exhausted after its first use"
            if some
            else "the list of parameters to clip is empty",
            hint="call model.parameters() anew each time, or keep a list",
            clips=len(nothing),
            of=len(clips),
        )
    elif all(clip["with_grad"] == 0 for clip in clips) and trace.steps:
        yield error(
            "clip-sees-gradients",
            "clip",
            "no clipped parameter had a gradient",
            cause="clipping stands before backward, after zero_grad, or is given another model's parameters",
            hint="clip the parameters of the optimizer, between backward and step",
            clips=len(clips),
        )


def leaves_something(traces: Mapping[str, Trace], target: Target) -> Iterator[Finding]:
    """The limit of clipping is no number that wipes gradients out."""
    trace = traces["straight"]
    clips = [clip for clip in _clips(trace) if clip["with_grad"]]
    tiny = [clip for clip in clips if clip["limit"] <= TINY and (clip["norm"] is None or clip["norm"] > clip["limit"])]
    if clips and len(tiny) == len(clips):
        yield error(
            "clip-limit",
            "clip",
            "clipping shrinks every gradient to almost nothing",
            cause="the limit is a tolerance (1e-9), 0 or negative, not a norm",
            hint="limits of usual trainers lie between 0.1 and 100",
            limit=tiny[0]["limit"],
            norm=tiny[0]["norm"],
        )


CHECKS: tuple[Check, ...] = (
    Check(
        "clip-before-step",
        "Gradients are clipped before they are used.",
        "clipping",
        before_step,
        proves="No step came between a backward and the clipping of its gradients.",
        faults=("clip after step",),
        limits="Clipping by hand is not seen.",
    ),
    Check(
        "clip-sees-gradients",
        "Clipping is given parameters with gradients.",
        "clipping",
        has_gradients,
        proves="No call of clip_grad_* came with an empty list, and not all of them found no gradient.",
        faults=("an exhausted generator of parameters", "clip before backward"),
        limits="A list that leaves out some parameters may be meant and is not judged.",
    ),
    Check(
        "clip-limit",
        "Clipping leaves something of the gradients.",
        "clipping",
        leaves_something,
        proves="The limit is above 1e-6, or gradients are below it.",
        faults=("max_norm=1e-9", "a limit of 0"),
        limits="Small limits that still train are a matter of taste and not judged.",
    ),
)
