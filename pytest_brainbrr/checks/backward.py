"""From backward to step: gradients are fresh, arrive, are neither lost nor reused, and accumulate as they should."""

import itertools
from collections import Counter
from collections.abc import Iterator, Mapping

from pytest_brainbrr.checks.base import Check, Vacuous
from pytest_brainbrr.checks.iterations import (
    Event,
    Turn,
    calls,
    declared,
    error,
    finite_number,
    loss_calls,
    optimizer_name,
    places,
    same_batch,
    stepping,
    straight,
    warning,
)
from pytest_brainbrr.results import Finding
from pytest_brainbrr.targets import Target
from pytest_brainbrr.trace import Trace

NEAR = 1e-2
"""How exactly a share of gradients must be one by the number of batches."""


def _plain(found: list[Turn]) -> list[Turn]:
    """Return the turns of an optimizer that is not fused into backward."""
    return [turn for turn in found if not turn.step["in_backward"]]


def cleared(traces: Mapping[str, Trace], target: Target) -> Iterator[Finding]:
    """Gradients that a step has used are cleared before the next backward adds to them."""
    trace = straight(traces)
    judged = False
    for optimizer, found in stepping(trace).items():
        stale = 0
        for turn in _plain(found):
            if turn.before is None or not turn.backwards:
                continue
            used = {fact["id"] for fact in turn.before["parameters"] if fact["grad"] == "finite"}
            reaching = [backward for backward in turn.backwards if backward["function"] == "backward"]
            if not used or not reaching:
                continue
            judged = True
            kept = used.intersection(*(backward["nonzero_before"] for backward in reaching), reaching[0]["touched"])
            wiped = [
                event
                for event in trace.events("zero_grad")
                if turn.before["n"] < event["n"] < turn.step["n"] and event["what"] == optimizer
            ]
            stale += bool(kept) and not wiped
        if stale:
            yield error(
                "gradients-cleared",
                optimizer_name(trace, optimizer),
                "gradients of the last step were still there when the next ones were added: every step uses the sum "
                "of all batches so far",
                cause="optimizer.zero_grad() is missing, or clears another optimizer's parameters",
                hint="call optimizer.zero_grad() between a step and the next backward",
                steps=stale,
            )
    if not judged:
        raise Vacuous("no optimizer took two steps with backward calls of its own")


def fresh(traces: Mapping[str, Trace], target: Target) -> Iterator[Finding]:
    """Every step uses gradients that are newer than the step before."""
    trace = straight(traces)
    judged = False
    for optimizer, found in stepping(trace).items():
        stale = empty = 0
        for turn in _plain(found):
            if turn.before is None:
                continue
            judged = True
            empty += _without_backward(trace, turn)
            old = {fact["id"]: fact["grad_norm"] for fact in turn.before["parameters"] if fact["grad"] == "finite"}
            new = {fact["id"]: fact["grad_norm"] for fact in turn.step["parameters"] if fact["grad"] == "finite"}
            anything = any(turn.before["n"] < event["n"] < turn.step["n"] for event in trace.events("backward"))
            # Gradients written by hand differ from step to step; the same numbers again are the same gradients.
            stale += not anything and bool(new) and new == old
        if stale:
            yield error(
                "gradients-fresh",
                optimizer_name(trace, optimizer),
                "a step was taken on the gradients of the step before: there was no backward in between",
                cause="optimizer.step() is called twice, or backward is skipped on some iterations",
                hint="call step once per backward (or per group of accumulated ones)",
                steps=stale,
            )
        if empty and any(turn.backwards for turn in found):
            yield error(
                "gradients-fresh",
                optimizer_name(trace, optimizer),
                "a step was taken without any gradient: the model was called for it, and backward was not",
                cause="backward is skipped on some iterations, and step is not",
                hint="call backward before every step",
                steps=empty,
                of=len(found),
            )
    if not judged:
        raise Vacuous("no optimizer took two steps")


def _without_backward(trace: Trace, turn: Turn) -> bool:
    """Return whether the model was called to be trained between two steps, and the second found no gradient."""
    if turn.before is None or turn.step["closure"] or any(fact["grad"] != "none" for fact in turn.step["parameters"]):
        return False
    between = trace.between(turn.before, turn.step, "forward", "backward")
    held = {fact["model"] for identity, fact in trace.parameters.items() if identity in turn.parameters}
    idle = [event for event in between if event["kind"] == "forward" and event.get("phase") == "unused"]
    return all(event["kind"] == "forward" for event in between) and any(event["model"] in held for event in idle)


