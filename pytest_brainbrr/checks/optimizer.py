"""Optimizers hold what is trained, once, all of it, at learning rates above zero, and live longer than one step."""

from collections import Counter
from collections.abc import Iterator, Mapping

from pytest_brainbrr.checks.base import Check, Vacuous
from pytest_brainbrr.checks.iterations import (
    Event,
    declared,
    error,
    optimizer_name,
    places,
    stepping,
    turns,
    warning,
)
from pytest_brainbrr.results import Finding
from pytest_brainbrr.targets import Target
from pytest_brainbrr.trace import Trace

STATEFUL = (
    "Adam",
    "RMSprop",
    "Adagrad",
    "Adadelta",
    "Lion",
    "LAMB",
    "Lamb",
    "Muon",
    "Shampoo",
    "SOAP",
    "Rprop",
    "Adafactor",
)


def _nonzero(trace: Trace) -> set[str]:
    """Return parameters that some backward gave a gradient other than zero."""
    return {identity for event in trace.events("backward") for identity, norm in event["raw_norms"].items() if norm}


def _moved(trace: Trace) -> set[str]:
    return {identity for event in trace.events("weights") for identity in event["moved"]}


def _orphans(trace: Trace, target: Target) -> dict[str, Event]:
    """Return parameters that get gradients although no optimizer holds them, nobody moves them or declares them."""
    held, moved, nonzero = trace.optimized, _moved(trace), _nonzero(trace)
    found = {}
    for identity, fact in trace.trainable.items():
        if identity in held or identity in moved or identity not in nonzero:
            continue
        if declared(fact["name"], target.frozen) or declared(fact["name"], target.unused):
            continue
        found[identity] = fact
    return found


def _idle(trace: Trace) -> dict[str, str]:
    """Return parameters in stepping optimizers that never got a gradient: their ids, with the optimizer's."""
    found: dict[str, str] = {}
    for optimizer, own in turns(trace).items():
        for fact in own[0].step["parameters"]:
            if all(turn.parameters.get(fact["id"], fact)["grad"] == "none" for turn in own):
                found[fact["id"]] = optimizer
    return found


def _shapes(trace: Trace) -> dict[str, tuple[object, ...]]:
    """Return the shape of every known parameter, and the number of elements of those that only an optimizer knows."""
    known: dict[str, tuple[object, ...]] = {}
    for step in trace.steps:
        for fact in step["parameters"]:
            known.setdefault(fact["id"], (fact["elements"],))
    known.update({identity: (fact["elements"],) for identity, fact in trace.parameters.items()})
    return known


def _lookalikes(trace: Trace, target: Target) -> tuple[dict[str, Event], dict[str, str]]:
    """Return orphans of the model, and idle tensors of an optimizer of equal sizes: an old head, a copy."""
    orphans, idle, sizes = _orphans(trace, target), _idle(trace), _shapes(trace)
    wanted = Counter(sizes[identity] for identity in orphans)
    strangers = {
        identity: optimizer
        for identity, optimizer in idle.items()
        if wanted[sizes.get(identity, ())] and not trace.parameters.get(identity, {}).get("frozen")
    }
    offered = Counter(sizes[identity] for identity in strangers)
    twins = {identity: fact for identity, fact in orphans.items() if offered[sizes[identity]]}
    return twins, strangers


def holds_model(traces: Mapping[str, Trace], target: Target) -> Iterator[Finding]:
    """The tensors of the optimizer are those of the model that is trained, not of an older or copied one."""
    stepping(traces["straight"])
    for trace in traces.values():
        found = list(_held(trace, target))
        if found:
            yield from found
            return


