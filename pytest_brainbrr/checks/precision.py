"""Mixed precision: losses are scaled, gradients unscaled once, steps go through it, updates survive rounding."""

from collections.abc import Iterator, Mapping

from pytest_brainbrr.checks.base import Check, Vacuous
from pytest_brainbrr.checks.iterations import (
    Turn,
    calls,
    error,
    finite_number,
    optimizer_name,
    places,
    stepping,
    warning,
)
from pytest_brainbrr.results import Finding
from pytest_brainbrr.targets import Target
from pytest_brainbrr.trace import Trace

LARGE_LOSS = 8.0
"""What a loss that is not known is taken to be at most, before it is multiplied by a static scale."""
HALVES = frozenset({"float16", "bfloat16"})


def _half_calls(trace: Trace) -> set[int]:
    """Return calls that ran in float16 by autocast."""
    return {number for number, call in calls(trace).items() if "float16" in (call.get("autocast") or {}).values()}


def loss_scaled(traces: Mapping[str, Trace], target: Target) -> Iterator[Finding]:
    """float16 autocast comes with loss scaling; an enabled scaler scales every loss whose gradients it unscales."""
    trace = traces["straight"]
    scalers, half = trace.events("scaler"), _half_calls(trace)
    if not scalers and not half:
        raise Vacuous("neither float16 autocast nor a gradient scaler was used")
    started = {event["id"] for event in scalers if event["action"] == "init" and event["enabled"]}
    unused = started and not any(event["action"] == "scale" for event in scalers) and bool(trace.events("backward"))
    if unused and not trace.finished and "grad_scaler" in str(trace.exit.get("traceback")):
        yield error(
            "loss-scaled",
            "scaler",
            "the scaler was asked to unscale gradients of a loss that was never scaled, and raised",
            cause="loss.backward() instead of scaler.scale(loss).backward()",
            hint="call scaler.scale(loss).backward()",
        )
        return
    managed = {event["optimizer"] for event in scalers if event["action"] in {"unscale", "step"} and event["enabled"]}
    for optimizer, found in stepping(trace).items():
        for turn in found:
            if turn.step["in_backward"] or not turn.backwards:
                continue
            unscaled = [
                backward
                for backward in turn.backwards
                if backward["scale"] is None and backward["function"] == "backward"
            ]
            if (
                optimizer in managed
                and unscaled
                and any(event["scale"] != 1.0 for event in scalers if event["enabled"])
            ):
                yield error(
                    "loss-scaled",
                    optimizer_name(trace, optimizer),
                    "the scaler unscaled gradients of a loss that was never scaled",
                    cause="loss.backward() instead of scaler.scale(loss).backward()",
                    hint="call scaler.scale(loss).backward()",
                    backwards=len(unscaled),
                )
                return
            in_half = [backward for backward in unscaled if half.intersection(backward["forwards"])]
            if (
                optimizer not in managed
                and in_half
                and not any(_scaled_by_hand(trace, backward) for backward in in_half)
            ):
                disabled = any(not event["enabled"] for event in scalers)
                yield error(
                    "loss-scaled",
                    optimizer_name(trace, optimizer),
                    "the model ran in float16 under autocast, and its loss was not scaled: small gradients underflow "
                    "to zero",
                    cause="the scaler is disabled (its `enabled` flag compares the dtype with a wrong name)"
                    if disabled
                    else "no gradient scaler",
                    hint="enable torch.amp.GradScaler for float16, or use bfloat16",
                    scaler="disabled" if disabled else "none",
                )
                return


def _scaled_by_hand(trace: Trace, backward: dict) -> bool:  # type: ignore[type-arg]
    """Return whether the root is far larger than every loss that was reached: a static scale of the trainer's own."""
    known = [
        abs(loss["output"]["mean"])
        for loss in trace.events("loss")
        if loss["call"] in backward["losses"] and loss["output"] and loss["output"]["mean"]
    ]
    value = (backward["root"] or {}).get("mean")
    return finite_number(value) and abs(value) > 8 * max(known, default=LARGE_LOSS)


def scaler_steps(traces: Mapping[str, Trace], target: Target) -> Iterator[Finding]:
    """Steps on scaled gradients go through scaler.step, and the scaler is updated."""
    trace = traces["straight"]
    enabled = [event for event in trace.events("scaler") if event["enabled"]]
    if not any(event["action"] == "scale" for event in enabled):
        raise Vacuous("no enabled gradient scaler was used")
    for optimizer, found in stepping(trace).items():
        scaled = [turn for turn in found if any(backward["scale"] is not None for backward in turn.backwards)]
        again = [turn for turn in found if not turn.backwards]
        taken = [
            event
            for event in enabled
            if event["action"] == "step" and event["optimizer"] == optimizer and not event["skipped"]
        ]
        if not scaled:
            continue
        bypassed = len(scaled) + len(again) - len(taken)
        if not taken or (bypassed > 0 and not again):
            yield error(
                "scaler-steps",
                optimizer_name(trace, optimizer),
                "the optimizer stepped on scaled gradients without the scaler: overflowing gradients are not skipped",
                cause="optimizer.step() is called instead of scaler.step(optimizer)",
                hint="call scaler.step(optimizer), then scaler.update()",
                steps=len(found),
                through_scaler=len(taken),
            )
    stepped = [event for event in enabled if event["action"] == "step"]
    if (
        stepped
        and not any(event["action"] == "update" for event in enabled)
        and (len(stepped) > 1 or not trace.finished)
    ):
        yield error(
            "scaler-steps",
            "scaler",
            "the scaler was never updated: its scale cannot adapt and overflows are remembered",
            cause="scaler.update() is missing",
            hint="call scaler.update() once after the steps of an iteration",
            steps=len(stepped),
        )


