"""What the configuration says is what runs: rates, decay, dropout, sizes of batches, clipping, and other options."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from pytest_brainbrr.checks.base import Check, Vacuous
from pytest_brainbrr.checks.configured import Said, in_terms_of, numbers, said, the_one, told_by_surroundings
from pytest_brainbrr.checks.iterations import error, finite_number, modules, turns, warning
from pytest_brainbrr.configurations import kind_of
from pytest_brainbrr.results import Finding
from pytest_brainbrr.targets import Target
from pytest_brainbrr.trace import Trace

DEFAULT_RATES = {
    "Adam": 1e-3, "AdamW": 1e-3, "NAdam": 2e-3, "RAdam": 1e-3, "Adamax": 2e-3, "SGD": 1e-3, "RMSprop": 1e-2,
    "Adagrad": 1e-2, "Adadelta": 1.0,
}  # fmt: skip
KINSHIP = frozenset({"adam", "adamw"})
"""Names of optimizers that people use for each other."""
BASES = {8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0}
"""Sizes of batches for which a rate is said to be meant where it grows with the size."""
ABOVE = 1.05
FEW_STEPS = 3
CAUSE = "the key is read under another name, so that a default takes its place, or its value is not passed on"
HINT = "pass it on; refuse keys that nobody reads"


def echoed(traces: Mapping[str, Trace], target: Target) -> Iterator[Finding]:
    """Compare what configurations say with what is in force."""
    trace = traces["straight"]
    found = said(trace)
    undeclared = list(_undeclared(trace))
    if not found and not undeclared:
        raise Vacuous("no configuration was seen: neither arguments, variables, files nor a checkpoint tell options")
    yield from undeclared[:1]
    taking = {step["optimizer"] for step in trace.steps}
    optimizers = [event for event in trace.events("optimizer") if event["id"] in taking]
    judges: dict[str, Callable[[Trace, Said, list[dict[str, Any]]], Iterator[Finding]]] = {
        "rate": _rate,
        "decay": _decay,
        "dropout": _dropout,
        "batch": _batch,
        "clip": _clip,
        "momentum": _momentum,
        "betas": _betas,
        "smoothing": _smoothing,
        "accumulation": _accumulation,
        "optimizer": _name,
    }
    for kind, judge in judges.items():
        one = the_one(found, kind)
        if one is not None:
            yield from judge(trace, one, optimizers)


def _finding(one: Said, where: str, text: str, in_force: Any, *, sure: bool = False, cause: str = CAUSE) -> Finding:
    if one.misspelled:
        cause = "the key is misspelt, so that nobody reads it and a default takes its place"
    evidence = {"configured": one.value, "key": one.place, "in_force": in_force}
    return (error if sure else warning)("configuration-echo", where, text, cause=cause, hint=HINT, **evidence)


def _numbers_only(one: Said) -> bool:
    return finite_number(one.value) and one.value > 0


def _rate(trace: Trace, one: Said, optimizers: list[dict[str, Any]]) -> Iterator[Finding]:
    if not optimizers or not _numbers_only(one) or told_by_surroundings(trace, "lr", "rate"):
        return
    live = {rate for step in trace.steps for group in step["groups"] if finite_number(rate := group.get("lr"))}
    seen = _rates(trace, optimizers)
    if any(_equal(value, one.value) for value in seen):
        return
    kinds = {str(event["class"]).rpartition(".")[2] for event in optimizers}
    defaults = {DEFAULT_RATES[kind] for kind in kinds if kind in DEFAULT_RATES}
    given = {event["defaults"].get("lr") for event in optimizers}
    forgotten = len(given) == 1 and len(defaults) == 1 and given == defaults
    if not one.explicit and (len(optimizers) > 1 or len(live) != 1 or _explained(trace, one.value, live)):
        return
    # Rates scaled by batch size, world size or layer are usual; the class's own default in their place is not.
    text = "the learning rate of the configuration is not in force" + (
        ": the optimizer has its class's default" if forgotten else ""
    )
    in_force = sorted(value for value in given if finite_number(value))
    yield _finding(one, "learning rate", text, in_force, sure=forgotten)


def _rates(trace: Trace, optimizers: list[dict[str, Any]]) -> set[float]:
    """Return every rate that was in force, begun with, or planned by a schedule."""
    names = ("lr", "initial_lr", "max_lr")
    groups = [group["options"] for event in optimizers for group in event["groups"]]
    groups += [group for step in trace.steps for group in step["groups"]]
    seen = {float(value) for group in groups for name in names if finite_number(value := group.get(name))}
    for event in trace.events("scheduler"):
        seen |= {float(rate) for rate in event["rates"] if finite_number(rate)}
        for name, value in event["options"].items():
            values = value if isinstance(value, list) else [value]
            seen |= {float(rate) for rate in values if "lr" in name and finite_number(rate)}
    return seen


def _explained(trace: Trace, wanted: float, live: set[float]) -> bool:
    """Return whether the rate in force stands in a configuration itself, or is the one told, scaled as is usual."""
    others = {
        float(value)
        for event in trace.events("configuration", after=True)
        for path, value in event["values"].items()
        if finite_number(value) and kind_of(path.rpartition(".")[2])[0] in {None, "rate"}
    }
    sizes = {float(loader["batch_size"]) for loader in trace.events("loader") if loader.get("batch_size")}
    units = numbers(trace, scales=True) | sizes | {float(_ranks(trace)), float(_backwards(trace) or 1)}
    return all(
        any(_equal(value, rate) for value in others)
        or in_terms_of(rate / wanted, units)
        or any(in_terms_of(rate / wanted * base, units) for base in BASES)
        for rate in live
        if rate
    )


def _decay(trace: Trace, one: Said, optimizers: list[dict[str, Any]]) -> Iterator[Finding]:
    if not optimizers or not _numbers_only(one) or (len(optimizers) > 1 and not one.explicit):
        return
    ours = _options(trace, optimizers, "weight_decay")
    if any(_equal(value, one.value) for value in ours) or (not one.explicit and not ours):
        return
    units = numbers(trace, scales=True)
    if not one.explicit and any(value > 0 and in_terms_of(value / one.value, units) for value in ours):
        return
    text = "no parameter group has the weight decay of the configuration"
    yield _finding(one, "weight_decay", text, sorted(ours))


def _dropout(trace: Trace, one: Said, optimizers: list[dict[str, Any]]) -> Iterator[Finding]:
    if not finite_number(one.value) or not 0 <= one.value < 1:
        return
    facts = [(str(module["class"]), module["attributes"]) for _, _, module in modules(trace)]
    ours = {given["p"] for kind, given in facts if "Dropout" in kind and finite_number(given.get("p"))}
    told = {value for _, given in facts for name, value in given.items() if "drop" in name and finite_number(value)}
    if not ours or any(_equal(value, one.value) for value in ours | told):
        return
    elsewhere = {
        value
        for event in trace.events("configuration", after=True)
        for path, value in event["values"].items()
        if "drop" in path.lower() and finite_number(value)
    }
    if not one.explicit and any(_equal(value, other) for value in ours for other in elsewhere):
        return
    default = ours == {0.5}
    text = "no dropout module has the probability of the configuration"
    cause = "the value is read and not passed on to the layers"
    yield _finding(
        one,
        "dropout",
        text + (": all have torch's default" if default else ""),
        sorted(ours),
        sure=default,
        cause=cause,
    )


def _batch(trace: Trace, one: Said, optimizers: list[dict[str, Any]]) -> Iterator[Finding]:
    loaders = [loader for loader in trace.loaders("train") if finite_number(loader.get("batch_size"))]
    if len(loaders) != 1 or not _numbers_only(one) or told_by_surroundings(trace, "batch", "bs"):
        return
    wanted, live = float(one.value), float(loaders[0]["batch_size"])
    rows = {float(fact["shape"][0]) for call in trace.train_calls for fact in call["inputs"] if fact["shape"]}
    everywhere = {float(loader["batch_size"]) for loader in trace.events("loader") if loader.get("batch_size")}
    length = loaders[0]["num_samples"]
    if wanted in rows | everywhere or live in {2 * wanted, wanted / 2} or (length and min(wanted, length) == live):
        return
    others = {
        float(value)
        for event in trace.events("configuration", after=True)
        for path, value in event["values"].items()
        if finite_number(value) and kind_of(path.rpartition(".")[2])[0] != "batch"
    }
    units = numbers(trace, scales=True) | {float(_ranks(trace)), float(_backwards(trace) or 1)}
    if live in others or in_terms_of(live / wanted, units - {wanted, live}):
        return
    yield _finding(one, "batch size", "the training loader's batches are not of the size configured", live)


def _clip(trace: Trace, one: Said, optimizers: list[dict[str, Any]]) -> Iterator[Finding]:
    if not _numbers_only(one) or len(optimizers) != 1:
        return
    limits = {event["limit"] for event in trace.events("clip") if finite_number(event.get("limit"))}
    if any(_equal(value, one.value) for value in limits):
        return
    if limits:
        if not in_terms_of(max(limits) / one.value, numbers(trace, scales=True) - {float(one.value)}):
            yield _finding(
                one, "clipping", "gradients are clipped at another limit than the one configured", sorted(limits)
            )
        return
    norms = [
        sum(fact["grad_norm"] ** 2 for fact in step["parameters"] if finite_number(fact.get("grad_norm"))) ** 0.5
        for step in trace.steps
    ]
    if len(norms) >= FEW_STEPS and all(norm > ABOVE * one.value for norm in norms):
        text = "a limit for gradients is configured, and steps are taken on gradients that exceed it"
        yield _finding(one, "clipping", text, round(max(norms), 6), cause="clipping is configured and never called")


def _momentum(trace: Trace, one: Said, optimizers: list[dict[str, Any]]) -> Iterator[Finding]:
    kinds = {str(event["class"]) for event in optimizers}
    if not _numbers_only(one) or len(optimizers) != 1 or kinds != {"torch.optim.sgd.SGD"} or trace.events("copy"):
        return
    layers = {module["attributes"].get("momentum") for _, _, module in modules(trace)}
    if any(_equal(value, one.value) or _equal(value, 1 - one.value) for value in layers):
        return
    ours = _options(trace, optimizers, "momentum")
    if ours == {0.0}:
        yield _finding(one, "momentum", "a momentum is configured, and the optimizer has none", sorted(ours))


def _betas(trace: Trace, one: Said, optimizers: list[dict[str, Any]]) -> Iterator[Finding]:
    if not isinstance(one.value, list) or len(optimizers) != 1:
        return
    ours = [group["options"].get("betas") for event in optimizers for group in event["groups"]]
    known = [list(value) for value in ours if isinstance(value, list | tuple) and len(value) == len(one.value)]
    if known and not any(all(map(_equal, value, one.value)) for value in known):
        yield _finding(one, "betas", "no parameter group has the betas of the configuration", known[0])


def _smoothing(trace: Trace, one: Said, optimizers: list[dict[str, Any]]) -> Iterator[Finding]:
    losses = [loss for loss in trace.events("loss") if loss["grad_enabled"]]
    if not _numbers_only(one) or not losses or {loss["function"] for loss in losses} != {"cross_entropy"}:
        return
    hard = all("int" in fact["dtype"] for loss in losses for fact in loss["args"] if fact["at"] == "target")
    if hard and not any(loss["options"].get("label_smoothing") for loss in losses):
        text = "label smoothing is configured, and the loss does not smooth"
        yield _finding(one, "label smoothing", text, 0.0)


def _accumulation(trace: Trace, one: Said, optimizers: list[dict[str, Any]]) -> Iterator[Finding]:
    if not _numbers_only(one) or one.value < 2 or len(optimizers) != 1 or _ranks(trace) > 1:
        return
    if _backwards(trace) == 1:
        text = "gradients are to be accumulated over batches, and every batch takes a step"
        yield _finding(one, "accumulation", text, 1)


def _name(trace: Trace, one: Said, optimizers: list[dict[str, Any]]) -> Iterator[Finding]:
    names = {name.lower() for name in (*DEFAULT_RATES, "LBFGS")}
    if len(optimizers) != 1 or not isinstance(one.value, str) or one.value.lower() not in names:
        return
    live = str(optimizers[0]["class"]).rpartition(".")[2].lower()
    if live in names and live != one.value.lower() and not {live, one.value.lower()} <= KINSHIP:
        yield _finding(one, "optimizer", "the optimizer is not the one configured", live)


def _undeclared(trace: Trace) -> Iterator[Finding]:
    """Find what was set on a configuration under a name that it does not have, beside one that means the same."""
    for event in trace.events("configuration"):
        values = event["values"]
        for name in event["undeclared"]:
            kind, _ = kind_of(name)
            declared = [key for key in values if key not in event["undeclared"] and kind_of(key) == (kind, False)]
            if kind is None or not declared or not finite_number(values.get(name)):
                continue
            if _equal(values[declared[0]], values[name]) or kind != "rate":
                continue
            live = _rates(trace, trace.events("optimizer"))
            if any(_equal(rate, values[name]) for rate in live):
                continue
            if not any(_equal(rate, values[declared[0]]) for rate in live):
                continue
            one = Said(kind, values[name], f"{event['name']}.{name}", False, True)
            text = "an option was set under a name that the settings do not have, and its default stays in force"
            cause = f"the settings call it {declared[0]!r}; an attribute of another name is set without a word"
            yield _finding(one, "learning rate", text, values[declared[0]], cause=cause)


def _options(trace: Trace, optimizers: list[dict[str, Any]], name: str) -> set[float]:
    groups = [group["options"] for event in optimizers for group in event["groups"]]
    groups += [group for step in trace.steps for group in step["groups"]]
    return {float(value) for group in groups if finite_number(value := group.get(name))}


def _ranks(trace: Trace) -> int:
    return max((int(event["world_size"] or 1) for event in trace.events("distributed", role=None)), default=1)


def _backwards(trace: Trace) -> int | None:
    """Return how many backwards each step rests on, None if they are not equally many at three steps or more."""
    counts = {len(turn.backwards) for turns_of in turns(trace).values() for turn in turns_of}
    return counts.pop() if len(counts) == 1 and len(trace.steps) >= FEW_STEPS else None


def _equal(value: Any, wanted: Any) -> bool:
    return finite_number(value) and abs(value - wanted) <= 1e-6 * max(abs(wanted), 1e-12)


CHECKS: tuple[Check, ...] = (
    Check(
        "configuration-echo",
        "What the configuration says is what runs.",
        "configuration",
        echoed,
        proves="Rates, weight decay, dropout, sizes of batches, limits of clipping, momentum, betas, label smoothing, "
        "accumulation and the kind of optimizer are those of the arguments, settings, files and checkpoints that tell "
        "them.",
        faults=(
            "a misspelt key, so that the default is used",
            "dropout read and not passed on",
            "a batch size read from a key that is not there",
            "clipping configured and never called",
            "an option set under a name that the settings do not have",
        ),
        limits="Only where what is seen of the configuration tells one value, in a section that speaks of the whole "
        "training, and one optimizer steps. Rates scaled by a size or a factor that is told are left alone. Fails only "
        "where the class's own default is in force instead; else warns.",
    ),
)
