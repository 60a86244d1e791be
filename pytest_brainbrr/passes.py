"""How far a run came in its passes over the training data, and whether it must be cut short to show more. No torch."""

from pytest_brainbrr.checks.feeds import train_feeds, validation_feeds
from pytest_brainbrr.trace import Trace

STEPS = 2
"""Steps in a short pass: gradients are cleared, and a schedule moves, between two of them."""


def stopped_early(trace: Trace) -> bool:
    """Return whether a run ended before a first pass over its training loaders, and showed no validation or checkpoint.

    Everything that a trainer does after a pass is then unseen.
    """
    training = {feed.batch["loader"] for feed in train_feeds(trace) if feed.batch is not None}
    ended = {event["loader"] for event in trace.events("epoch", action="end")}
    return bool(training) and not training & ended and not (_validated(trace) and trace.checkpoints)


def short_passes(trace: Trace) -> dict[str, int]:
    """Return loaders that train -> batches they delivered until every optimizer had taken two steps."""
    second: dict[str, int] = {}
    for step in trace.steps:
        if step["count"] >= STEPS:
            second.setdefault(step["optimizer"], step["n"])
    until = max(second.values(), default=None)
    found: dict[str, int] = {}
    for feed in train_feeds(trace):
        if feed.batch is not None and (until is None or feed.call["n"] < until):
            found[feed.batch["loader"]] = max(found.get(feed.batch["loader"], 0), feed.batch["position"] + 1)
    return found


def shows_more(short: Trace, straight: Trace) -> bool:
    """Return whether cut passes led to a validation or a checkpoint that the straight run lacked."""
    return (_validated(short) and not _validated(straight)) or (bool(short.checkpoints) and not straight.checkpoints)


def begins_with_a_pass(trace: Trace) -> bool:
    """Return whether the first batch that trains is the first of its pass, and none before it was left out."""
    first = next((feed.batch for feed in train_feeds(trace) if feed.batch is not None), None)
    if first is None or first["position"] != 0:
        return False
    return not any("skip" in loader["sampler"].lower() for loader in trace.events("loader", id=first["loader"]))


def ends_a_pass(trace: Trace, step: int) -> bool:
    """Return whether a loader's pass ended, or a validation ran, between this step and the next."""
    return any(
        event["step"] == step
        and (event["kind"] == "epoch" or (event["kind"] == "forward" and event.get("phase") == "eval"))
        for event in (*trace.events("epoch"), *trace.events("forward"))
    )


def _validated(trace: Trace) -> bool:
    return bool(validation_feeds(trace))
