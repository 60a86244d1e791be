"""Averaged weights: updated while the model moves, swapped in for validation, and swapped out again."""

from collections.abc import Iterator, Mapping

from pytest_brainbrr.checks.base import Check, Vacuous
from pytest_brainbrr.checks.held_out import held_out
from pytest_brainbrr.checks.iterations import Event, calls, error, warning
from pytest_brainbrr.results import Finding
from pytest_brainbrr.targets import Target
from pytest_brainbrr.trace import Trace

WORDS = ("ema", "average", "averaged", "shadow", "swa", "teacher")


def _named(trace: Trace, model: str, digests: Mapping[str, str | None]) -> dict[str, str | None]:
    """Return name -> digest for the parameters of one root."""
    names = {fact["id"]: fact["name"] for fact in trace.models.get(model, {}).get("parameters", [])}
    return {names[identity]: digest for identity, digest in digests.items() if identity in names}


def _copies(trace: Trace) -> dict[str, list[dict[str, str | None]]]:
    """Return the states, step by step, of every copy: those recorded, and roots that mirror a trained one."""
    found: dict[str, list[dict[str, str | None]]] = {}
    for event in trace.events("copy", in_optimizer=False):
        found.setdefault(event["id"], []).append(event["parameters"])
    trained = {fact["model"] for identity, fact in trace.parameters.items() if identity in trace.optimized}
    shapes = {
        model: [(fact["name"], fact["shape"]) for fact in facts["parameters"]] for model, facts in trace.models.items()
    }
    for model in trace.models:
        if model not in trained and any(shapes[model] == shapes[other] and shapes[model] for other in trained):
            states = [
                _named(trace, model, event["parameters"]) for event in trace.events("weights", model=model, when="step")
            ]
            if states:
                found[model] = states
    return found


def _evaluated(trace: Trace) -> list[dict[str, str | None]]:
    """Return the state of a root, name -> digest, at every beginning of a validation by loader.

    Left out are weights that a trained model has of its own steps: a teacher may be made of them later.
    """
    found = []
    trained = {trace.parameters[identity]["model"] for identity in trace.optimized if identity in trace.parameters}
    for call in held_out(trace):
        events = [
            event
            for event in trace.events("weights", model=call["model"])
            if event["n"] < call["n"] and event["when"] in {"eval_begin", "eval_end", "step", "first_forward"}
        ]
        own = [event["parameters"] for event in events if event["when"] == "step" and event["step"]]
        reached = call["model"] in trained and own and own[-1] == events[-1]["parameters"]
        if events and not call["grad_enabled"] and not reached:
            found.append(_named(trace, call["model"], events[-1]["parameters"]))
    return found


def follow(traces: Mapping[str, Trace], target: Target) -> Iterator[Finding]:
    """Averaged weights that validation uses follow the model."""
    trace = traces["straight"]
    copies = _copies(trace)
    if not copies:
        raise Vacuous(trace.lost("copies") or "no copy of the model's weights was seen")
    borders = {event["step"] for event in trace.events("weights", when="step") if event["moved"]}
    used = [state for state in _evaluated(trace) if state]
    judged = False
    for identity, states in copies.items():
        still = len(states) >= 3 and all(state == states[0] for state in states) and all(states[0].values())
        if len(states) >= 3:
            judged = True
        yield from _lagging(trace, identity)
        if not still or len(borders) < 3:
            continue
        # Snapshots, teachers and targets may rest; weights that validation runs on may not.
        known = states[0].items()
        validated = sum(all(state.get(name) == digest for name, digest in known) for state in used)
        updates = [event["updates"] for event in trace.events("copy", id=identity)]
        steps_before_last_use = validated >= 2 or (validated == 1 and len(borders) >= 3)
        if steps_before_last_use and _is_late(trace, known):
            yield error(
                "average-follows",
                "averaged weights",
                "validation runs on averaged weights that never moved while the model was trained",
                cause="update() of the average is never called, or follows a copy of the model instead of the model",
                hint="update the average after each optimizer step, from the model that is trained",
                steps=len(borders),
                updates=updates[-1] if updates else None,
            )
    if not judged:
        raise Vacuous("copies were seen at fewer than three steps")


