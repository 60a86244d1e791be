"""Labels reach the loss: the right ones, whole, in the order of their samples."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from pytest_brainbrr.checks.base import Check, Vacuous
from pytest_brainbrr.checks.feeds import ANSWER, Fact, Feed, argument, elements, losses_of, same_bytes, train_feeds
from pytest_brainbrr.results import Finding
from pytest_brainbrr.targets import Target
from pytest_brainbrr.trace import Trace

Pair = tuple[Feed, dict[str, Any], Fact, Fact]
"""A training call, its loss call, the target of the loss, the label tensor of the batch."""
LEADING, FOLLOWING = 0.9, 0.5
ENOUGH = 16
CLASSIFYING = {"binary_cross_entropy", "binary_cross_entropy_with_logits", "cross_entropy", "nll_loss"}
NOTHING = re.compile(r"\b(no|0|zero|without)\b.{0,40}(seizure|positive|event|annotation)", re.IGNORECASE)


def pairs(trace: Trace) -> Iterator[Pair]:
    """Yield the target of each loss of training beside the label that the loader delivered, where both are known."""
    for feed in train_feeds(trace):
        labels = feed.labels
        for loss in losses_of(trace, feed):
            given = argument(loss, "target")
            if given is None or not loss["grad_enabled"]:
                continue
            exact = [label for label in labels if _same_numbers(label, given)]
            alike = [label for label in labels if _numbers(label) == _numbers(given)]
            if len(alike) > 1:  # a mask beside them, for instance
                alike = [label for label in alike if ANSWER.search(label["at"])]
            if exact or len(alike) == 1:
                yield feed, loss, given, (exact or alike)[0]


def _same_numbers(label: Fact, given: Fact) -> bool:
    """Return whether two tensors hold the same numbers in one order, in whatever shape."""
    return same_bytes({**label, "shape": [elements(label)]}, {**given, "shape": [elements(given)]})


def _numbers(fact: Fact) -> tuple[int, int]:
    return elements(fact), fact["shape"][0] if fact["shape"] else 0


def judge_vary(traces: Mapping[str, Trace], target: Target) -> Iterable[Finding]:
    """Look at the labels that training was given: one value throughout teaches nothing."""
    trace = traces["straight"]
    found = list(pairs(trace))
    if not found:
        raise Vacuous("no loss was seen with a label that a watched loader delivered")
    targets = [label for _, _, _, label in found]
    if len({(given["min"], given["max"]) for _, _, given, _ in found}) > 1:
        if len({(label["min"], label["max"]) for label in targets}) > 1:
            return []
        raise Vacuous("the losses' targets vary although the loader's labels do not: they are no labels of this task")
    rows = sum(given["shape"][0] if given["shape"] else 1 for given in targets)
    values = {(given["min"], given["max"]) for given in targets}
    if len(values) > 1 or rows < ENOUGH:
        return []
    (low, high) = next(iter(values))
    if low != high or low not in {0.0, 1.0}:
        return []
    if _said_so(trace):
        raise Vacuous("the trainer itself says that the data hold no event")
    text = "every label that trained the model has one and the same value"
    cause = "annotations are not found or misread (columns swapped, wrong path), or the files used hold no event"
    hint = "compare the number of annotated events with the number of positive labels, and refuse to train on none"
    return [Finding("labels-vary", "labels", "warning", text, {"value": low, "rows": rows}, cause, hint)]


def _said_so(trace: Trace) -> bool:
    texts = [*trace.exit.get("last_lines", []), *(event["text"] for event in trace.events("warning"))]
    return any(NOTHING.search(text) for text in texts)


def judge_reach_loss(traces: Mapping[str, Trace], target: Target) -> Iterable[Finding]:
    """Compare the target of each loss with the labels of its batch: replaced, truncated, or the prediction itself."""
    trace = traces["straight"]
    found = list(pairs(trace))
    itself = [loss for feed in train_feeds(trace) for loss in losses_of(trace, feed) if _of_itself(loss)]
    if itself and all(loss["step"] == 0 for loss in itself):
        itself = []  # Equal before anything was learned: a copy, an identity, an image begun from its own target.
    if itself:
        text = "the loss compares the prediction with itself"
        cause = "the detached prediction is handed over in the place of the label"
        yield Finding(
            "labels-reach-loss", "loss", "error", text, {"calls": len(itself)}, cause, "give the loss the labels"
        )
    if not found:
        if itself:
            return
        raise Vacuous("no loss was seen whose target has the size of a label that a watched loader delivered")
    highest = max((label["max"] for *_, label in found if label["max"] is not None), default=0.0)
    fixed = [
        (given, label)
        for _, loss, given, label in found
        if _wiped_out(loss, given, label) and not _other_classes(loss, highest)
    ]
    alone = len(trace.events("optimizer")) < 2 and len({given["min"] for given, _ in fixed}) == 1
    if fixed and alone and _only_losses(trace, found):
        text = "the loss is given one constant in the place of labels that vary"
        cause = "the target is built with zeros_like, or a threshold or a cast wipes it out"
        soft = [label for _, label in fixed if len(label["shape"]) == 1 and label.get("row_means")]
        if any(0 < share < 1 for label in soft for share in label["row_means"]):
            cause = "soft labels are cast to integers, which cuts every share below one to zero"
        yield Finding(
            "labels-reach-loss",
            "loss",
            "error",
            text,
            {"calls": len(fixed)},
            cause,
            "hand the batch's labels to the loss",
        )
        return
    cut = [(given, label) for _, _, given, label in found if _truncated(label, given)]
    if cut:
        given, label = cut[0]
        text = "shares between 0 and 1 in the labels reach the loss as 0"
        cause = "soft labels are cast to integers, which cuts every share below one to zero"
        evidence = {"calls": len(cut), "label_mean": label["mean"], "target_mean": given["mean"]}
        hint = "keep soft labels floating, or compare them with a threshold"
        yield Finding("labels-reach-loss", "loss", "error", text, evidence, cause, hint)


def _wiped_out(loss: Mapping[str, Any], given: Fact, label: Fact) -> bool:
    """Return whether labels that vary became one constant, although a threshold at one half would keep them apart."""
    varies = not label["constant"] and label["min"] is not None and label["min"] < 0.5 < label["max"]
    return bool(given["constant"]) and varies and loss["function"] in CLASSIFYING


def _other_classes(loss: Mapping[str, Any], highest: float) -> bool:
    """Return whether a loss tells many more classes apart than the labels have: contrast with a queue of others."""
    given = argument(loss, "input")
    classes = given["shape"][1] if given is not None and len(given["shape"]) > 1 else 0
    return loss["function"] in {"cross_entropy", "nll_loss"} and classes > 2 * (highest + 1)


def _of_itself(loss: Mapping[str, Any]) -> bool:
    given, wanted = argument(loss, "input"), argument(loss, "target")
    return (
        bool(loss["grad_enabled"])
        and given is not None
        and wanted is not None
        and not given["constant"]
        and elements(given) > 1
        and same_bytes(given, wanted)
    )


def _only_losses(trace: Trace, found: Sequence[Pair]) -> bool:
    """Return whether no other loss call of these model calls takes a target that varies."""
    calls = {feed.call["call"]: feed for feed, *_ in found}
    for feed in calls.values():
        for loss in losses_of(trace, feed):
            given = argument(loss, "target")
            if given is not None and not given["constant"] and loss["grad_enabled"]:
                return False
    return True


def _truncated(label: Fact, given: Fact) -> bool:
    """Return whether the target is the label with its fractions cut off, 0.5 and above included."""
    before, after = label.get("row_means"), given.get("row_means")
    if "float" not in label["dtype"] or not before or not after or len(before) != len(after) or len(label["shape"]) > 1:
        return False
    shares = [(one, other) for one, other in zip(before, after, strict=True) if 0 < one < 1]
    return (
        bool(shares)
        and max(one for one, _ in shares) > 0.5
        and all(other == 0 for _, other in shares)
        and all(other == one for one, other in zip(before, after, strict=True) if not 0 < one < 1)
    )


def judge_order(traces: Mapping[str, Trace], target: Target) -> Iterable[Finding]:
    """Compare the order of labels and samples: from the data set to the batch, and from the batch to the loss."""
    trace = traces["straight"]
    judged = 0
    moved = 0
    calls: dict[int, list[Pair]] = {}
    for pair in pairs(trace):
        calls.setdefault(pair[0].call["call"], []).append(pair)
    for group in calls.values():
        feed = group[0][0]
        if not any(same_bytes(part, given) for part, given in feed.signals):
            continue  # The samples themselves may have been moved or mixed.
        judged += 1
        # A loss with the labels in their order beside it means mixing on purpose.
        shuffled = any(_permuted(label, given) for _, _, given, label in group)
        moved += shuffled and not any(label.get("row_means") == given.get("row_means") for _, _, given, label in group)
    found = []
    if moved and moved * 2 >= judged:
        found.append(
            _order_finding(
                "loss", "the labels of a batch reach the loss in another order than its samples", {"calls": moved}
            )
        )
    rows, wrong = _against_dataset(traces.get("probe"))
    if wrong:
        text = "a batch pairs samples with the labels of other samples of the data set"
        found.append(_order_finding("batch", text, {"rows": wrong, "compared": rows}))
    turned = traces["probe"].events("turned", after=True) if "probe" in traces else []
    lost = _turned_apart(turned)
    if lost:
        text = "a sample that is read again comes turned or cut elsewhere, and its label does not, or the reverse"
        cause = "augmentation flips or crops the signal and the label apart"
        evidence = {"samples": len(lost), "readings": sum(event["apart"] for event in lost)}
        hint = "flip and crop the signal and its labels by one and the same draw"
        found.append(Finding("labels-in-order", "augmentation", "error", text, evidence, cause, hint))
    if not judged and not rows and not turned:
        raise Vacuous("no label could be followed from the data set to the batch or from the batch to the loss")
    return found


def _turned_apart(turned: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return the samples whose label never goes along with its signal, of a label that is not the same everywhere."""
    groups: dict[Any, list[Mapping[str, Any]]] = {}
    for event in turned:
        groups.setdefault((event["loader"], event["signal"], event["label"]), []).append(event)
    for group in groups.values():
        lost = [event for event in group if event["apart"]]
        digests = {event["digest"] for event in lost}
        if len(lost) > 1 and len(digests) > 1 and not any(event["along"] for event in group):
            return lost
    return []


