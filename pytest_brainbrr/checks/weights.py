"""What should move moves, what should not stays: parameters, frozen ones, buffers of normalization layers."""

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from typing import Any

from pytest_brainbrr.checks.base import Check, Vacuous
from pytest_brainbrr.checks.iterations import declared
from pytest_brainbrr.results import Finding
from pytest_brainbrr.targets import Target
from pytest_brainbrr.trace import Trace

COUNTER = "num_batches_tracked"
ROUNDING = 1e-5
"""Share of the largest gradient of a step below which a gradient is the rounding error of zero."""


def judge_weight_changes(traces: Mapping[str, Trace], target: Target) -> Iterator[Finding]:
    """Judge every parameter and normalization buffer over the whole run."""
    trace = traces["straight"]
    lost = trace.lost("models", "optimizers", "gradients")
    if lost:
        raise Vacuous(lost)
    states = trace.events("weights")
    if len(states) < 2 or not trace.events("backward"):
        raise Vacuous("the weights of no trained model were seen at two moments")
    moved = {identity for state in states for identity in state["moved"]}
    moved |= {fact["id"] for step in trace.steps for fact in step["parameters"] if fact["moved"]}
    yield from _still(trace, target, moved)
    yield from _stopped(trace)
    yield from _frozen(trace, target, moved)
    yield from _resting(trace, target, moved)
    yield from _buffers(trace, {identity for state in states for identity in state["moved_buffers"]})


def _still(trace: Trace, target: Target, moved: set[str]) -> Iterator[Finding]:
    touched: dict[str, int] = {}
    for event in trace.events("backward", raised=None):
        zero = set(event["raw_zero"]) | set(event["raw_nonfinite"])
        for identity in event["touched"]:
            touched[identity] = touched.get(identity, 0) + (identity not in zero)
    optimized = trace.optimized
    trained = {trace.parameters[identity]["model"] for identity in optimized if identity in trace.parameters}
    still = {
        identity: fact
        for identity, fact in trace.trainable.items()
        if identity not in moved
        and touched.get(identity)
        and not any(fnmatchcase(fact["name"], pattern) for pattern in (*target.frozen, *target.unused))
        # A network that no optimizer holds any part of helps with the loss; it is not being trained.
        and (not optimized or fact["model"] in trained)
    }
    if not still:
        return
    if not trace.steps:
        if trace.skipped_steps:
            return  # a scaler that is still looking for its scale
        yield Finding(
            "weight-changes",
            "optimizer",
            "error",
            "no optimizer step was taken, and no parameter changed",
            {"backwards": len(trace.events("backward")), "parameters": len(still)},
            cause="the condition before optimizer.step() is never true, or the loop ends before it",
            hint="look at the accumulation counter and at the condition around optimizer.step()",
        )
        return
    outside = {identity: fact for identity, fact in still.items() if identity not in optimized}
    for path, members in _by_top(outside, trace.trainable).items():
        yield Finding(
            "weight-changes",
            path,
            "error",
            "gets gradients but is in no optimizer and never changes",
            {"parameters": [fact["name"] for fact in members][:8], "count": len(members)},
            cause="the optimizer was given only a part of the model, or a part was replaced after it was made",
            hint="give it model.parameters() after the model is complete, or freeze this part with "
            "requires_grad_(False)",
        )
    noise = _rounding(trace)
    inside = {identity: fact for identity, fact in still.items() if identity in optimized and identity not in noise}
    for path, members in _by_top(inside, trace.trainable).items():
        yield from _stuck(trace, path, members)


def _rounding(trace: Trace) -> set[str]:
    """Return parameters whose gradients are nothing but rounding: a bias before a normalization, a key's bias."""
    small: dict[str, bool] = {}
    for step in trace.steps:
        sizes = [fact["grad_norm"] for fact in step["parameters"] if fact["grad_norm"] is not None]
        largest = max((size for size in sizes if math.isfinite(size)), default=0.0)
        for fact in step["parameters"]:
            if fact["grad_norm"] is not None:
                small[fact["id"]] = small.get(fact["id"], True) and fact["grad_norm"] <= ROUNDING * largest
    return {identity for identity, value in small.items() if value}