def _held(trace: Trace, target: Target) -> Iterator[Finding]:
    if trace.lost("optimizers", "models"):
        raise Vacuous(str(trace.lost("optimizers", "models")))
    twins, strangers = _lookalikes(trace, target)
    if twins and strangers:
        gone = set(strangers) - set(trace.parameters)
        yield error(
            "optimizer-holds-model",
            places(trace, twins),
            "the optimizer holds tensors that get no gradient, while parameters of the same sizes get gradients and "
            "are in no optimizer",
            cause="the optimizer was built before a part of the model was replaced, or over a copy of the model",
            hint="build the optimizer last, after heads are swapped, models wrapped, copied and moved",
            optimizer=optimizer_name(trace, next(iter(strangers.values()))),
            in_optimizer=len(strangers),
            of_no_model=len(gone),
            left_out=len(twins),
        )


def covers_model(traces: Mapping[str, Trace], target: Target) -> Iterator[Finding]:
    """Every parameter that gets a gradient is in an optimizer."""
    trace = traces["straight"]
    found = stepping(trace)
    if not trace.events("backward"):
        raise Vacuous(trace.lost("gradients") or "backward was never called")
    orphans = _orphans(trace, target)
    twins, strangers = _lookalikes(trace, target)
    orphans = {identity: fact for identity, fact in orphans.items() if not (strangers and identity in twins)}
    trained = {
        trace.parameters[identity]["model"]
        for own in found.values()
        for identity in own[0].parameters
        if identity in trace.parameters
    }
    ours = {identity: fact for identity, fact in orphans.items() if fact["model"] in trained}
    if ours:
        whole = sorted({fact["name"].rpartition(".")[0] for fact in ours.values()})
        yield error(
            "optimizer-covers-model",
            places(trace, ours),
            "parameters get gradients and are in no optimizer: they never change",
            cause="the optimizer was given a part of the model, a parameter group left them out, or a generator was "
            "exhausted",
            hint="give the optimizer every trainable parameter; set requires_grad=False on what is meant to be frozen",
            parameters=len(ours),
            modules=len(whole),
            of=len(trace.trainable),
        )
    yield from _frozen(trace, target)
    # A model none of whose parameters is optimized may be there for its loss only (perceptual losses).
    others = {identity: fact for identity, fact in orphans.items() if fact["model"] not in trained}
    training = {call["model"] for call in trace.train_calls if call["training"]}
    others = {identity: fact for identity, fact in others.items() if fact["model"] in training}
    if others and not ours:
        yield warning(
            "optimizer-covers-model",
            places(trace, others),
            "a whole model in training mode gets gradients, and no optimizer holds it",
            cause="its optimizer is missing, or it is a fixed model that should be frozen and in evaluation mode",
            hint="optimize it, or call requires_grad_(False) and eval() on it",
            parameters=len(others),
        )


def _frozen(trace: Trace, target: Target) -> Iterator[Finding]:
    """Warn of layers that are handed to the optimizer frozen, at random values, and in training mode."""
    first = next(iter(trace.events("forward")), None)
    before = first["n"] if first else 0
    if any(event["n"] < before for kind in ("checkpoint_read", "load_state_dict") for event in trace.events(kind)):
        return
    moved, digests = _moved(trace), Counter((fact["model"], fact["digest"]) for fact in trace.parameters.values())
    moved |= {identity for event in trace.events("backward") for identity in event["touched"]}  # thawed later on
    resting = {path for call in trace.train_calls for path in call["mixed_modes"]}
    layers = ("Linear", "Conv", "LSTM", "GRU", "RNN", "Embedding", "MultiheadAttention")
    frozen = [
        identity
        for identity, fact in trace.parameters.items()
        if identity in trace.optimized
        and identity not in trace.trainable
        and identity not in moved
        and (fact["owner"] or "").startswith(layers)
        and digests[fact["model"], fact["digest"]] == 1
        and not any(path and fact["name"].rpartition("/")[2].startswith(f"{path}.") for path in resting)
        and not declared(fact["name"], target.frozen)
    ]
    if frozen:
        yield warning(
            "optimizer-covers-model",
            places(trace, frozen),
            "layers are handed to the optimizer frozen, and nothing was loaded into them: they stay at their random "
            "values",
            cause="requires_grad=False left over from fine-tuning",
            hint="unfreeze them; if they are meant to rest, declare them as `Target.frozen` or put them into "
            "evaluation mode",
            parameters=len(frozen),
        )