def _order_finding(where: str, text: str, evidence: dict[str, Any]) -> Finding:
    cause = "labels are rolled, shuffled or sorted on their own, in the collate function or after it"
    return Finding(
        "labels-in-order", where, "error", text, evidence, cause, "move samples and labels by one and the same index"
    )


def _permuted(label: Fact, given: Fact) -> bool:
    one, other = label.get("samples"), given.get("samples")
    if not one or not other or label["dtype"] != given["dtype"]:
        one, other = label.get("row_means"), given.get("row_means")
    return bool(one and other) and one != other and sorted(one or []) == sorted(other or [])


def _against_dataset(trace: Trace | None) -> tuple[int, int]:
    """Compare rows of batches with the same samples read alone; return how many, and how many have another's label."""
    alone: dict[str, dict[int, dict[str, str]]] = {}
    for event in trace.events("reread", after=True) if trace is not None else ():
        first, *others = event["digests"]
        if all(reading == first for reading in others):
            alone.setdefault(event["loader"], {})[event["index"]] = first
    # A data set may draw its samples anew for each pass: only the last is as it was read.
    batches = trace.events("batch") if trace is not None else []
    last = {batch["loader"]: batch["epoch"] for batch in batches}
    rows = wrong = 0
    for batch in batches:
        known = alone.get(batch["loader"], {}) if batch["epoch"] == last[batch["loader"]] else {}
        for row, index in enumerate(batch["indices"] or []):
            if index in known:
                verdict = _own_label(batch, row, known[index], list(known.values()))
                rows += verdict is not None
                wrong += verdict is False
    return rows, wrong