def _stuck(trace: Trace, path: str, members: list[dict[str, Any]]) -> Iterator[Finding]:
    """Say why parameters with gradients in an optimizer did not change."""
    history = [list(trace.steps_of(fact["id"])) for fact in members]
    taken = [fact for facts in history for fact in facts]
    names = {"parameters": [fact["name"] for fact in members][:8], "count": len(members)}
    if not taken:
        cause, hint = "the optimizer that holds it never steps", "call step() on every optimizer"
    elif all(fact["grad"] in {"none", "zero"} for fact in taken):
        cause = "gradients are cleared, or lost, between backward and optimizer.step()"
        hint = "order: zero_grad, backward, clip, step"
    elif all(fact["options"].get("lr") == 0 for fact in taken):
        cause, hint = "its learning rate was 0 at every step", "look at the schedule and at the group's lr"
    else:
        rates = [fact["options"].get("lr") or 0.0 for fact in history[0]]
        if len(rates) > 1 and rates[-1] > rates[0]:
            return  # still warming up: the first rates may be below the resolution of the weights
        cause = "the updates are smaller than the resolution of the weights (half precision, or a tiny learning rate)"
        hint = "keep the master weights in float32, or raise the learning rate"
    numbers = [fact for fact in taken if fact.get("grad_norm") is not None][:1]
    evidence = {**names, "steps": len(history[0]), "lr": numbers[0]["options"].get("lr") if numbers else None}
    yield Finding("weight-changes", path, "error", "gets gradients but never changes", evidence, cause=cause, hint=hint)


def _stopped(trace: Trace) -> Iterator[Finding]:
    """Report parameters that learn until a validation and get no gradient from then on, though others do."""
    validations = [event["n"] for event in trace.events("weights", when="eval_begin")]
    for identity in {step["optimizer"] for step in trace.steps}:
        steps = [step for step in trace.steps if step["optimizer"] == identity]
        last: dict[str, int] = {}
        gone: dict[int, dict[str, dict[str, Any]]] = {}
        for fact in steps[-1]["parameters"]:
            grads = [[one["grad"] for one in step["parameters"] if one["id"] == fact["id"]] for step in steps]
            had = [bool(found) and found[0] == "finite" for found in grads]
            last[fact["id"]] = count = had.index(False) if False in had else len(had)
            if 2 <= count <= len(had) - 2 and not any(had[count:]) and fact["id"] in trace.trainable:
                gone.setdefault(count, {})[fact["id"]] = trace.trainable[fact["id"]]
        for count, members in gone.items():
            between = any(steps[count - 1]["n"] < n < steps[count]["n"] for n in validations)
            if between and len(members) < len(last):
                path, facts = max(_by_top(members, trace.trainable).items(), key=lambda pair: len(pair[1]))
                yield Finding(
                    "weight-changes",
                    path,
                    "warning",
                    "learns until a validation, and gets no gradient after it",
                    {"parameters": [fact["name"] for fact in facts][:8], "count": len(members), "steps_before": count},
                    cause="requires_grad is switched off for the validation and not switched on again",
                    hint="leave requires_grad alone in validation: torch.no_grad() is enough",
                )
                return


def _frozen(trace: Trace, target: Target, moved: set[str]) -> Iterator[Finding]:
    for identity, fact in trace.parameters.items():
        if identity in moved and any(fnmatchcase(fact["name"], pattern) for pattern in target.frozen):
            yield Finding(
                "weight-changes",
                fact["name"],
                "error",
                "is declared frozen but changes",
                {"in_optimizer": identity in trace.optimized, "requires_grad": fact["requires_grad"]},
                cause="requires_grad was left on, or weight decay acts on it",
                hint="call requires_grad_(False) on it and leave it out of the optimizer",
            )


