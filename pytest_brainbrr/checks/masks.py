"""Masks and padding: the loss leaves out what a mask marks, and the mask lies where the padding is."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from pytest_brainbrr.checks.base import Check, Vacuous
from pytest_brainbrr.checks.feeds import ANSWER, Fact, Feed, argument, feeds, losses_of, train_feeds
from pytest_brainbrr.results import Finding
from pytest_brainbrr.targets import Target
from pytest_brainbrr.trace import Trace

LEAST = 8
"""Tables with a shorter second axis may be one number per class."""
ENOUGH = 2


def places(digits: str, shape: tuple[int, int]) -> int:
    """Return a packed table as one number, a bit a place; bits that only fill up the last byte are cut off.

    >>> bin(places("a0", (1, 3)))
    '0b101'
    """
    size = shape[0] * shape[1]
    return int(digits, 16) >> (len(digits) * 4 - size)


def judge_loss(traces: Mapping[str, Trace], target: Target) -> Iterable[Finding]:
    """Compare where gradients arrive at the model's output with the masks of the batch."""
    trace = traces["straight"]
    arrived: dict[int, list[dict[str, Any]]] = {}
    for event in trace.events("output_grad"):
        arrived.setdefault(event["call"], []).append(event)
    judged = everywhere = astray = 0
    for feed in train_feeds(trace):
        for event in arrived.get(feed.call["call"], []):
            verdict = _verdict(trace, feed, event)
            judged += verdict is not None
            everywhere += verdict == "everywhere"
            astray += verdict == "astray"
    if judged < ENOUGH:
        raise Vacuous("no batch held a mask of the shape of the model's output, and other tensors of that shape")
    hint = "multiply the loss of each place by the mask, or give padding the label that the loss ignores"
    if everywhere == judged:
        text = "places that a mask of the batch leaves out train the model like all others"
        cause = "the mask never reaches the loss, or padding has a label that the loss takes for a class"
        yield Finding("loss-keeps-mask", "loss", "warning", text, {"calls": judged}, cause, hint)
    elif everywhere + astray == judged:
        text = "the loss leaves out places, but not those that a mask of the batch marks"
        cause = "mask and labels are shifted, flipped or cut differently"
        yield Finding("loss-keeps-mask", "loss", "warning", text, {"calls": judged}, cause, hint)


def _verdict(trace: Trace, feed: Feed, event: Mapping[str, Any]) -> str | None:
    """Return kept, everywhere or astray; None where there is no mask, or only one tensor that could be one."""
    shape, batch = list(event["shape"]), feed.batch
    if batch is None or len(shape) not in {2, 3}:
        return None
    table, digits = (shape[0], shape[1]), event["live"]
    like = _alike(batch, table)
    if not like and len(shape) == 3:
        table, digits = (shape[0], shape[2]), event["live_last"]
        like = _alike(batch, table)
    if digits is None or table[1] < LEAST or len(like) < 2:
        return None
    targets = [fact for loss in losses_of(trace, feed) if (fact := argument(loss, "target"))]
    flags = [part for part in like if part.get("bits") and not part["constant"] and not _is_label(part, targets)]
    masks = [places(part["bits"], table) for part in flags]
    live = places(digits, table)
    if not masks or not live:
        return None
    whole = (1 << table[0] * table[1]) - 1
    if any(not live & ~mask & whole or not live & mask for mask in masks):
        return "kept"
    return "everywhere" if live == whole else "astray"


def _is_label(part: Fact, targets: list[Fact]) -> bool:
    """Return whether a table of 0 and 1 is what a loss was given for its target, or is called so."""
    given = any(part["digest"] == target.get("digest") is not None or _same_rows(part, target) for target in targets)
    return given or ANSWER.search(part["at"]) is not None


def _same_rows(part: Fact, target: Fact) -> bool:
    """Return whether two tables agree row by row in their means, as one of another type does."""
    means = part.get("row_means")
    return bool(means) and means == target.get("row_means") and list(part["shape"]) == list(target["shape"])


def _alike(batch: Mapping[str, Any], table: tuple[int, int]) -> list[Fact]:
    return [part for part in batch["tensors"] if tuple(part["shape"][:2]) == table and len(part["shape"]) == 2]