def _own_label(
    batch: Mapping[str, Any], row: int, own: Mapping[str, str], others: Sequence[Mapping[str, str]]
) -> bool | None:
    """Return whether a row that holds the sample's signal holds its label; None if it cannot be told."""
    same: dict[str, bool] = {}
    for part in batch["tensors"]:
        at = part["at"]
        if at in own and part.get("samples"):
            forms = part.get("forms")
            alike = forms is not None and forms[row] is not None and forms[row] == own.get(f"{at}/form")
            same[at] = alike or part["samples"][row] == own[at]
    if len(same) < 2 or not any(same.values()):
        return None
    rows = {part["at"]: part["samples"][row] for part in batch["tensors"] if part["at"] in same}
    strange = [at for at, is_same in same.items() if not is_same]
    return not strange or not all(any(other.get(at) == rows[at] for other in others) for at in strange)


def judge_follow(traces: Mapping[str, Trace], target: Target) -> Iterable[Finding]:
    """Compare the energy of the samples with their labels, in the order of the data set, at every shift."""
    trace = traces["straight"]
    energy: dict[int, float] = {}
    share: dict[int, float] = {}
    used: set[str] = set()
    for feed in train_feeds(trace):
        batch = feed.batch
        if batch is None or not batch["indices"] or len(feed.labels) != 1:
            continue
        signals = [part for part, _ in feed.signals] or [
            part for part in batch["tensors"] if part["at"] != feed.labels[0]["at"]
        ][:1]
        values = feed.labels[0].get("row_means")
        sizes = signals[0].get("row_rms") if signals else None
        if not values or not sizes or len(values) != len(batch["indices"]):
            continue
        used.add(batch["loader"])
        for row, index in enumerate(batch["indices"]):
            energy[index], share[index] = sizes[row], values[row]
    if len(energy) < ENOUGH or len(used) != 1:
        raise Vacuous("too few samples with an index, a size and a label to compare")
    aligned = _correlation(energy, share, 0)
    shifts = {shift: _correlation(energy, share, shift) for shift in (-4, -3, -2, -1, 1, 2, 3, 4)}
    best = max(shifts, key=lambda shift: shifts[shift] or 0.0)
    if aligned is None or aligned > FOLLOWING or (shifts[best] or 0.0) < LEADING:
        return []
    text = "labels follow the energy of the signal some samples further on, not of their own"
    evidence = {"aligned": round(aligned, 2), "shift": best, "shifted": round(shifts[best] or 0.0, 2)}
    cause = "labels are cut at other places than the signal: an offset in windows or seconds"
    hint = "cut signal and mask with one and the same slice"
    return [Finding("labels-follow-signal", "labels", "warning", text, evidence, cause, hint)]


