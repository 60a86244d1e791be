"""Two runs with one seed are one run; another seed gives another."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from pytest_brainbrr.checks.base import Check, Vacuous
from pytest_brainbrr.checks.feeds import train_feeds
from pytest_brainbrr.results import Finding
from pytest_brainbrr.targets import Target
from pytest_brainbrr.trace import Trace


def initial_weights(trace: Trace) -> dict[str, dict[str, str | None]]:
    """Return label -> parameter name -> digest, as first seen."""
    found: dict[str, dict[str, str | None]] = {}
    for event in trace.events("model"):
        found.setdefault(event["label"], {fact["name"]: fact["digest"] for fact in event["parameters"]})
    return found


def steps_digests(trace: Trace) -> list[str | None]:
    """Return the digest of all weights after each optimizer step."""
    return [event.get("digest") for event in trace.steps]


def same_weights(one: Trace, other: Trace) -> bool:
    """Return whether two runs took the same steps to bitwise the same weights."""
    return bool(one.steps) and steps_digests(one) == steps_digests(other)


def orders(trace: Trace) -> list[Any]:
    """Return the indices of each training batch."""
    return [feed.batch["base_indices"] for feed in train_feeds(trace) if feed.batch is not None]


def contents(trace: Trace) -> list[Any]:
    """Return the digests of each training batch as delivered, or of the inputs where no loader was seen."""
    return [
        [part["digest"] for part in (feed.batch["tensors"] if feed.batch is not None else feed.inputs)]
        for feed in train_feeds(trace)
    ]


def judge_repeats(traces: Mapping[str, Trace], target: Target) -> Iterable[Finding]:
    """Compare two runs with one seed: initial weights, order, content, steps; report the first that differs."""
    one, other = traces["straight"], traces["repeat"]
    if not one.steps or not other.steps:
        raise Vacuous("one of the two runs took no optimizer step")
    if same_weights(one, other) and initial_weights(one) == initial_weights(other):
        return
    seeds = [event for event in one.events("seed") if event["value"] is not None]
    if not any(event["function"] != "numpy.random.default_rng" for event in seeds):
        raise Vacuous("the trainer sets no seed, so that two runs may differ")
    where, text, cause = _first_difference(one, other)
    if where is None:
        raise Vacuous(
            "initial weights, batches and generators are equal, steps differ: operations that do not repeat bitwise"
        )
    hint = "seed torch, numpy and random before anything is built, and draw from no other generator"
    yield Finding("repeats", where, "error", text, {}, cause, hint)


def _first_difference(one: Trace, other: Trace) -> tuple[str | None, str, str]:
    if initial_weights(one) != initial_weights(other):
        text = "two runs with one seed begin with different weights"
        built = [event for event in one.events("model") if event.get("built_n") is not None]
        seeded = [event["n"] for event in one.events("seed") if event["function"] == "torch.manual_seed"]
        if built and seeded and min(event["built_n"] for event in built) < min(seeded):
            return "initial weights", text, "the model is built before the seed is set"
        return "initial weights", text, "a part of the model is initialized from a generator that is not seeded"
    if orders(one) != orders(other):
        return (
            "order of samples",
            "two runs with one seed read their samples in different orders",
            "the sampler draws from a generator that is not seeded, or iterates over a set",
        )
    if contents(one) != contents(other) and _loaders_alike(one, other):
        cause = "augmentation draws from a generator that is not seeded: numpy.random.default_rng() or the clock"
        return "content of samples", "two runs with one seed are given different samples", cause
    for name in ("torch", "numpy", "python"):
        states = [[event[name] for event in trace.events("rng", when="step")] for trace in (one, other)]
        if states[0] != states[1] and orders(one):
            return (
                f"{name} generator",
                "two runs with one seed draw different random numbers",
                "a generator is seeded from the clock or not at all",
            )
    return None, "", ""


def _loaders_alike(one: Trace, other: Trace) -> bool:
    return len(contents(one)) == len(contents(other)) and all(
        len(a) == len(b) for a, b in zip(contents(one), contents(other), strict=True)
    )


def judge_seed_matters(traces: Mapping[str, Trace], target: Target) -> Iterable[Finding]:
    """Compare two runs with two seeds: where chance is at work, something must differ."""
    one, other = traces["straight"], traces["reseeded"]
    if not one.steps or not other.steps:
        raise Vacuous("one of the two runs took no optimizer step")
    count = min(len(one.steps), len(other.steps))
    if initial_weights(one) != initial_weights(other) or steps_digests(one)[:count] != steps_digests(other)[:count]:
        return
    seeds = [[(event["function"], event["value"]) for event in trace.events("seed")] for trace in (one, other)]
    if not seeds[0] or seeds[0] != seeds[1]:
        raise Vacuous("nothing in the run depends on chance")
    text = "another seed gives the very same run"
    cause = "a fixed number is used for the seed, and the one asked for is ignored"
    evidence = {"seeded_with": sorted({str(value) for _, value in seeds[1]})[:3]}
    yield Finding(
        "seed-matters",
        "seed",
        "warning",
        text,
        evidence,
        cause,
        "hand run.seed to the seeding function, or declare seeded=False",
    )


def noisy(traces: Mapping[str, Trace]) -> Iterator[str]:
    """Yield why runs of this target cannot be compared bitwise, if they cannot."""
    if "repeat" in traces and traces["repeat"].steps and not same_weights(traces["straight"], traces["repeat"]):
        yield "two runs with one seed already differ"


CHECKS: tuple[Check, ...] = (
    Check(
        "repeats",
        "Two runs with one seed are bitwise equal",
        "determinism",
        judge_repeats,
        needs=("straight", "repeat"),
        proves="Initial weights, order and content of the samples, generators and weights after every step repeat.",
        faults=(
            "model built before the seed is set",
            "augmentation from an unseeded generator",
            "sampler from an unseeded generator",
        ),
        limits="Vacuous for trainers that set no seed, and where only operations that do not repeat bitwise differ.",
    ),
    Check(
        "seed-matters",
        "Another seed gives another run",
        "determinism",
        judge_seed_matters,
        needs=("straight", "reseeded"),
        proves="With another run.seed, initial weights or the first steps differ.",
        faults=("fixed seed in the code",),
        limits="A warning: a fixed seed may be meant. Scripts are not told a seed.",
    ),
)