def judge_padding(traces: Mapping[str, Trace], target: Target) -> Iterable[Finding]:
    """Compare the places that a padding mask leaves out with the places where the signal is zero throughout."""
    trace = traces["straight"]
    judged = wrong = unmarked = 0
    for batch in {feed.batch["n"]: feed.batch for feed in feeds(trace) if feed.batch is not None}.values():
        for verdict in _padded(batch):
            judged += 1
            wrong += verdict == "elsewhere"
            unmarked += verdict == "unmarked"
    if not judged:
        raise Vacuous("no batch held a signal padded with zeros and a mask of its length")
    hint = "fill signal, labels and mask by one and the same slice"
    if wrong and wrong * 2 >= judged:
        text = "the mask leaves out as many places as there are zeros in the signal, but others"
        cause = "signal and mask are padded on different sides"
        yield Finding("mask-on-padding", "batch", "error", text, {"batches": wrong, "of": judged}, cause, hint)
    elif unmarked == judged:
        text = "the signal is padded with zeros, and the mask calls every place real"
        cause = "the mask is filled for the whole width of the batch instead of for each sample's own length"
        yield Finding("mask-on-padding", "batch", "warning", text, {"batches": judged}, cause, hint)


def _padded(batch: Mapping[str, Any]) -> Iterator[str]:
    for signal in batch["tensors"]:
        for axis, key in ((1, "empty"), (2, "empty_last")):
            if not signal.get(key):
                continue
            table = (signal["shape"][0], signal["shape"][axis])
            empty = _rows(places(signal[key], table), table)
            if not any(empty) or not all(_at_an_end(row, table[1]) for row in empty):
                continue
            for part in _alike(batch, table):
                if part.get("bits") is None or "float" in part["dtype"]:
                    continue
                mask = _rows(places(part["bits"], table), table)
                yield _fits(mask, empty, table[1])


def _rows(number: int, table: tuple[int, int]) -> list[int]:
    whole = (1 << table[1]) - 1
    return [number >> table[1] * (table[0] - 1 - row) & whole for row in range(table[0])]


def _at_an_end(row: int, width: int) -> bool:
    """Return whether the set places are one stretch at the beginning or at the end of the row, or none.

    >>> _at_an_end(0b0011, 4), _at_an_end(0b1100, 4), _at_an_end(0b0110, 4)
    (True, True, False)
    """
    count = row.bit_count()
    stretch = (1 << count) - 1
    return row in (stretch, stretch << (width - count))


def _fits(mask: list[int], empty: list[int], width: int) -> str:
    whole = (1 << width) - 1
    if all(row == whole for row in mask):
        return "unmarked"
    padded = [whole & ~row for row in mask]
    for left_out in (padded, mask):
        counts = [(one.bit_count(), other.bit_count()) for one, other in zip(left_out, empty, strict=True)]
        if left_out == empty:
            return "kept"
        if all(one == other for one, other in counts):
            return "elsewhere"
    return "kept"


def judge_rows(traces: Mapping[str, Trace], target: Target) -> Iterable[Finding]:
    """Look for outputs of which only the first row is ever trained."""
    trace = traces["straight"]
    fed = {feed.call["call"]: feed for feed in train_feeds(trace)}
    judged = first = 0
    for event in trace.events("output_grad"):
        feed, rows = fed.get(event["call"]), event["rows"]
        if feed is None or feed.batch is None or not rows or len(rows) < 3 or feed.batch["size"] != len(rows):
            continue
        if not any(fact["shape"][:1] == [len(rows)] for fact in feed.inputs):
            continue
        judged += 1
        first += rows[0] and not any(rows[1:])
    if judged < ENOUGH:
        raise Vacuous("no gradient at an output with one row per sample of a watched batch was seen")
    if first == judged:
        text = "only the first sample of every batch trains the model: the others get no gradient"
        cause = "the loss takes index 0 of a tensor with one row a sample, or a return stands inside the loop over rows"
        hint = "average the loss over all rows"
        yield Finding("rows-train", "loss", "error", text, {"calls": judged}, cause, hint)


CHECKS: tuple[Check, ...] = (
    Check(
        "loss-keeps-mask",
        "What a mask of the batch leaves out does not train the model",
        "loss",
        judge_loss,
        proves=(
            "Gradients at the model's output arrive only inside, or only outside, one of the batch's masks of the same "
            "shape."
        ),
        faults=("mask never used in the loss", "mask shifted against the labels", "padding learned as a class"),
        limits=(
            "A warning, and only beside another tensor of that shape, since a lone table of 0 and 1 may be the labels. "
            "A mask used the wrong way round looks like one that marks what to leave out."
        ),
    ),
    Check(
        "mask-on-padding",
        "Masks lie where the padding is",
        "batch",
        judge_padding,
        proves="Where signals end (or begin) in zeros, the mask leaves out these places and not as many others.",
        faults=("signal padded on the other side than its mask", "mask filled for the whole width"),
        limits="Signals of floats padded with zeros; masks of flags or integers. A mask that is full only warns.",
    ),
    Check(
        "rows-train",
        "Every sample of a batch trains the model",
        "loss",
        judge_rows,
        proves="Gradients do not arrive at the first row of the output only.",
        faults=("loss of the first sample only",),
        limits="Outputs and inputs with one row per sample of a batch of three or more.",
    ),
)