def arrive(traces: Mapping[str, Trace], target: Target) -> Iterator[Finding]:
    """What backward computed is what the step gets: not zeroed, not dropped in between."""
    trace = straight(traces)
    judged = False
    for optimizer, found in stepping(trace).items():
        lost, rounds, wiped = 0, 0, Counter[str]()
        for turn in _plain(found):
            arrived, facts = _arrived(turn), turn.parameters
            if not arrived or any(backward["raw_nonfinite"] for backward in turn.backwards):
                continue
            judged, rounds = True, rounds + 1
            lost += all(facts[identity]["grad"] in {"none", "zero"} for identity in arrived)
            wiped.update(identity for identity in arrived if facts[identity]["grad"] == "zero")
        if lost:
            yield error(
                "gradients-arrive",
                optimizer_name(trace, optimizer),
                "gradients were computed, and gone when the optimizer stepped",
                cause="zero_grad() stands between backward and step",
                hint="order: zero_grad, backward, clip, step",
                steps=lost,
                of=len(found),
            )
            continue
        # Gradients taken away (None) may rest on purpose for a while; zeros in every step go through the optimizer.
        part = [identity for identity, count in wiped.items() if count == rounds >= 3]
        part = [identity for identity in part if not declared(trace.name(identity), target.frozen)]
        if part:
            yield error(
                "gradients-arrive",
                places(trace, part),
                "gradients were computed for a part of the model, and were zeros when the optimizer stepped",
                cause="a callback, a mask or a zero_grad between backward and step wipes them out",
                hint="let gradients be; to freeze a part, set requires_grad=False",
                parameters=len(part),
                steps=rounds,
            )
    if not judged:
        raise Vacuous("no step after a backward of its own was seen")


def _arrived(turn: Turn) -> set[str]:
    """Return the parameters of a step to which the last backward that reached them gave a gradient other than zero."""
    last: dict[str, Event] = {}
    for backward in turn.backwards:
        if backward["function"] == "backward":
            last.update(dict.fromkeys(backward["touched"], backward))
    return {identity for identity, backward in last.items() if backward["raw_norms"].get(identity)} & set(
        turn.parameters
    )


def accumulated(traces: Mapping[str, Trace], target: Target) -> Iterator[Finding]:
    """Gradients of several batches add up until the step: none is cleared unused, their mean is what is stepped on."""
    trace = straight(traces)
    by_call, losses = calls(trace), loss_calls(trace)
    grads = {event["call"]: event for event in trace.events("loss_grad")}
    judged = False
    for optimizer, found in stepping(trace).items():
        several = [(turn, batches) for turn in _plain(found) if len(batches := _micro_batches(turn, by_call)) > 1]
        if (
            target.accumulation not in (None, 1)
            and not several
            and len(found) > 1
            and any(turn.backwards for turn in found)
        ):
            judged = True
            if len(stepping(trace)) == 1 and all(len(turn.backwards) == 1 for turn in _plain(found)):
                yield error(
                    "gradients-accumulate",
                    optimizer_name(trace, optimizer),
                    "every backward is followed by a step, although accumulation is declared",
                    cause="the condition around optimizer.step() is always true",
                    hint="step on every `accumulation`-th backward",
                    declared=target.accumulation,
                )
            continue
        if len(several) < 2:
            continue
        judged = True
        dropped = sum(_dropped(turn, batches) for turn, batches in several)
        if dropped >= len(several):
            planned = target.accumulation not in (None, 1) or all(
                _divided(turn, batches, losses, grads) for turn, batches in several
            )
            # Gradients may be computed to be measured only: without a sign of accumulation nothing says that they are
            # to be summed.
            yield (error if planned else warning)(
                "gradients-accumulate",
                optimizer_name(trace, optimizer),
                "gradients of all but the last batch were cleared before any step used them",
                cause="zero_grad() is called for every batch although steps are taken for several",
                hint="call zero_grad() after the step only",
                dropped=dropped,
                steps=len(several),
            )
            continue
        undivided = [turn for turn, batches in several if _undivided(turn, batches, losses, grads)]
        if len(undivided) == len(several):
            yield error(
                "gradients-accumulate",
                optimizer_name(trace, optimizer),
                "gradients of several batches are summed, and never divided by their number",
                cause="loss / accumulation is missing",
                hint="divide the loss by the number of batches per step before backward",
                batches=len(several[0][1]),
                steps=len(several),
            )
            continue
        shares = [_share(batches, losses, grads) * len(batches) for _, batches in several]
        if any(abs(share - 1.0) < 1e-4 for share in shares) and any(share > 1.0 + 1e-4 for share in shares):
            yield error(
                "gradients-accumulate",
                optimizer_name(trace, optimizer),
                "some steps use more batches than the loss is divided by: batches left over from before are added",
                cause="batches left over at the end of an epoch are carried into the first step of the next",
                hint="step on what is left at the end of an epoch, or clear the gradients there",
                batches=[len(batches) for _, batches in several],
            )
    if not judged:
        raise Vacuous("no two steps were taken on several batches each")


def _micro_batches(turn: Turn, by_call: Mapping[int, Event]) -> list[Event]:
    """Return the backward calls of a turn if each came of a model call on another batch of one loader, else nothing."""
    chosen = [backward for backward in turn.backwards if backward["function"] == "backward"]
    fed = []
    for backward in chosen:
        own = [by_call[number] for number in backward["forwards"] if number in by_call]
        if len(own) != 1:
            return []
        fed.append(own[0])
    if len({call["model"] for call in fed}) != 1 or any(call["loader"] is None for call in fed):
        return []
    if len({call["loader"][0] for call in fed}) > 2 or any(same_batch(a, b) for a, b in itertools.pairwise(fed)):
        return []
    return chosen