def lives_on(traces: Mapping[str, Trace], target: Target) -> Iterator[Finding]:
    """One optimizer, and with it its moments and schedule, serves all steps."""
    trace = traces["straight"]
    found = stepping(trace)
    made = {event["id"]: event for event in trace.events("optimizer")}
    series: dict[tuple[str, ...], list[str]] = {}
    for optimizer, own in found.items():
        series.setdefault(tuple(sorted(own[0].parameters)), []).append(optimizer)
    for group in series.values():
        short = [optimizer for optimizer in group if len(found[optimizer]) == 1]
        event = made.get(group[0])
        keeps = event is not None and (
            any(name in event["class"] for name in STATEFUL)
            or any(own["options"].get("momentum") for own in event["groups"])
        )
        if len(group) >= 3 and len(short) >= len(group) - 1 and keeps:
            yield error(
                "optimizer-lives-on",
                optimizer_name(trace, group[0]).partition("-")[0],
                "a new optimizer was made for every step: its moments start from zero each time",
                cause="the optimizer is built inside the loop",
                hint="build it once, before the loop",
                optimizers=len(group),
            )


def no_duplicates(traces: Mapping[str, Trace], target: Target) -> Iterator[Finding]:
    """No parameter is listed twice in one optimizer."""
    trace = traces["straight"]
    made = trace.events("optimizer")
    if not made:
        raise Vacuous(trace.lost("optimizers") or "no torch optimizer was made")
    for event in made:
        if event.get("overlapping"):
            yield error(
                "optimizer-lists-once",
                places(trace, event["overlapping"]),
                "different parameters share one piece of memory: each is moved by the gradients of all of them",
                cause="weights were tied through .data instead of by assigning the parameter itself",
                hint="tie weights as decoder.weight = embedding.weight",
                parameters=len(event["overlapping"]),
            )
            return
        if event["duplicates"]:
            yield error(
                "optimizer-lists-once",
                places(trace, event["duplicates"]),
                "parameters are listed twice in an optimizer: each step moves them twice",
                cause="a tied weight was collected under both of its names, or two groups overlap",
                hint="collect parameters by identity, model.parameters() does",
                parameters=len(event["duplicates"]),
            )
            return


CHECKS: tuple[Check, ...] = (
    Check(
        "optimizer-holds-model",
        "The optimizer holds the model that is trained.",
        "optimizer",
        holds_model,
        wants=("resumed",),
        proves="No tensor without gradients sits in an optimizer in place of one of the same size that gets them.",
        faults=(
            "head swapped after the optimizer was built",
            "an optimizer over a copy",
            "model wrapped or converted afterwards",
        ),
        limits="Old tensors are recognised by their sizes.",
    ),
    Check(
        "optimizer-covers-model",
        "Every parameter that gets a gradient is in an optimizer.",
        "optimizer",
        covers_model,
        proves="No trainable parameter with a gradient is outside of all optimizers and stays unchanged.",
        faults=("only head.parameters() given", "biases in no group", "an exhausted generator of parameters"),
        limits="Declare what is left out on purpose as `Target.frozen` or `unused`, or set requires_grad=False.",
    ),
    Check(
        "optimizer-lists-once",
        "No parameter is listed twice in an optimizer.",
        "optimizer",
        no_duplicates,
        proves="Identities of the parameters of every optimizer.",
        faults=("a tied weight listed under both names", "weights tied through .data"),
        limits="Two optimizers over one parameter are not judged.",
    ),
    Check(
        "optimizer-lives-on",
        "One optimizer serves all steps.",
        "optimizer",
        lives_on,
        cut=True,
        proves="Optimizers with moments over the same parameters take more than one step each.",
        faults=("an optimizer built inside the loop",),
        limits="Rebuilding per epoch or phase is not judged.",
    ),
)
