"""Where one training ends and another begins within a run: folds, trials, phases."""

from collections.abc import Iterable
from functools import lru_cache

from pytest_brainbrr.checks.feeds import Feed
from pytest_brainbrr.trace import Trace


@lru_cache(maxsize=16)
def borders(trace: Trace) -> tuple[int, ...]:
    """Return at which events an optimizer was made after one had stepped: another training begins there."""
    first = min((step["n"] for step in trace.steps), default=None)
    made: dict[str, int] = {}
    for event in trace.events("optimizer"):
        made.setdefault(event["id"], event["n"])
    return tuple(sorted(n for n in made.values() if first is not None and n > first))


def stage(trace: Trace, n: int) -> int:
    """Return the number of the training that an event belongs to."""
    return sum(border <= n for border in borders(trace))


def of_same_stages(trace: Trace, training: Iterable[Feed], group: Iterable[Feed]) -> list[Feed]:
    """Return what trained in the stages that a group was evaluated in, or everything if nothing did."""
    training = list(training)
    stages = {stage(trace, feed.call["n"]) for feed in group}
    return [feed for feed in training if stage(trace, feed.call["n"]) in stages] or training


def of_same_model(training: Iterable[Feed], group: list[Feed]) -> list[Feed]:
    """Return what trained the model that a group evaluates (cross-validation trains several), or everything."""
    models = {feed.call["model"] for feed in group}
    own = [feed for feed in training if feed.call["model"] in models]
    return own or list(training)