def _lagging(trace: Trace, identity: str) -> Iterator[Finding]:
    """An average that moves with every step has moved since the last one when validation runs on it."""
    borders = _borders(trace, identity)
    lagging = judged = 0
    for call in held_out(trace):
        at = call["step"]
        around = [borders.get(step) for step in (at - 1, at, at + 1)]
        if call["grad_enabled"] or None in around or around[0] == around[1] or around[1] == around[2]:
            continue
        state = _state_at(trace, call)
        if state and _same(state, around[1]):
            lagging += 1
        judged += bool(state) and (_same(state, around[1]) or _same(state, around[2]))
    if lagging and lagging == judged:
        yield warning(
            "average-follows",
            "averaged weights",
            "validation runs on averaged weights that have not taken in the last step yet",
            cause="the average is updated before the optimizer steps, or after validation",
            hint="update the average right after the optimizer step",
            calls=lagging,
        )


def _borders(trace: Trace, identity: str) -> dict[int, dict[str, str | None]]:
    """Return optimizer steps taken -> state of a copy right after them."""
    events = trace.events("copy", id=identity)
    if events:
        return {event["step"]: event["parameters"] for event in events}
    return {
        event["step"]: _named(trace, identity, event["parameters"])
        for event in trace.events("weights", model=identity, when="step")
    }


def _state_at(trace: Trace, call: Event) -> dict[str, str | None]:
    """Return the weights of a called model as recorded since the last step; empty if they were not looked at since."""
    events = [
        event
        for event in trace.events("weights", model=call["model"])
        if event["n"] < call["n"] and event["when"] in {"eval_begin", "eval_end", "step", "first_forward"}
    ]
    if not events or events[-1]["when"] not in {"eval_begin", "eval_end"}:
        return {}
    return _named(trace, call["model"], events[-1]["parameters"])


def _same(one: Mapping[str, str | None], other: Mapping[str, str | None] | None) -> bool:
    return bool(other) and all(one.get(name) == digest for name, digest in (other or {}).items())


def _is_late(trace: Trace, known: object) -> bool:
    """Return whether some validation ran on this very state after the model had taken two steps."""
    for call in held_out(trace):
        if call["step"] < 2 or call["grad_enabled"]:
            continue
        events = [event for event in trace.events("weights", model=call["model"]) if event["n"] < call["n"]]
        if events:
            state = _named(trace, call["model"], events[-1]["parameters"])
            if all(state.get(name) == digest for name, digest in known):  # type: ignore[attr-defined]
                return True
    return False


def restored(traces: Mapping[str, Trace], target: Target) -> Iterator[Finding]:
    """After validation the model trains on with the weights it had before."""
    trace = traces["straight"]
    copies = _copies(trace)
    judged = False
    for model in {fact["model"] for identity, fact in trace.parameters.items() if identity in trace.optimized}:
        weights = trace.events("weights", model=model)
        for place, event in enumerate(weights):
            if event["when"] != "eval_end":
                continue
            steps = [earlier for earlier in weights[:place] if earlier["when"] == "step"]
            validated = steps and any(steps[-1]["n"] < call["n"] < event["n"] for call in held_out(trace))
            if not validated:
                continue
            judged = True
            before, after = _named(trace, model, steps[-1]["parameters"]), _named(trace, model, event["parameters"])
            if before == after or any(after == _named(trace, model, one["parameters"]) for one in steps):
                continue  # unchanged, or put back to an earlier state of its own: the best so far, on purpose
            # What the averages were at that step: the last state recorded before this validation.
            for identity in copies:
                states = _states_before(trace, identity, event["n"])
                if any(state and all(after.get(name) == digest for name, digest in state.items()) for state in states):
                    yield error(
                        "average-swapped-out",
                        trace.name(model),
                        "after validation the model went on training with the averaged weights",
                        cause="the weights that were put aside for validation are not put back",
                        hint="restore the model's own weights after validation, also when validation raises",
                        step=event["step"],
                    )
                    return
    if not judged:
        raise Vacuous("no training went on after a validation")


def _states_before(trace: Trace, identity: str, n: int) -> list[dict[str, str | None]]:
    recorded = [event["parameters"] for event in trace.events("copy", id=identity) if event["n"] < n]
    if not recorded:
        recorded = [
            _named(trace, identity, event["parameters"])
            for event in trace.events("weights", model=identity)
            if event["n"] < n
        ]
    later = [event["parameters"] for event in trace.events("copy", id=identity) if event["n"] > n][:1]
    return recorded[-2:] + later


