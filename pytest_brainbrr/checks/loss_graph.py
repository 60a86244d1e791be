"""What backward starts from hangs together with the model."""

from collections import Counter
from collections.abc import Iterator, Mapping

from pytest_brainbrr.checks.base import Check, Vacuous
from pytest_brainbrr.checks.iterations import Event, calls, error, finite_number, prediction, value_of
from pytest_brainbrr.results import Finding
from pytest_brainbrr.targets import Target
from pytest_brainbrr.trace import Trace


def graph_whole(traces: Mapping[str, Trace], target: Target) -> Iterator[Finding]:
    """What backward starts from hangs together with the model."""
    trace = traces["straight"]
    backwards = trace.events("backward", function="backward")
    if not backwards:
        raise Vacuous(trace.lost("gradients") or "backward was never called")
    if all(event["root"] and not event["root"]["grad_fn"] and not event["forwards"] for event in backwards):
        yield error(
            "loss-graph",
            "<loss>",
            "backward was called on a tensor without history: no gradient can reach the model",
            cause="the loss was rebuilt from a number, torch.tensor(loss.item(), requires_grad=True)",
            hint="call backward on the tensor that the loss function returned",
            backwards=len(backwards),
        )
        return
    by_call, losses = calls(trace), trace.events("loss")
    if _bypassed(trace):
        yield error(
            "loss-graph",
            "<loss>",
            "no gradient ever reached an output of the model: the loss depends on its weights only, not on what it "
            "computes",
            cause="outputs are detached (`.detach()`, `.data`, numpy) before the loss, and a penalty on the weights "
            "is all that trains",
            hint="compute the loss on the model's own outputs",
            backwards=len(backwards),
        )
        return
    wasted = Counter(function for event in backwards for function in _wasted(event, by_call, losses))
    for function, count in wasted.items():
        if count >= 2 or count == len(backwards):
            yield error(
                "loss-graph",
                function,
                "the loss was computed on detached outputs: only what was added to it trains the model",
                cause="`.detach()`, `.data` or `.item()` between model and loss",
                hint="compute the loss on the model's own outputs",
                steps=count,
            )


def _wasted(event: Event, by_call: Mapping[int, Event], losses: list[Event]) -> Iterator[str]:
    """Yield the functions of losses on detached outputs that make up nearly all of the root of this backward."""
    root = (event["root"] or {}).get("mean")
    if event["losses"] or not finite_number(root) or not event["forwards"]:
        return
    for loss in losses:
        given, value = prediction(loss), value_of(loss)
        source = by_call.get(loss["input_from"]) if loss["input_from"] is not None else None
        if given is None or given["requires_grad"] or not loss["grad_enabled"] or source is None:
            continue
        if source["call"] not in event["forwards"] or not finite_number(value):
            continue
        # Equal values would be a second copy of the loss, kept for the log.
        if 1e-6 < abs(root / (event["scale"] or 1.0) - value) / max(abs(value), 1e-12) < 0.05:
            yield loss["function"]


def _bypassed(trace: Trace) -> bool:
    """Return whether a model was called with gradients, its parameters got some, and its outputs never."""
    ours = {fact["model"] for identity, fact in trace.parameters.items() if identity in trace.optimized}
    made = [
        call for call in trace.events("forward") if call["model"] in ours and call["training"] and call["grad_enabled"]
    ]
    made = [call for call in made if any(fact["grad_fn"] for fact in call["outputs"])]
    backwards = trace.events("backward")
    return (
        len({call["step"] for call in made}) > 1
        and not any(event["forwards"] for event in backwards)
        and any(event["touched"] for event in backwards)
    )


CHECKS: tuple[Check, ...] = (
    Check(
        "loss-graph",
        "What backward starts from hangs together with the model.",
        "loss",
        graph_whole,
        proves="Backward was called on a tensor with history, and no loss that makes up the root was computed on "
        "detached outputs.",
        faults=(
            "torch.tensor(loss.item(), requires_grad=True)",
            "the loss of detached logits plus a small regularizer",
        ),
        limits="Detached losses are recognised where their value makes up the root.",
    ),
)