def _correlation(energy: Mapping[int, float], share: Mapping[int, float], shift: int) -> float | None:
    both = [(energy[index], share[index + shift]) for index in energy if index + shift in share]
    count = len(both)
    if count < ENOUGH // 2:
        return None
    mean_x, mean_y = sum(x for x, _ in both) / count, sum(y for _, y in both) / count
    spread_x, spread_y = sum((x - mean_x) ** 2 for x, _ in both), sum((y - mean_y) ** 2 for _, y in both)
    if spread_x <= 0 or spread_y <= 0:
        return None
    return float(sum((x - mean_x) * (y - mean_y) for x, y in both) / (spread_x * spread_y) ** 0.5)


CHECKS: tuple[Check, ...] = (
    Check(
        "labels-in-order",
        "Each label stays with its sample",
        "labels",
        judge_order,
        wants=("probe",),
        proves="From batch to loss, and from data set to batch, labels are in the order of their samples. Where a "
        "sample with a label per place is read again and comes turned around or cut elsewhere, its label does so, too.",
        faults=(
            "labels rolled in the collate function",
            "labels shuffled alone",
            "labels sorted alone",
            "signal flipped without its labels",
            "signal and labels cropped at different places",
        ),
        limits=(
            "Needs samples that reach the model as they were delivered; several losses per call are mixing on purpose. "
            "Flips and crops are told along one axis, where readings are alike but for scale, offset and some noise."
        ),
    ),
    Check(
        "labels-reach-loss",
        "The loss is given the batch's labels, whole",
        "labels",
        judge_reach_loss,
        proves=(
            "The target of a loss is no constant where labels vary, not the prediction itself, and keeps its fractions."
        ),
        faults=("target replaced by zeros", "prediction compared with itself", "soft labels cast to integers"),
        limits="Losses written by hand from elementary operations are not seen here, but by `labels-matter`.",
    ),
    Check(
        "labels-vary",
        "Labels are not all alike",
        "labels",
        judge_vary,
        proves="Not every label of the run is the same 0 or 1.",
        faults=("annotations not found", "columns of the annotations swapped", "labels wiped out"),
        limits="A warning: the files at hand may hold no event. Silent below 16 labels.",
    ),
    Check(
        "labels-follow-signal",
        "Labels belong to their own window",
        "labels",
        judge_follow,
        proves="Labels do not follow the signal's energy better at a shift of 1 to 4 samples than at none.",
        faults=("labels shifted by a window",),
        limits=(
            "A statistic, so a warning, and only where the energy of the signal follows the labels nearly exactly."
        ),
    ),
)