def validation_keeps(traces: Mapping[str, Trace], target: Target) -> Iterator[Finding]:
    """Weights do not change while validation runs, unless they are put back."""
    trace = traces["straight"]
    by_call = calls(trace)
    del by_call
    judged, changed = False, set()
    for model in {fact["model"] for identity, fact in trace.parameters.items() if identity in trace.optimized}:
        weights = trace.events("weights", model=model)
        mine = [call for call in held_out(trace) if call["model"] == model and not call["grad_enabled"]]
        for place, event in enumerate(weights):
            if event["when"] != "eval_end":
                continue
            begins = [earlier for earlier in weights[:place] if earlier["when"] == "eval_begin"]
            steps = [earlier for earlier in weights[:place] if earlier["when"] in {"step", "first_forward"}]
            if not begins or not steps or not any(begins[-1]["n"] <= call["n"] < event["n"] for call in mine):
                continue
            judged = True
            if any(begins[-1]["n"] < step["n"] < event["n"] for step in trace.steps):
                continue
            moved = {key for key, value in event["parameters"].items() if value != steps[-1]["parameters"].get(key)}
            swapped = begins[-1]["parameters"] != event["parameters"]
            loaded = [load for load in trace.events("load_state_dict") if begins[-1]["n"] < load["n"] < event["n"]]
            if moved and swapped and not loaded and begins[-1]["parameters"] == steps[-1]["parameters"]:
                changed |= moved
    if not judged:
        raise Vacuous("no training went on after a validation")
    if changed:
        yield warning(
            "validation-keeps-weights",
            trace.name(next(iter(sorted(changed)))).partition(".")[0],
            "weights changed between the beginning of a validation and the next training call, without a step",
            cause="validation writes into the model",
            hint="leave weights alone during validation",
            parameters=len(changed),
        )


def distinct(traces: Mapping[str, Trace], target: Target) -> Iterator[Finding]:
    """Averaged weights in a checkpoint are not simply the model's."""
    trace = traces["straight"]
    judged, same = 0, 0
    where = ""
    for checkpoint in trace.checkpoints:
        tensors: dict[str, Event] = checkpoint["tensors"]
        if checkpoint["step"] < 2:
            continue
        parts: dict[str, dict[str, str | None]] = {}
        for path, fact in tensors.items():
            head, _, tail = path.partition("/")
            parts.setdefault(head, {})[tail] = fact["digest"]
        averages = [head for head in parts if any(word in head.lower().split("_") for word in WORDS)]
        models = [head for head in parts if head not in averages]
        for head in averages:
            twins = [other for other in models if len(parts[head]) > 1 and parts[head].keys() <= parts[other].keys()]
            for other in twins:
                judged += 1
                equal = all(parts[other][name] == digest and digest for name, digest in parts[head].items())
                same += equal
                where = head if equal else where
    if not judged:
        raise Vacuous("no checkpoint after two steps holds averaged weights beside the model's")
    if same == judged:
        yield warning(
            "average-differs",
            where,
            "averaged weights in every checkpoint are bitwise equal to the model's",
            cause="the average shares its tensors with the model, or is copied instead of averaged",
            hint="average a deep copy of the model; right after a warm-up of the average this is expected",
            checkpoints=judged,
        )


CHECKS: tuple[Check, ...] = (
    Check(
        "average-follows",
        "Averaged weights that validation uses follow the model.",
        "state",
        follow,
        cut=True,
        proves=(
            "No validation after the second step ran on a copy of the weights that had never moved, or that lagged "
            "behind by a step each time."
        ),
        faults=("EMA never updated", "EMA of a copy of the model", "EMA updated before the step"),
        limits=(
            "Copies that are not used for validation (best weights, teachers, targets) may rest. A lag only warns, and "
            "is seen where the average moves with every step."
        ),
    ),
    Check(
        "average-swapped-out",
        "After validation the model has its own weights again.",
        "state",
        restored,
        cut=True,
        proves="The first training call after a validation did not run on the averaged weights.",
        faults=("EMA weights not restored after validation",),
        limits="Needs a copy found in memory.",
    ),
    Check(
        "average-differs",
        "Averaged weights are not simply the model's.",
        "state",
        distinct,
        cut=True,
        proves="Averaged weights in a checkpoint differ from the model's in the same file.",
        faults=("EMA shares the model's tensors",),
        limits="Known by the names ema, swa, shadow, average, teacher in the checkpoint; warns only.",
    ),
    Check(
        "validation-keeps-weights",
        "Validation leaves the weights alone.",
        "state",
        validation_keeps,
        cut=True,
        proves="Weights at the next training call equal those of the last step.",
        faults=("weights written during validation",),
        limits="Warns only: constraints applied between steps look alike.",
    ),
)
