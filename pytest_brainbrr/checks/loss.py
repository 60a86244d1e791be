"""Losses: shapes that fit, the right kind of input, the right sign, and a graph back to the model."""

from collections.abc import Iterator, Mapping

from pytest_brainbrr.checks.base import Check, Vacuous
from pytest_brainbrr.checks.iterations import (
    Event,
    Turn,
    argument,
    error,
    finite_number,
    loss_calls,
    optimizer_name,
    prediction,
    stepping,
    value_of,
    warning,
)
from pytest_brainbrr.checks.pull import pushed_away
from pytest_brainbrr.results import Finding
from pytest_brainbrr.targets import Target
from pytest_brainbrr.trace import Trace

ELEMENTWISE = frozenset({"mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss", "poisson_nll_loss", "kl_div"})
LOGITS = frozenset({"binary_cross_entropy_with_logits", "multilabel_soft_margin_loss", "soft_margin_loss"})
SQUASHED = frozenset({"SigmoidBackward0", "SoftmaxBackward0", "SafeSoftmaxBackward0"})
SIGNED = LOGITS | {"binary_cross_entropy"}


def training_losses(trace: Trace) -> list[Event]:
    """Return the loss calls whose input a backward reached; without any, those made with gradients on."""
    reached = {number for backward in trace.events("backward") for number in backward["losses"]}
    every = trace.events("loss")
    return [loss for loss in every if loss["call"] in reached] or [loss for loss in every if loss["grad_enabled"]]


def no_loss(trace: Trace) -> str:
    """Return why no loss was seen."""
    return trace.lost("losses") or "no loss function of torch.nn.functional was called: the loss is written by hand"


def shapes_fit(traces: Mapping[str, Trace], target: Target) -> Iterator[Finding]:
    """No elementwise loss broadcasts prediction against target into a table of all pairs."""
    trace = traces["straight"]
    judged = [loss for loss in trace.events("loss") if prediction(loss) and argument(loss, "target")]
    walked = [event for event in trace.events("backward") if event.get("tables") is not None]
    if not judged and not walked:
        raise Vacuous(no_loss(trace))
    outputs = {tuple(fact["shape"]) for call in trace.train_calls for fact in call["outputs"]}
    tables = [tuple(shape) for event in walked for shape in event["tables"] if _matches(tuple(shape), outputs)]
    if tables:
        yield error(
            "loss-shapes",
            "<loss>",
            "prediction and target, subtracted or multiplied, make a table of every prediction with every target",
            cause="a (B, 1) tensor beside a (B,) one: squeeze or unsqueeze is missing",
            hint="give both the same shape before the loss",
            prediction=list(tables[0]),
        )
    cut = [loss for loss in training_losses(trace) if loss.get("scrambled")]
    if cut:
        yield error(
            "loss-shapes",
            cut[0]["function"],
            "the model's output was cut anew instead of having two axes exchanged: classes and places are mixed",
            cause="reshape or view where transpose or permute was meant",
            hint="move axes with transpose; reshape only joins or splits neighbours",
            calls=len(cut),
        )
    told: set[str] = set()
    for loss in judged:
        given, wanted = prediction(loss), argument(loss, "target")
        assert given is not None
        assert wanted is not None
        if loss["function"] not in ELEMENTWISE or loss["function"] in told:
            continue
        one, two = list(given["shape"]), list(wanted["shape"])
        if len(one) != len(two) and one and two and product(_broadcast(one, two)) > max(product(one), product(two)):
            told.add(loss["function"])
            yield error(
                "loss-shapes",
                loss["function"],
                "prediction and target have different numbers of dimensions and were broadcast: every prediction is "
                "compared with every target",
                cause="a (B, 1) tensor against a (B,) one: squeeze or unsqueeze is missing",
                hint="give both the same shape before the loss",
                prediction=one,
                target=two,
            )


def _matches(shape: tuple[int, ...], outputs: set[tuple[int, ...]]) -> bool:
    """Return whether a tensor of this shape is an output of the model, up to a last dimension of 1."""
    return any(output in (shape, (*shape, 1)) or shape == (*output, 1) for output in outputs)


