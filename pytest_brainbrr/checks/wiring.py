"""What the loss depends on is registered; units of a layer start different, and are initialized once."""

from collections.abc import Iterator, Mapping

from pytest_brainbrr.checks.base import Check, Vacuous
from pytest_brainbrr.checks.iterations import Event, error, places, stepping, warning
from pytest_brainbrr.results import Finding
from pytest_brainbrr.targets import Target
from pytest_brainbrr.trace import Trace


def registered(traces: Mapping[str, Trace], target: Target) -> Iterator[Finding]:
    """Everything the loss depends on is a registered parameter, so that it is trained, moved and saved."""
    trace = traces["straight"]
    walked = [event for event in trace.events("backward") if event["unregistered_leaves"] is not None]
    if not walked:
        raise Vacuous(trace.lost("gradients") or "no graph was walked")
    inputs = {
        tuple(fact["shape"])
        for event in (*trace.events("forward"), *trace.events("batch"))
        for fact in event.get("inputs", event.get("tensors", []))
    }
    known = {tuple(fact["shape"]) for fact in trace.parameters.values()}
    hidden = [item for model in trace.models.values() for item in model["unregistered"]]
    leaves = [
        {
            (tuple(leaf["shape"]), leaf["n"])
            for leaf in event["unregistered_leaves"]
            if tuple(leaf["shape"]) not in inputs
        }
        for event in walked
        if event["function"] == "backward"
    ]
    steady = set.intersection(*leaves) if leaves else set()
    if hidden and steady:
        yield error(
            "parameters-registered",
            ", ".join(sorted(item["path"] for item in hidden)[:3]),
            "layers in a plain list take part in the loss: they are in no optimizer, no checkpoint, and stay where "
            "they are when the model moves",
            cause="a Python list or dict of modules instead of nn.ModuleList or nn.ModuleDict",
            hint="use nn.ModuleList, nn.ModuleDict, nn.ParameterList",
            containers=len(hidden),
            tensors=sum(n for _, n in steady),
        )
        return
    # Fast weights of meta-learning and inputs that are optimized are leaves too: only warn. Where there is no module at
    # all, plain tensors are the model.
    unknown = {(shape, n) for shape, n in steady if shape not in known and len(shape) > 0}
    if unknown and len(leaves) > 1 and trace.models:
        yield warning(
            "parameters-registered",
            "<leaf tensors>",
            "the loss depends on tensors that require gradients and belong to no module and no optimizer",
            cause="a layer made inside forward, or a plain tensor attribute instead of nn.Parameter",
            hint="register it as nn.Parameter or module, or drop requires_grad",
            shapes=sorted(list(shape) for shape, _ in unknown)[:4],
        )


def symmetric(traces: Mapping[str, Trace], target: Target) -> Iterator[Finding]:
    """Units of a layer start different from each other."""
    trace = traces["straight"]
    first: dict[str, tuple[Event, Event]] = {}
    for model in trace.events("model"):
        for fact in model.get("parameters", []):
            first.setdefault(fact["id"], (model, fact))
    if not first:
        raise Vacuous(trace.lost("models") or "no model was seen")
    alike = []
    for identity, (model, fact) in first.items():
        path = fact["name"].rpartition(".")[0]
        options: Event = next((module["attributes"] for module in model["modules"] if module["path"] == path), {})
        layer = (fact["owner"] or "").startswith(("Linear", "Conv", "LSTM", "GRU", "RNN", "Bilinear"))
        dense = len(fact["shape"]) > 1 and fact["shape"][1] > 1 and options.get("groups", 1) == 1
        if (
            layer
            and dense
            and fact["rows_equal"]
            and fact["zero"] is False
            and fact["requires_grad"]
            and not fact["parametrized"]
        ):
            alike.append(identity)
    if alike:
        yield error(
            "units-differ",
            places(trace, alike),
            "all units of a layer start with the same weights: they get the same gradients and stay one unit",
            cause="constant initialization of a weight matrix",
            hint="use a random initialization (kaiming, xavier, orthogonal); zeros are for last layers and residual "
            "branches",
            layers=len(alike),
        )


def initialized_once(traces: Mapping[str, Trace], target: Target) -> Iterator[Finding]:
    """Weights that an optimizer trains are not initialized again."""
    trace = traces["straight"]
    found = stepping(trace)
    again: set[str] = set()
    for own in found.values():
        for event in trace.events("initialized"):
            before = [turn for turn in own if turn.step["n"] < event["n"] and event["parameter"] in turn.parameters]
            after = [turn for turn in own if turn.step["n"] > event["n"] and event["parameter"] in turn.parameters]
            if before and after and not _loaded(trace, event["n"], after[0].step["n"]):
                again.add(event["parameter"])
    if again:
        yield error(
            "initialized-once",
            places(trace, again),
            "weights that had been trained were set to initial values again, and the same optimizer went on",
            cause="reset_parameters() or model.apply(init) is called inside the loop",
            hint="initialize before the loop; to start over, make a new optimizer as well",
            parameters=len(again),
        )


def _loaded(trace: Trace, first: int, last: int) -> bool:
    """Return whether a state was loaded in between: what was initialized is overwritten."""
    return any(first < event["n"] < last for event in trace.events("load_state_dict"))


CHECKS: tuple[Check, ...] = (
    Check(
        "parameters-registered",
        "What the loss depends on is registered.",
        "wiring",
        registered,
        proves="The graph of the loss ends in registered parameters, inputs, or tensors of an optimizer.",
        faults=("layers in a Python list", "a layer made inside forward"),
        limits="The first graphs of a run are walked; leaves that are no list of layers only warn.",
    ),
    Check(
        "units-differ",
        "Units of a layer start different.",
        "wiring",
        symmetric,
        proves="No dense weight of a trainable layer has all rows equal and not zero.",
        faults=("constant initialization",),
        limits="Zeros are usual in last layers and residual branches; whether they ever move is the business of "
        "gradient flow.",
    ),
    Check(
        "initialized-once",
        "Trained weights are not initialized again.",
        "wiring",
        initialized_once,
        cut=True,
        proves="Between two steps of one optimizer, torch.nn.init did not write into a parameter that both moved.",
        faults=("reset_parameters() in every epoch", "model.apply(init) after validation"),
        limits="Only torch.nn.init is seen. Starting over with a new optimizer (cross-validation) is healthy.",
    ),
)