def _dropped(turn: Turn, batches: list[Event]) -> bool:
    """Return whether gradients of an earlier batch were gone when the next backward began."""
    held = set(turn.parameters)
    for earlier, later in itertools.pairwise(batches):
        left = {identity for identity in held & set(earlier["touched"]) if earlier["raw_norms"].get(identity)}
        if (
            left
            and not earlier["raw_nonfinite"]
            and left.isdisjoint(later["nonzero_before"])
            and later["grads_before"]["nonzero"] == 0
        ):
            return True
    return False


def _share(batches: list[Event], losses: Mapping[int, Event], grads: Mapping[int, Event]) -> float:
    """Return the coefficient with which each batch's mean enters the sum, if it is one for all of them; else 0."""
    shares = {
        round(grads[number]["output_grad"] / (backward["scale"] or 1.0), 7)
        for backward in batches
        for number in backward["losses"]
        if number in losses
        and losses[number]["reduction"] == "mean"
        and finite_number(grads.get(number, {}).get("output_grad"))
    }
    return shares.pop() if len(shares) == 1 else 0.0


def _divided(turn: Turn, batches: list[Event], losses: Mapping[int, Event], grads: Mapping[int, Event]) -> bool:
    """Return whether a loss of this turn enters with a coefficient below one, or its gradients are made smaller."""
    for backward in batches:
        for number in backward["losses"]:
            share = grads.get(number, {}).get("output_grad")
            if finite_number(share) and number in losses and losses[number]["reduction"] in {"mean", "none"}:
                share = abs(share / (backward["scale"] or 1.0))
                if abs(share * len(batches) - 1.0) < NEAR:
                    return True
    return _shrunk(turn, batches)


def _shrunk(turn: Turn, batches: list[Event]) -> bool:
    """Return whether every gradient is smaller by the number of batches when it is used."""
    last, facts = batches[-1], turn.parameters
    ratios = [
        facts[identity]["grad_norm"] / norm * (last["scale"] or 1.0)
        for identity, norm in last["raw_norms"].items()
        if norm and identity in facts and facts[identity]["grad_norm"]
    ]
    return bool(ratios) and all(abs(ratio * len(batches) - 1.0) < NEAR for ratio in ratios)


def _undivided(turn: Turn, batches: list[Event], losses: Mapping[int, Event], grads: Mapping[int, Event]) -> bool:
    """Return whether a mean over each batch enters the sum with coefficient 1, and the sum is not divided later."""
    for backward in batches:
        known = [number for number in backward["losses"] if number in losses and number in grads]
        whole = [
            number
            for number in known
            if losses[number]["reduction"] in {"mean", "none"}
            and finite_number(grads[number].get("output_grad"))
            and abs(grads[number]["output_grad"] / (backward["scale"] or 1.0) - 1.0) < 1e-5
        ]
        if not whole:
            return False
    return not _shrunk(turn, batches)


CHECKS: tuple[Check, ...] = (
    Check(
        "gradients-arrive",
        "What backward computed is what the step gets.",
        "backward",
        arrive,
        cut=True,
        proves="No step found the gradients of its own backward gone.",
        faults=("zero_grad between backward and step",),
        limits="Gradients that were not finite may be dropped on purpose and are not judged.",
    ),
    Check(
        "gradients-cleared",
        "Gradients are cleared between steps.",
        "backward",
        cleared,
        cut=True,
        proves="No gradient that a step used was still there when the next backward began.",
        faults=("zero_grad forgotten", "zero_grad of another optimizer or model"),
        limits="Judged per optimizer: what one loss leaves in the other's parameters is usual in adversarial training.",
    ),
    Check(
        "gradients-fresh",
        "No step reuses the gradients of the step before.",
        "backward",
        fresh,
        cut=True,
        proves="Between two steps on equal gradients there was a backward.",
        faults=("backward skipped on odd steps", "step called twice", "step without any gradient"),
        limits="Gradients written by hand are told from old ones by their norms.",
    ),
    Check(
        "gradients-accumulate",
        "Gradients of several batches add up to their mean.",
        "backward",
        accumulated,
        proves="No batch's gradients were cleared unused, and means over batches were divided by their number.",
        faults=(
            "zero_grad in every micro-batch",
            "loss not divided by the accumulation",
            "batches left over carried into the next epoch",
            "accumulation declared and not done",
        ),
        limits=(
            "Seen where micro-batches come from one torch loader and the loss from torch.nn.functional. Judged by the "
            "coefficient of each loss in what backward was called on, not by computing gradients again for one large "
            "batch: that would also judge how micro-batches of unequal size are weighted, in which sound trainers "
            "differ. Cleared gradients only warn where no loss is divided and no accumulation declared: some are "
            "computed to be measured."
        ),
    ),
)
