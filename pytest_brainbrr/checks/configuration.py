"""What the configuration says is what runs: learning rate, weight decay and dropout, where both are visible."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from pytest_brainbrr.checks.base import Check, Vacuous
from pytest_brainbrr.checks.iterations import error, finite_number, modules, warning
from pytest_brainbrr.results import Finding
from pytest_brainbrr.targets import Target
from pytest_brainbrr.trace import Trace

SECTIONS = frozenset(
    {"config", "cfg", "conf", "args", "hparams", "hyper_parameters", "hyperparameters", "settings", "options", "params"}
)
RATES = frozenset({"lr", "learning_rate", "base_lr", "initial_lr"})
DECAYS = frozenset({"weight_decay", "wd"})
DROPOUTS = frozenset({"dropout", "dropout_p", "drop_rate", "dropout_rate"})
DEFAULT_RATES = {
    "Adam": 1e-3, "AdamW": 1e-3, "NAdam": 2e-3, "RAdam": 1e-3, "Adamax": 2e-3, "SGD": 1e-3, "RMSprop": 1e-2,
    "Adagrad": 1e-2, "Adadelta": 1.0,
}  # fmt: skip


def told(trace: Trace) -> dict[str, list[tuple[str, float]]]:
    """Return what arguments and checkpointed configurations say: last word of the key -> places and values."""
    found: dict[str, list[tuple[str, float]]] = {}
    words = [str(word) for word in trace.process.get("argv") or []]
    for word, following in zip(words, [*words, ""][1:], strict=True):
        match = re.fullmatch(r"--?([\w.-]+)(?:=(.*))?", word)
        value = _number(match.group(2) or following) if match else None
        if match and value is not None:
            found.setdefault(match.group(1).replace("-", "_").rpartition(".")[2], []).append(
                (f"argument {match.group(1)}", value)
            )
    for checkpoint in trace.checkpoints[:1]:
        for path, value in checkpoint["scalars"].items():
            parts = path.lower().split("/")
            if SECTIONS.intersection(parts[:-1]) and "param_groups" not in parts and finite_number(value):
                found.setdefault(parts[-1], []).append((path, float(value)))
    return found


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def echoed(traces: Mapping[str, Trace], target: Target) -> Iterator[Finding]:
    """Rate, decay and dropout of the configuration are in force."""
    trace = traces["straight"]
    said = told(trace)
    rates = {value for name in RATES for _, value in said.get(name, [])}
    decays = {value for name in DECAYS for _, value in said.get(name, [])}
    dropouts = {value for name in DROPOUTS for _, value in said.get(name, [])}
    if not (rates or decays or dropouts):
        raise Vacuous(
            "no configuration was seen: neither arguments nor a checkpoint tell a learning rate, weight decay or "
            "dropout"
        )
    optimizers = trace.events("optimizer")
    stepping = {step["optimizer"] for step in trace.steps}
    optimizers = [event for event in optimizers if event["id"] in stepping]
    if len(rates) == 1 and optimizers:
        yield from _rate(trace, next(iter(rates)), optimizers)
    if len(decays) == 1 and optimizers:
        wanted = next(iter(decays))
        ours = {group["options"].get("weight_decay") for event in optimizers for group in event["groups"]}
        if not any(_equal(value, wanted) for value in ours) and wanted > 0:
            yield warning(
                "configuration-echo",
                "weight_decay",
                "no parameter group has the weight decay of the configuration",
                cause="the key is read by nobody, or under another name",
                hint="pass it to the optimizer; refuse unknown keys",
                configured=wanted,
                in_force=sorted(value for value in ours if finite_number(value)),
            )
    if len(dropouts) == 1:
        wanted = next(iter(dropouts))
        ours = {
            module["attributes"]["p"]
            for _, _, module in modules(trace)
            if "Dropout" in module["class"] and finite_number(module["attributes"].get("p"))
        }
        if ours and 0 <= wanted < 1 and not any(_equal(value, wanted) for value in ours):
            default = ours == {0.5}
            yield (error if default else warning)(
                "configuration-echo",
                "dropout",
                "no dropout module has the probability of the configuration"
                + (": all have torch's default" if default else ""),
                cause="the value is read and not passed on to the layers",
                hint="pass it to every nn.Dropout",
                configured=wanted,
                in_force=sorted(ours),
            )


def _rate(trace: Trace, wanted: float, optimizers: list[dict[str, Any]]) -> Iterator[Finding]:
    seen = {
        value
        for event in optimizers
        for group in event["groups"]
        for name in ("lr", "initial_lr", "max_lr")
        if finite_number(value := group["options"].get(name))
    }
    seen |= {
        rate
        for step in trace.steps
        for group in step["groups"]
        for name in ("lr", "initial_lr", "max_lr")
        if finite_number(rate := group.get(name))
    }
    for event in trace.events("scheduler"):
        seen |= {float(value) for name, value in event["options"].items() if "lr" in name and finite_number(value)}
        seen |= {rate for rate in event["rates"] if finite_number(rate)}
        seen |= {
            rate
            for name, values in event["options"].items()
            if "lr" in name and isinstance(values, list)
            for rate in values
            if finite_number(rate)
        }
    if any(_equal(value, wanted) for value in seen) or wanted <= 0:
        return
    kinds = {str(event["class"]).rpartition(".")[2] for event in optimizers}
    defaults = {DEFAULT_RATES[kind] for kind in kinds if kind in DEFAULT_RATES}
    given = {event["defaults"].get("lr") for event in optimizers}
    forgotten = len(given) == 1 and len(defaults) == 1 and given == defaults
    # Rates scaled by batch size, world size or layer are usual; the class's own default in their place is not.
    yield (error if forgotten else warning)(
        "configuration-echo",
        "learning rate",
        "the learning rate of the configuration is not in force"
        + (": the optimizer has its class's default" if forgotten else ""),
        cause="the key is misspelt or never passed to the optimizer",
        hint="pass it to the optimizer; refuse unknown keys",
        configured=wanted,
        in_force=sorted(value for value in given if finite_number(value)),
    )


def _equal(value: Any, wanted: float) -> bool:
    return finite_number(value) and abs(value - wanted) <= 1e-6 * max(abs(wanted), 1e-12)


CHECKS: tuple[Check, ...] = (
    Check(
        "configuration-echo",
        "What the configuration says is what runs.",
        "configuration",
        echoed,
        proves="Learning rate, weight decay and dropout told by arguments or by a checkpoint's configuration are in "
        "force.",
        faults=("a misspelt key, so that the default is used", "dropout read and not passed on"),
        limits="Only where a configuration is visible and tells one value; a value that differs otherwise only warns.",
    ),
)