def _broadcast(one: list[int], two: list[int]) -> list[int]:
    size = max(len(one), len(two))
    padded = [[1] * (size - len(shape)) + shape for shape in (one, two)]
    return [max(a, b) for a, b in zip(*padded, strict=True)]


def product(shape: list[int]) -> int:
    """Return how many elements a tensor of this shape has."""
    result = 1
    for size in shape:
        result *= size
    return result


def input_kind(traces: Mapping[str, Trace], target: Target) -> Iterator[Finding]:
    """A loss that wants logits gets no probabilities, one that wants log-probabilities no positive numbers."""
    trace = traces["straight"]
    judged = [loss for loss in training_losses(trace) if prediction(loss)]
    if not judged:
        raise Vacuous(no_loss(trace))
    by_function: dict[str, list[Event]] = {}
    for loss in judged:
        by_function.setdefault(loss["function"], []).append(loss)
    for function, losses in by_function.items():
        inputs = [prediction(loss) or {} for loss in losses]
        squashed = [fact for fact in inputs if fact.get("made_by") in SQUASHED]
        softmaxed = function == "cross_entropy" and all(loss["probability_like"] for loss in losses)
        if (function in LOGITS or function == "cross_entropy") and (squashed or softmaxed):
            kind = str(squashed[0]["made_by"]).removesuffix("Backward0").lower() if squashed else "softmax"
            yield error(
                "loss-input-kind",
                function,
                "a loss that takes logits was given probabilities: squashed twice, gradients are small and outputs "
                "cannot become certain",
                cause=f"the model ends in a {kind}, and the loss applies its own",
                hint=f"remove the {kind} from the model's forward, and apply it only where probabilities are wanted",
                calls=len(losses),
            )
        elif function in LOGITS and len(losses) > 1 and all(_opaque(fact) and _looks_squashed(fact) for fact in inputs):
            yield warning(
                "loss-input-kind",
                function,
                "every input of a loss that takes logits lay between 0 and 1, as probabilities do",
                cause="the model may end in a sigmoid, and the loss applies its own",
                hint="give the loss logits",
                lowest=min(fact["min"] for fact in inputs),
                highest=max(fact["max"] for fact in inputs),
            )
        elif function == "nll_loss" and any(finite_number(fact.get("max")) and fact["max"] > 1e-4 for fact in inputs):
            yield error(
                "loss-input-kind",
                function,
                "nll_loss was given numbers above 0, which no log-probability is: it falls without end and teaches "
                "nothing",
                cause="logits or probabilities instead of log_softmax",
                hint="use cross_entropy on logits, or apply log_softmax first",
                highest=max(fact["max"] for fact in inputs if finite_number(fact.get("max"))),
            )


def _opaque(fact: Event) -> bool:
    """Return whether it is unknown how a tensor was made: by a compiled or custom function, or not recorded."""
    made_by = fact.get("made_by")
    return made_by is None or "Compiled" in made_by or not made_by.rstrip("0123456789").endswith("Backward")


def _looks_squashed(fact: Event) -> bool:
    if not all(finite_number(fact.get(name)) for name in ("min", "max", "mean")):
        return False
    # A zero-initialized head starts at exactly 0 and stays near it; a sigmoid starts near one half.
    return bool(0 < fact["min"] < fact["max"] < 1 and 0.2 < fact["mean"] < 0.8)