def scaler_needed(traces: Mapping[str, Trace], target: Target) -> Iterator[Finding]:
    """An enabled scaler goes with reduced precision somewhere, and Fabric's precision with a call of its wrapper."""
    trace = traces["straight"]
    mixed = [event for event in trace.events("declared") if str(event["precision"]).endswith("-mixed")]
    wrapped = any(call["class"] == "_FabricModule" or call["autocast"] for call in trace.train_calls)
    if mixed and trace.train_calls and not wrapped:
        yield error(
            "autocast-on",
            "model",
            "the model is called beside the wrapper that Fabric's setup returned: its precision is not applied",
            cause="the module from before setup is still called",
            hint="call what fabric.setup() returns",
            precision=mixed[0]["precision"],
        )
        return
    used = [event for event in trace.events("scaler", action="scale") if event["enabled"]]
    ineffective = list(_without_effect(trace))
    yield from ineffective
    if not used and (ineffective or (mixed and trace.train_calls)):
        return
    if not used:
        raise Vacuous("no enabled gradient scaler was used")
    regions = trace.events("autocast")
    # Without any region the scaler may be there for its skipping of steps; a region that is off contradicts it.
    if (
        regions
        and not any(region["enabled"] for region in regions)
        and not any(fact["dtype"] in HALVES for fact in trace.parameters.values())
    ):
        yield warning(
            "autocast-on",
            "scaler",
            "losses are scaled for reduced precision, while every autocast region is switched off",
            cause="autocast is disabled or its region does not enclose the forward pass",
            hint="enter torch.autocast around forward and loss, or disable the scaler",
            scaled=len(used),
        )


def _without_effect(trace: Trace) -> Iterator[Finding]:
    """Warn where models are called under autocast and none of their dense layers computes in reduced precision."""
    regions = [call for call in trace.train_calls if any(kind in HALVES for kind in (call["autocast"] or {}).values())]
    dense = [
        fact
        for call in regions
        for fact in call.get("inner") or []
        if fact["class"] in {"Linear", "Conv1d", "Conv2d", "Conv3d", "ConvTranspose1d", "ConvTranspose2d"}
    ]
    kinds = {output[1] for fact in dense for output in fact["outputs"]}
    if dense and kinds == {"float32"}:
        yield warning(
            "autocast-on",
            trace.name(regions[0]["model"]),
            "the model is called under autocast, and every dense layer computes in float32 all the same",
            cause="autocast is switched off again inside of forward, by a decorator or a region of its own",
            hint="remove the inner region, or the outer one if full precision is meant",
            layers=len({fact["path"] for fact in dense}),
        )