def _resting(trace: Trace, target: Target, moved: set[str]) -> Iterator[Finding]:
    """Report what is declared to learn and cannot: it needs no gradient, or no optimizer holds it."""
    optimized = trace.optimized
    models = {trace.parameters[identity]["model"] for identity in optimized if identity in trace.parameters}
    resting = {
        identity: fact
        for identity, fact in trace.parameters.items()
        if identity not in moved
        and fact["model"] in models
        and not (fact["requires_grad"] and identity in optimized)
        and declared(fact["name"], target.trained)
        and not declared(fact["name"], (*target.frozen, *target.unused))
    }
    for path, members in _by_top(resting, trace.parameters).items():
        yield Finding(
            "weight-changes",
            path,
            "error",
            "is declared to learn, but is frozen or in no optimizer",
            {"parameters": [fact["name"] for fact in members][:8], "count": len(members)},
            cause="requires_grad=False is left over from fine-tuning, or the optimizer's groups leave it out",
            hint="unfreeze it before the optimizer is built, and give the optimizer every parameter",
        )


def _buffers(trace: Trace, moved: set[str]) -> Iterator[Finding]:
    """Judge the batch counters of normalization layers that were called in training mode."""
    modes: dict[tuple[str | None, str], set[bool]] = {}
    for call in trace.train_calls:
        prefix = call["path"] + "." if call["path"] else ""
        # The name of a wrapper says nothing about which of several models it wraps.
        model = call["model"] if call["model"] in trace.models or len(trace.models) > 1 else None
        for inner in call["inner"] or []:
            path = prefix + inner["path"] if prefix and not inner["path"].startswith(prefix) else inner["path"]
            modes.setdefault((model, path), set()).add(inner["training"])
    seen = Counter(event["model"] for event in trace.events("weights"))
    for identity, fact in trace.buffers.items():
        if seen[fact["model"]] < 2:
            continue  # A model of a later fold may be looked at once only: nothing to compare.
        owner, _, name = fact["name"].rpartition(".")
        path = owner.rpartition("/")[2]
        ran = modes.get((fact["model"], path), set()) | modes.get((None, path), set())
        if name == COUNTER and identity not in moved and ran == {True}:
            yield Finding(
                "weight-changes",
                owner,
                "error",
                "was called in training mode, but its running statistics never move",
                {"buffer": fact["name"]},
                cause="its buffers are restored or overwritten after each forward, or belong to another copy "
                "of the layer",
                hint="look for load_state_dict or copies of the model inside the loop",
            )


def _by_top(
    still: Mapping[str, dict[str, Any]], everything: Mapping[str, dict[str, Any]]
) -> dict[str, list[dict[str, Any]]]:
    """Group parameters under the outermost module of which every trainable parameter is among them."""
    names, every = {fact["name"] for fact in still.values()}, [fact["name"] for fact in everything.values()]
    groups: dict[str, list[dict[str, Any]]] = {}
    for fact in still.values():
        parts, path = fact["name"].split("."), fact["name"]
        for end in range(1, len(parts)):
            prefix = ".".join(parts[:end]) + "."
            if all(name in names for name in every if name.startswith(prefix)):
                path = prefix[:-1]
                break
        groups.setdefault(path, []).append(fact)
    return groups


CHECKS: tuple[Check, ...] = (
    Check(
        id="weight-changes",
        title="every parameter that gets gradients changes, frozen ones do not, running statistics move",
        group="optimizer",
        judge=judge_weight_changes,
        proves="The bytes of each parameter are compared before and after every step of the run.",
        faults=(
            "the optimizer was given the head only",
            "a learning rate of 0",
            "zero_grad between backward and step",
            "half precision with updates below its resolution",
            "optimizer.step() never reached",
            "a frozen part that is declared to learn",
        ),
        limits="What needs no gradient is judged only where it is declared in `Target.trained`. A parameter in no "
        "optimizer, of a network no part of which is optimized, is left alone. While the learning rate still rises, "
        "weights that do not move yet are not judged.",
    ),
)