def targets_fit(traces: Mapping[str, Trace], target: Target) -> Iterator[Finding]:
    """Targets of a binary cross-entropy are probabilities."""
    trace = traces["straight"]
    judged = [
        (loss, fact)
        for loss in trace.events("loss")
        if loss["function"].startswith("binary_cross_entropy")
        and (fact := argument(loss, "target"))
        and finite_number(fact["min"])
    ]
    if not judged:
        raise Vacuous("no binary cross-entropy was called")
    outside = [fact for _, fact in judged if fact["min"] < 0 or fact["max"] > 1]
    if not outside:
        return
    # Noisy labels of up to 1.2 are a trick of adversarial training: only numbers far outside are wrong for certain.
    wrong = [fact for fact in outside if fact["min"] <= -0.5 or fact["max"] >= 1.5]
    report = error if wrong else warning
    yield report(
        "loss-targets",
        "binary_cross_entropy",
        "targets lie outside of 0 to 1: the loss has no minimum",
        cause="labels coded -1/1 or as class numbers, or smoothed twice",
        hint="map labels to 0 and 1",
        lowest=min(fact["min"] for fact in outside),
        highest=max(fact["max"] for fact in outside),
    )


def explained(
    backward: Event, grads: Mapping[int, Event], losses: Mapping[int, Event], close: float = 1e-3
) -> list[float] | None:
    """Return the coefficients of the losses if the root is nothing but their weighted sum; None if more, or unknown."""
    root = (backward["root"] or {}).get("mean")
    if not backward["losses"] or not finite_number(root):
        return None
    total, coefficients = 0.0, []
    for number in backward["losses"]:
        coefficient = (grads.get(number) or {}).get("output_grad")
        value = value_of(losses.get(number))
        if not finite_number(coefficient) or not finite_number(value):
            return None
        if losses[number]["reduction"] == "none":
            elements = (grads.get(number) or {}).get("elements")
            if not elements or not finite_number(elements["explained"]):
                return None
            total += elements["explained"]
            coefficients.append(_one_sign(elements))
            continue
        total += coefficient * value
        coefficients.append(coefficient)
    return coefficients if abs(total - root) <= close * max(abs(root), 1e-12) else None


def _one_sign(elements: Event) -> float:
    """Return the weight furthest from zero if all losses of a table have weights of one sign, else 0."""
    if elements["low"] >= 0:
        return float(elements["high"])
    return float(elements["low"]) if elements["high"] <= 0 else 0.0


def _weighed(found: Mapping[str, list[Turn]], grads: Mapping[int, Event]) -> bool:
    """Return whether losses of a table count differently: by rewards, which may all be below zero, or by class."""
    elements = [
        (grads.get(number) or {}).get("elements")
        for own in found.values()
        for turn in own
        for backward in turn.backwards
        for number in backward["losses"]
    ]
    return any(one and one["high"] - one["low"] > 1e-3 * abs(one["low"]) for one in elements)


def direction(traces: Mapping[str, Trace], target: Target) -> Iterator[Finding]:
    """Steps lower the loss: its sign and the optimizer's agree."""
    trace = traces["straight"]
    found = stepping(trace)
    losses, grads = loss_calls(trace), {event["call"]: event for event in trace.events("loss_grad")}
    signs: dict[str, list[int]] = {}
    for optimizer, own in found.items():
        for turn in own:
            maximize = any(group.get("maximize") for group in turn.step["groups"])
            for backward in turn.backwards:
                sign = _sign(backward, grads, losses)
                signs.setdefault(optimizer, []).append(-sign if maximize else sign)
    ascending = [optimizer for optimizer, values in signs.items() if values and all(value < 0 for value in values)]
    # Adversarial training lowers a loss in one optimizer and raises it in another.
    if ascending and len(ascending) == len(signs):
        maximize = any(group.get("maximize") for turn in found[ascending[0]] for group in turn.step["groups"])
        yield (warning if _weighed(found, grads) else error)(
            "loss-direction",
            optimizer_name(trace, ascending[0]),
            "every step raises the loss instead of lowering it",
            cause="the optimizer was made with maximize=True"
            if maximize
            else "the sign of the loss is flipped before backward",
            hint="give the optimizer a loss to lower, and leave maximize off",
            steps=len(found[ascending[0]]),
        )
        return
    upward = next((optimizer for optimizer, own in found.items() if _first_update_ascends(own[0].step)), None)
    if upward is not None:
        yield error(
            "loss-direction",
            optimizer_name(trace, upward),
            "the optimizer's first update goes along every gradient instead of against it",
            cause="the sign of the update is wrong",
            hint="subtract the gradient",
        )
        return
    signed = any(value for values in signs.values() for value in values)
    away = None if signed else pushed_away(trace)
    yield from away or ()
    moved = any(fact["descent"] for own in found.values() for turn in own for fact in turn.step["parameters"])
    if not signed and away is None and not moved:
        raise Vacuous("neither the gradient at a known loss nor the direction of an update was seen")


