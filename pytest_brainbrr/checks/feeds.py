"""Which batch fed which model call, and which of its tensors are labels. Shared by the checks of the data path."""

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from pytest_brainbrr.trace import Trace

Fact = Mapping[str, Any]

SMALLEST_FLOAT_ROW = 4
SMALLEST_INTEGER_ROW = 32
"""Rows with fewer elements may be equal by chance and identify nothing."""


ANSWER = re.compile(r"(^|[._])(labels?|targets?)$", re.IGNORECASE)
"""Names under which a model that computes its own loss is given the labels."""

LEAST_HELPED = 3
"""At fewer steps, calls with ever new data may be a validation that has not come round yet."""


@dataclass(frozen=True, eq=False)
class Feed:
    """A model call with the loader batch it was fed from (None: no loader, or not known)."""

    call: dict[str, Any]
    batch: dict[str, Any] | None
    answers: frozenset[str] = frozenset()
    """Places of the inputs that are labels, given to a model that computes its own loss."""

    @property
    def inputs(self) -> list[Fact]:
        """Tensors the model was called with, labels left out."""
        return [fact for fact in self.call["inputs"] if fact["at"] not in self.answers]

    @property
    def signals(self) -> list[tuple[Fact, Fact]]:
        """Pairs (tensor of the batch, model input made of it): equal bytes, else equal shapes where that is unique."""
        if self.batch is None:
            return []
        parts, pairs = list(self.batch["tensors"]), []
        for given in self.inputs:
            same = [part for part in parts if same_bytes(part, given)]
            if not same:
                same = [part for part in parts if list(part["shape"]) == list(given["shape"])]
                same = same if len(same) == 1 else []
            if same:
                pairs.append((same[0], given))
        return pairs

    @property
    def labels(self) -> list[Fact]:
        """Tensors of the batch that the model was not called with; empty if none of its inputs comes from the batch."""
        if self.batch is None:
            return []
        taken = {part["at"] for part, _ in self.signals}
        if not taken:
            # The input was cut, stacked or moved about: the largest part is the signal, as a rule.
            sizes = {part["at"]: elements(part) for part in self.batch["tensors"]}
            if not sizes:
                return []
            taken = {max(sizes, key=lambda at: sizes[at])}
        rows = self.batch["size"]
        return [part for part in self.batch["tensors"] if part["at"] not in taken and part["shape"][:1] == [rows]]


def elements(fact: Fact) -> int:
    """Return how many numbers a tensor holds."""
    count = 1
    for length in fact["shape"]:
        count *= length
    return count


def same_bytes(one: Fact, other: Fact) -> bool:
    """Return whether two tensors are bitwise equal, as far as digests can tell."""
    return (
        one.get("digest") is not None
        and one["digest"] == other.get("digest")
        and one["dtype"] == other["dtype"]
        and list(one["shape"]) == list(other["shape"])
    )


@lru_cache(maxsize=32)
def feeds(trace: Trace) -> tuple[Feed, ...]:
    """Return every model call with its batch.

    A batch whose bytes the call was given wins over the one delivered last: some engines fetch one batch ahead.
    """
    batches = trace.events("batch", after=True)
    inside = _targets_inside(trace)
    by_place = {(batch["epoch"], batch["position"]): batch for batch in batches}
    by_digest: dict[str, list[dict[str, Any]]] = {}
    for batch in batches:
        for part in batch["tensors"]:
            if part.get("digest") is not None:
                by_digest.setdefault(part["digest"], []).append(batch)
    found = []
    for call in trace.events("forward"):
        source: dict[str, Any] | None = None
        answers = _answers(call, inside.get(call["call"], set()))
        for given in sorted(call["inputs"], key=lambda fact: fact["at"] in answers):
            if given.get("digest") is None or elements(given) < SMALLEST_FLOAT_ROW:
                continue
            before = [one for one in by_digest.get(given["digest"], []) if one["n"] < call["n"]]
            if before:
                source = before[-1]
                break
        if source is None and call.get("loader"):
            source = by_place.get((call["loader"][0], call["loader"][1]))
        found.append(Feed(call, source, answers))
    return tuple(found)