def updates_survive(traces: Mapping[str, Trace], target: Target) -> Iterator[Finding]:
    """Updates are large enough for the precision of the weights: a stepped weight changes."""
    trace = traces["straight"]
    lost: dict[str, str] = {}
    share: list[float] = []
    found = stepping(trace)
    judged = 0
    for identity in {fact["id"] for turns_ in found.values() for turn in turns_ for fact in turn.step["parameters"]}:
        facts = list(trace.steps_of(identity))
        usable = [fact for fact in facts if fact["grad"] == "finite" and (fact["options"].get("lr") or 0) > 0]
        if len(usable) < 2:
            continue
        judged += 1
        if all(fact["moved"] is False and not fact["changed"] for fact in usable):
            lost[identity] = usable[0]["dtype"]
        elif all(fact["dtype"] in HALVES and fact["changed"] is not None for fact in usable):
            share.append(max(fact["changed"] for fact in usable))
    if not judged:
        raise Vacuous("no parameter was stepped twice with a gradient and a learning rate above 0")
    # A bias in front of a normalization layer has a gradient of rounding noise: a few such tensors mean nothing.
    if len(lost) > judged / 2:
        dtypes = sorted(set(lost.values()))
        half = any(dtype in HALVES for dtype in dtypes)
        yield error(
            "updates-survive",
            places(trace, lost),
            "weights with a gradient and a learning rate above 0 never changed: every update is rounded away",
            cause="weights kept in half precision without float32 masters"
            if half
            else "the learning rate or the gradients are too small to change a weight",
            hint="keep weights in float32 and use autocast"
            if half
            else "check learning rate, clipping limit, loss weight and the optimizer's eps",
            dtypes=dtypes,
            parameters=len(lost),
            of=judged,
        )
    elif share and (
        sum(value < 0.05 for value in share) > len(share) / 2 or _mostly_rounded(list(lost.values()), share)
    ):
        yield warning(
            "updates-survive",
            "<half precision weights>",
            "most elements of half-precision weights stay the same in every step: updates are rounded away",
            cause="weights kept in half precision without float32 masters, with a small learning rate",
            hint="keep weights in float32 and use autocast",
            median_share_changed=sorted(share)[len(share) // 2],
        )


def _mostly_rounded(lost: list[str], share: list[float]) -> bool:
    """Return whether a quarter of the tensors in half precision never changed, and most elements of the others neither.

    Weights near 1, such as gains of normalization, are the first whose updates are rounded away.
    """
    resting = sum(dtype in HALVES for dtype in lost)
    return 4 * resting >= resting + len(share) and sum(value < 0.5 for value in share) > len(share) / 2


def _clip_before_unscale(trace: Trace, turn: Turn) -> bool:
    """Return whether gradients were clipped in this turn while they were still multiplied by the loss scale."""
    scales = [backward["scale"] for backward in turn.backwards if backward["scale"] not in (None, 1.0)]
    if not scales or turn.step["in_backward"]:
        return False
    last = turn.backwards[-1]
    held = set(turn.parameters)
    for clip in trace.events("clip"):
        if (
            last["n"] < clip["n"] < turn.step["n"]
            and clip["limit"] not in (None, float("inf"))
            and held.intersection(clip["parameters"])
        ):
            unscaled = [
                event
                for event in trace.events("scaler", action="unscale", optimizer=turn.optimizer)
                if last["n"] < event["n"] < clip["n"]
            ]
            return not unscaled
    return False


def clip_unscaled(traces: Mapping[str, Trace], target: Target) -> Iterator[Finding]:
    """Gradients are unscaled before they are clipped."""
    trace = traces["straight"]
    if not trace.events("clip") or not any(event["enabled"] for event in trace.events("scaler", action="scale")):
        raise Vacuous("no clipping together with an enabled gradient scaler was seen")
    for optimizer, found in stepping(trace).items():
        wrong = [turn for turn in found if _clip_before_unscale(trace, turn)]
        if wrong:
            yield error(
                "clip-unscaled",
                optimizer_name(trace, optimizer),
                "gradients were clipped while still multiplied by the loss scale: the limit means something else at "
                "every scale",
                cause="scaler.unscale_(optimizer) is missing before clip_grad_norm_",
                hint="call scaler.unscale_(optimizer) before clipping",
                steps=len(wrong),
                scale=wrong[0].backwards[-1]["scale"],
            )


CHECKS: tuple[Check, ...] = (
    Check(
        "loss-scaled",
        "Losses are scaled where float16 or a scaler asks for it.",
        "precision",
        loss_scaled,
        proves="Every backward whose gradients a scaler unscales was of a scaled loss, and float16 autocast did not "
        "train without scaling.",
        faults=(
            "GradScaler disabled by a misspelt dtype",
            "loss.backward() beside scaler.step()",
            "float16 without a scaler",
        ),
        limits="Static scales written by hand are recognised by the size of the loss only.",
    ),
    Check(
        "scaler-steps",
        "Steps on scaled gradients go through the scaler.",
        "precision",
        scaler_steps,
        proves="As many steps as the scaler took, and an update of its scale.",
        faults=("optimizer.step() instead of scaler.step(optimizer)", "no scaler.update()"),
        limits="Scalers that do not inherit from torch.amp.GradScaler are not seen.",
    ),
    Check(
        "clip-unscaled",
        "Gradients are unscaled before they are clipped.",
        "precision",
        clip_unscaled,
        proves="scaler.unscale_ came between backward and clipping.",
        faults=("clip before scaler.unscale_",),
        limits="A scale of exactly 1 does no harm and is not judged.",
    ),
    Check(
        "autocast-on",
        "An enabled gradient scaler goes with reduced precision.",
        "precision",
        scaler_needed,
        proves="Where losses are scaled and autocast regions entered, at least one of them was on; dense layers called "
        "under autocast do not all compute in float32.",
        faults=(
            "autocast with enabled=False beside an enabled scaler",
            "autocast switched off inside of forward",
            "Fabric's setup passed by",
        ),
        limits="Warns only: scaling in full precision is useless, not wrong.",
    ),
    Check(
        "updates-survive",
        "Updates are not rounded away.",
        "precision",
        updates_survive,
        proves="Weights with gradients and a learning rate above 0 changed in their bytes.",
        faults=("model.half() with a small learning rate", "a clipping limit of 1e-9", "a learning rate of 1e-12"),
        limits="Judges whole tensors; a tensor whose elements change partly only warns, in half precision.",
    ),
)