def _first_update_ascends(step: Event) -> bool:
    """Return whether an optimizer without decay moved every parameter along its gradient in its first step."""
    options = [group.get("maximize") or group.get("weight_decay") for group in step["groups"]]
    descents = [fact["descent"] for fact in step["parameters"] if fact["grad"] == "finite" and fact["descent"]]
    if step["closure"] or any(options) or len(descents) < 2:
        return False
    return all(finite_number(value) and value > 0 for value in descents)


def _sign(backward: Event, grads: Mapping[int, Event], losses: Mapping[int, Event]) -> int:
    """Return 1 if this backward lowers the known losses, -1 if it raises them, 0 if that is not known."""
    coefficients = explained(backward, grads, losses)
    if coefficients is None:
        return _sign_by_labels(backward, grads, losses)
    if all(value > 0 for value in coefficients):
        return 1
    return -1 if all(value < 0 for value in coefficients) else 0


def _sign_by_labels(backward: Event, grads: Mapping[int, Event], losses: Mapping[int, Event]) -> int:
    """Tell the sign from the gradients at positive and negative labels where a single known loss is the whole root."""
    if len(backward["losses"]) != 1 or backward["losses"][0] not in grads:
        return 0
    number = backward["losses"][0]
    loss, grad = losses.get(number), grads[number]
    value, root = value_of(loss), (backward["root"] or {}).get("mean")
    if loss is None or loss["function"] not in SIGNED or not finite_number(value) or not finite_number(root):
        return 0
    if abs(abs(value * (backward["scale"] or 1.0)) - abs(root)) > 1e-3 * abs(root):
        return 0
    below, above = grad["positive_mean"], grad["negative_mean"]
    if (below is None or below > 0) and (above is None or above < 0) and (below or above):
        return -1
    return 1 if (below is None or below < 0) and (above is None or above > 0) and (below or above) else 0


CHECKS: tuple[Check, ...] = (
    Check(
        "loss-direction",
        "Steps lower the loss.",
        "loss",
        direction,
        proves="The root is a sum of known losses with the sign that the optimizer lowers; first updates go against "
        "their gradients; outputs are not all pushed away from the labels of their batch.",
        faults=("a flipped sign", "a forgotten minus", "maximize=True", "an update with the wrong sign"),
        limits="Losses written by hand are judged, and only warn, where labels are 0 and 1 of the output's shape, or "
        "numbers of classes; adversarial pairs of optimizers are left alone.",
    ),
    Check(
        "loss-shapes",
        "Losses do not broadcast prediction against target.",
        "loss",
        shapes_fit,
        proves="No elementwise loss got tensors of different rank that span a table of pairs.",
        faults=("logits (B, 1) against targets (B,)",),
        limits="Losses written by hand are not seen.",
    ),
    Check(
        "loss-input-kind",
        "Losses get the kind of numbers they are made for.",
        "loss",
        input_kind,
        proves="No logits loss was given the output of a sigmoid or softmax, and nll_loss no number above 0.",
        faults=("a sigmoid before BCE with logits", "a softmax before cross entropy", "nll_loss on logits"),
        limits="Without knowledge of how the input was made, numbers between 0 and 1 only warn.",
    ),
    Check(
        "loss-targets",
        "Targets of a binary cross-entropy lie between 0 and 1.",
        "loss",
        targets_fit,
        proves="Lowest and highest target of every call.",
        faults=("labels coded -1 and 1", "class numbers as targets"),
        limits="Targets slightly outside only warn.",
    ),
)