def _targets_inside(trace: Trace) -> dict[int, set[Any]]:
    """Return call -> digests of the targets of losses computed within it; it is written when it ends."""
    calls, found = trace.events("forward"), dict[int, set[Any]]()
    losses = [loss for loss in trace.events("loss") if loss.get("inside") is not None]
    place = 0
    for call in calls:
        while place < len(losses) and losses[place]["n"] < call["n"]:
            target = argument(losses[place], "target") or {}
            found.setdefault(call["call"], set()).add(target.get("digest"))
            place += 1
    return found


def _answers(call: Mapping[str, Any], targets: set[Any]) -> frozenset[str]:
    """Return the places of inputs that are labels: by their name, or because a loss within the call was given them."""
    first, *others = [fact["at"] for fact in call["inputs"]] or [""]
    named = {at for at in (first, *others) if ANSWER.search(at)}
    within = {fact["at"] for fact in call["inputs"] if fact["at"] in others and fact.get("digest") in targets - {None}}
    return frozenset(named | within) if len(named | within) < len(call["inputs"]) else frozenset()


@lru_cache(maxsize=32)
def train_feeds(trace: Trace) -> tuple[Feed, ...]:
    """Return the calls that a backward reached, with their batches."""
    return tuple(feed for feed in feeds(trace) if feed.call["phase"] == "train")


@lru_cache(maxsize=32)
def validation_feeds(trace: Trace) -> tuple[Feed, ...]:
    """Return the calls of validation.

    Calls without gradients that stand beside training are left out: a teacher on the training batch, samples drawn from
    a generator, a second look at the same input. They share the pass over the loader with a call that trains, or, where
    there is no loader, the input. So are dry runs before the first training call, from which layers take their shapes:
    calls that no loader of their own fed, unless the same shape is evaluated again later on. So are calls that help
    with every step and never come back to the same data: an agent that acts, pseudo labels, targets of a slow copy.
    """
    training = train_feeds(trace)
    passes = {feed.batch["epoch"] for feed in training if feed.batch is not None}
    loaders = {feed.batch["loader"] for feed in training if feed.batch is not None}
    inputs = {(feed.call["step"], given.get("digest")) for feed in training for given in feed.inputs}
    # A second look at a batch may also come right after its step (was it for the better?), in the mode it trained in.
    inputs_before = {(step + 1, given) for step, given in inputs}
    modes_matter = any(feed.call["phase"] == "eval" and not feed.call["training"] for feed in feeds(trace))
    begun = training[0].call["n"] if training else -1
    again = {_shapes(feed) for feed in feeds(trace) if feed.call["phase"] == "eval" and feed.call["n"] > begun}
    helping = _helping(trace)
    found = []
    for feed in feeds(trace):
        if feed.call["call"] in helping:
            continue
        if feed.call["phase"] != "eval" or (modes_matter and feed.call["training"]):
            continue
        own = feed.batch is not None and feed.batch["loader"] not in loaders
        recurs = feed.batch is None and _shapes(feed) in again
        if feed.call["n"] < begun and (feed.call["training"] or not (own or recurs)):
            continue
        if feed.batch is not None and feed.batch["epoch"] in passes:
            continue
        if feed.batch is not None and feed.call["training"] and feed.batch["loader"] in loaders:
            continue  # Statistics of normalization are renewed on training data.
        known = inputs | inputs_before if feed.call["training"] else inputs
        if feed.batch is None and any((feed.call["step"], one.get("digest")) in known for one in feed.inputs):
            continue
        found.append(feed)
    return tuple(found)


