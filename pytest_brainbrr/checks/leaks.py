"""Labels reach only the loss: the model is not given what it is to predict."""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

from pytest_brainbrr.checks.base import Check, Vacuous
from pytest_brainbrr.checks.determinism import noisy
from pytest_brainbrr.checks.feeds import Fact, Feed, argument, feeds, losses_of, same_bytes, train_feeds
from pytest_brainbrr.label_places import is_target
from pytest_brainbrr.results import Finding
from pytest_brainbrr.targets import Target
from pytest_brainbrr.trace import Trace

CLOSE = 1e-4
BITS = 40.0
"""How improbable an arrangement of values must be to be no chance: one in 2 to the power of this."""


def judge_leak(traces: Mapping[str, Trace], target: Target) -> Iterable[Finding]:
    """Look for the label among the model's inputs: joined by the trainer, in the data set, or wherever it moves."""
    trace = traces["straight"]
    judged, joined = _joined(trace)
    cause = "the label is joined to the signal as a channel or a column"
    hint = "leave the label out of the input"
    text = "the model is given the label that it is asked to predict"
    if joined:
        return [Finding("labels-hidden", "model input", "error", text, {"calls": joined}, cause, hint)]
    found, compared = _in_dataset(trace)
    if found:
        at, columns, deep = found
        evidence = {"tensor": at, "columns": columns}
        cause = "the data set itself holds the label as a channel or a column of the signal"
        return [Finding("labels-hidden", "batch", "error" if deep else "warning", text, evidence, cause, hint)]
    moved = _moves_input(traces)
    if moved:
        cause = "between loader and model the label is written into the signal, or joined to it"
        return [Finding("labels-hidden", "model input", "error", text, {"columns": moved}, cause, hint)]
    if not judged and not compared and moved is None:
        raise Vacuous("no label that a watched loader delivered was seen in a loss, or could be changed")
    return []


def _joined(trace: Trace) -> tuple[int, int]:
    """Return how many losses were judged, and how many take a label that was joined to their model's input."""
    judged = joined = 0
    for feed in feeds(trace):
        for loss in losses_of(trace, feed):
            wanted = argument(loss, "target")
            for label in feed.labels:
                values = label.get("row_means")
                if wanted is None or not values or wanted.get("row_means") != values or len(set(values)) < 2:
                    continue
                judged += 1
                joined += any(_holds(given, feed, values, label) for given in feed.inputs)
    return judged, joined


def _holds(given: Fact, feed: Feed, values: Sequence[float], label: Fact) -> bool:
    if same_bytes(given, label):
        return True
    means, batch = given.get("row_means"), feed.batch
    if not means or len(means) != len(values) or batch is None or len(given["shape"]) < 2:
        return False
    for part in batch["tensors"]:
        own = part.get("row_means")
        if part["at"] == label["at"] or not own or len(part["shape"]) != len(given["shape"]):
            continue
        extra = given["shape"][1] - part["shape"][1]
        if extra < 1 or list(part["shape"][2:]) != list(given["shape"][2:]) or len(own) != len(means):
            continue
        whole, before = given["shape"][1], part["shape"][1]
        rests = [(whole * mean - before * old) / extra for mean, old in zip(means, own, strict=True)]
        if all(abs(rest - value) < CLOSE * whole for rest, value in zip(rests, values, strict=True)):
            return True
    return False


def _in_dataset(trace: Trace) -> tuple[tuple[str, list[str], bool] | None, int]:
    """Return a signal of the data set that holds the label (place, columns, are they channels?), and the pairs seen.

    A column is the label if it is a function of it in every batch, and other columns of the signal are not.
    """
    told: dict[tuple[str, str, str], list[tuple[dict[str, float], int]]] = {}
    deep: dict[str, bool] = {}
    for feed in _told_feeds(trace):
        assert feed.batch is not None
        wanted = {
            label["at"] for label in feed.labels if any(is_target(loss, label) for loss in losses_of(trace, feed))
        }
        given = {part["at"]: len(part["shape"]) > 2 for part, _ in feed.signals}
        for one in feed.batch.get("told") or ():
            if one["label"] in wanted and one["signal"] in given:
                key = (feed.batch["loader"], one["label"], one["signal"])
                told.setdefault(key, []).append((one["columns"], one["of"]))
                deep[one["signal"]] = given[one["signal"]]
    for (_, _, at), batches in told.items():
        common = set.intersection(*(set(columns) for columns, _ in batches))
        bits: Counter[str] = Counter()
        for columns, _ in batches:
            bits.update({column: int(columns[column] * 1000) for column in common})
        sure = sorted(column for column in common if bits[column] > 1000 * BITS)
        if sure and len(sure) < max(of for _, of in batches):
            return (at, sure[:8], deep[at]), len(told)
    return None, len(told)


def _told_feeds(trace: Trace) -> Iterator[Feed]:
    """Yield one feed per batch, of training and validation."""
    seen: set[int] = set()
    for feed in feeds(trace):
        if feed.batch is not None and feed.batch["n"] not in seen:
            seen.add(feed.batch["n"])
            yield feed


def _moves_input(traces: Mapping[str, Trace]) -> list[str] | None:
    """Return the columns of the model's input that moved with the labels and tell them; None: not comparable.

    Judged is the first training call on other labels, if its own loss takes them. An input that changes with the labels
    in another way (augmentation chosen by class) tells nothing.
    """
    other = traces.get("relabeled")
    if other is None or any(noisy(traces)):
        return None
    changed = {(event["epoch"], event["position"]) for event in other.events("relabel", after=True) if event["sure"]}
    pairs = zip(train_feeds(traces["straight"]), train_feeds(other), strict=False)
    one, again = next(((one, again) for one, again in pairs if _is_in(again, changed)), (None, None))
    if one is None or again is None or not _takes_label(traces["straight"], one):
        return None
    before = {given["at"]: given for given in one.inputs}
    moved = {given["at"] for given in again.inputs if not same_bytes(given, before.get(given["at"], {}))}
    if not moved:
        return []
    looks = [event for event in other.events("probe", name="label_sensitivity") if event["n"] > again.call["n"]]
    told = looks[0]["result"]["columns"] if looks else {}
    return [
        f"{at}:{column}" for at, columns in told.items() if at.partition(".")[2] in moved for column in columns
    ] or None


def _is_in(feed: Feed, batches: Collection[tuple[str, int]]) -> bool:
    return feed.batch is not None and (feed.batch["epoch"], feed.batch["position"]) in batches


def _takes_label(trace: Trace, feed: Feed) -> bool:
    return any(is_target(loss, label) for loss in losses_of(trace, feed) for label in feed.labels)


CHECKS: tuple[Check, ...] = (
    Check(
        "labels-hidden",
        "The model is not given the label it is to predict",
        "labels",
        judge_leak,
        wants=("relabeled", "repeat"),
        proves=(
            "No channel or column of the model's input is a function of the label: none that the trainer joins to the "
            "signal, none that the data set holds, none that moves when the labels of a batch are changed."
        ),
        faults=("label joined to the input", "label channel left in the data set", "label written into the signal"),
        limits=(
            "Labels of few values. Columns of a table that are the label in every row only warn. What changes with the "
            "labels in another way, such as augmentation by class, and labels that are openly an argument of the "
            "model, are not judged."
        ),
    ),
)
