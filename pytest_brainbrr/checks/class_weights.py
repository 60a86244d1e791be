"""Weights of classes in a loss: the rare ones do not count less than the frequent ones."""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from itertools import combinations

from pytest_brainbrr.checks.base import Check, Vacuous
from pytest_brainbrr.checks.iterations import argument, finite_number, warning
from pytest_brainbrr.checks.loss import training_losses
from pytest_brainbrr.results import Finding
from pytest_brainbrr.targets import Target
from pytest_brainbrr.trace import Trace

RARER = 1.5
"""How many times as frequent a class must be to be called so."""
HEAVIER = 1.2
LIGHT = 0.2
"""Weight of a rare positive, in weights of a negative, that no recipe asks for (focal loss comes down to 1/3)."""
LEAST = 32
"""Labels that must have been seen."""


def judge_weights(traces: Mapping[str, Trace], target: Target) -> Iterator[Finding]:
    """Weights of rare positives are not below 1, and those of rare classes not below those of frequent ones."""
    trace = traces["straight"]
    known = [_of_positives(trace), _by_hand(trace), _of_classes(trace)]
    if all(found is None for found in known):
        raise Vacuous("no loss with pos_weight, or with weights per class, was called")
    for found in known:
        yield from found or ()


def _of_positives(trace: Trace) -> list[Finding] | None:
    weighted = [
        (loss, fact)
        for loss in training_losses(trace)
        if (fact := argument(loss, "pos_weight")) and finite_number(fact["max"])
    ]
    if not weighted:
        return None
    shares = [loss["positives"] for loss, _ in weighted if loss["positives"] is not None]
    heaviest = max(fact["max"] for _, fact in weighted)
    if not shares or sum(shares) / len(shares) >= 0.4 or heaviest >= 1:
        return []
    return [
        warning(
            "positive-weight",
            weighted[0][0]["function"],
            "positives are rare, and their weight is below 1: they count even less",
            cause="the ratio is upside down: positives / negatives instead of negatives / positives",
            hint="pos_weight = negatives / positives",
            share=sum(shares) / len(shares),
            pos_weight=heaviest,
        )
    ]


def _by_hand(trace: Trace) -> list[Finding] | None:
    """Look at tables of binary losses that were multiplied with a weight by class."""
    grads = {event["call"]: event for event in trace.events("loss_grad")}
    shares, ratios, function = [], [], ""
    for loss in training_losses(trace):
        elements = (grads.get(loss["call"]) or {}).get("elements") or {}
        sides = [side for side in (elements.get("positive"), elements.get("negative")) if side]
        if not loss["function"].startswith("binary_cross_entropy") or len(sides) < 2 or loss["positives"] is None:
            continue
        # Weights that differ within a class follow the prediction, as those of a focal loss do.
        if all(abs(high - low) <= 1e-3 * abs(high) for low, high in sides) and sides[1][1]:
            function = str(loss["function"])
            shares.append(loss["positives"])
            ratios.append(abs(sides[0][1] / sides[1][1]))
    if not ratios:
        return None
    if sum(shares) / len(shares) >= 0.4 or max(ratios) >= LIGHT:
        return []
    return [
        warning(
            "positive-weight",
            function,
            "positives are rare, and each of them weighs much less than a negative",
            cause="the ratio is upside down: positives / negatives instead of negatives / positives",
            hint="weigh positives by negatives / positives",
            share=sum(shares) / len(shares),
            weight=max(ratios),
        )
    ]


def _of_classes(trace: Trace) -> list[Finding] | None:
    """Compare the weights of classes with how often they occur, over all labels of the run."""
    counts: dict[tuple[str, tuple[float, ...]], list[int]] = defaultdict(list)
    for loss in training_losses(trace):
        classes = loss.get("classes")
        if classes:
            key = (str(loss["function"]), tuple(classes["weights"]))
            before = counts[key] or [0] * len(classes["counts"])
            counts[key] = [one + other for one, other in zip(before, classes["counts"], strict=True)]
    found = []
    for (function, weights), seen in counts.items():
        if sum(seen) < LEAST:
            continue
        # A weight of 0 leaves a class out on purpose.
        present = [(count, weight) for count, weight in zip(seen, weights, strict=True) if count and weight > 0]
        pairs = [(rare[1], often[1]) for rare, often in combinations(sorted(present), 2) if often[0] >= RARER * rare[0]]
        if pairs and all(often >= HEAVIER * rare for rare, often in pairs):
            found.append(
                warning(
                    "positive-weight",
                    function,
                    "the rarer a class, the less it weighs: rare classes count even less",
                    cause="weights are proportional to the counts instead of their inverse",
                    hint="weight = number of samples / (number of classes * count)",
                    counts=seen[:8],
                    weights=[round(weight, 4) for weight in weights[:8]],
                )
            )
    return found if counts else None


CHECKS: tuple[Check, ...] = (
    Check(
        "positive-weight",
        "Rare classes are not weighted down.",
        "loss",
        judge_weights,
        proves="pos_weight is at least 1 where positives are rare; weights of classes do not grow with their counts, "
        "nor do those that a table of losses is multiplied with.",
        faults=("pos_weight upside down", "weights by label upside down", "class weights proportional to the counts"),
        limits="A statistic of few batches: warns only. Weights of classes are judged where every rarer class weighs "
        "less, in cross_entropy and nll_loss with numbers of classes as targets.",
    ),
)