def _helping(trace: Trace) -> set[int]:
    """Return the calls without loader, gradients and loss, at three steps or more, that never see one input again."""
    scored = {loss.get("input_from") for loss in trace.events("loss") if not loss["grad_enabled"]}
    groups: dict[Any, list[Feed]] = {}
    for feed in feeds(trace):
        if feed.call["phase"] == "eval" and feed.batch is None and feed.inputs:
            groups.setdefault((feed.call["model"], _shapes(feed)), []).append(feed)
    found: set[int] = set()
    for group in groups.values():
        digests = [feed.inputs[0].get("digest") for feed in group]
        calls = {feed.call["call"] for feed in group}
        if (
            len({feed.call["step"] for feed in group}) >= LEAST_HELPED
            and None not in digests
            and len(set(digests)) == len(digests)
            and not calls & scored
        ):
            found |= calls
    return found


def _shapes(feed: Feed) -> tuple[tuple[int, ...], ...]:
    return tuple(tuple(given["shape"]) for given in feed.inputs)


def validation_passes(trace: Trace) -> list[list[Feed]]:
    """Return the calls of validation, grouped by pass over a loader, or by the steps between which they stand."""
    groups: dict[Any, list[Feed]] = {}
    for feed in validation_feeds(trace):
        key = ("pass", feed.batch["epoch"]) if feed.batch is not None else ("step", feed.call["step"])
        groups.setdefault(key, []).append(feed)
    return list(groups.values())


def limited(trace: Trace, name: str) -> bool:
    """Return whether a framework's trainer was told to use a part of the batches only: the limit, or overfitting."""
    values = [event["limits"].get(key) for event in trace.events("declared") for key in (name, "overfit_batches")]
    return any(value and not (isinstance(value, float) and value == 1.0) for value in values)


def telling_rows(fact: Fact) -> dict[str, int]:
    """Return digest -> row for the rows that identify their sample; empty if rows may be equal by chance."""
    if not fact.get("samples") or fact.get("values") is not None or fact.get("constant"):
        return {}
    length = elements(fact) // max(1, fact["shape"][0])
    if length < (SMALLEST_FLOAT_ROW if "float" in fact["dtype"] else SMALLEST_INTEGER_ROW):
        return {}
    return _unique(fact["samples"], kind=f"{fact['dtype']}:{list(fact['shape'][1:])}")


def telling_forms(fact: Fact) -> dict[str, int]:
    """Return form -> row: equal forms are one signal up to scale and offset; empty for tokens and short rows."""
    if not fact["shape"] or "float" not in fact["dtype"] or elements(fact) < SMALLEST_INTEGER_ROW * fact["shape"][0]:
        return {}
    return _unique(fact.get("forms") or [], kind=f"form:{list(fact['shape'][1:])}")


def _unique(digests: list[str | None], kind: str) -> dict[str, int]:
    often = Counter(digests)
    return {f"{kind}:{digest}": row for row, digest in enumerate(digests) if digest is not None and often[digest] == 1}


def losses_of(trace: Trace, feed: Feed) -> list[dict[str, Any]]:
    """Return the loss calls that this model call fed: by storage, by the graph, or, without a graph, by their place."""
    number = feed.call["call"]
    losses = trace.events("loss")
    linked = [loss for loss in losses if loss.get("input_from") == number]
    unknown = [loss for loss in losses if loss.get("input_from") is None]
    if linked or not unknown:
        return linked
    reached = {
        call
        for backward in trace.events("backward")
        if number in backward["forwards"] and len(backward["forwards"]) == 1
        for call in backward["losses"]
    }
    if reached:
        return [loss for loss in unknown if loss["call"] in reached]
    end = min((other.call["n"] for other in feeds(trace) if other.call["n"] > feed.call["n"]), default=float("inf"))
    return [loss for loss in unknown if feed.call["n"] < loss["n"] < end]


def argument(loss: Mapping[str, Any], name: str) -> Fact | None:
    """Return the facts of one argument of a loss call."""
    for fact in loss["args"]:
        if fact["at"] == name:
            return dict(fact)
    return None
