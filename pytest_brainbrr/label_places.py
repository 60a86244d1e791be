"""Where the labels of a run are: which tensors of which batches are changed in the `relabeled` run. Imports no torch.

Labels are the tensors of a batch that reached the target of a loss; where no loss was seen, those that the model was
not called with. Batches are recognized by pass, position and digests, so that only a batch that comes again is changed.
"""

from typing import Any

from pytest_brainbrr.checks.feeds import Feed, argument, losses_of, same_bytes, train_feeds, validation_feeds
from pytest_brainbrr.trace import Trace

MAX_VALUES = 16
SHORTEST = 4


def label_places(trace: Trace) -> list[dict[str, Any]]:
    """Return a place per label tensor: epoch, position, at, digest, values seen in the whole run, and `sure`.

    ``sure`` says that the tensor is known to be the label: it was a loss's target.
    """
    both = [*train_feeds(trace), *validation_feeds(trace)]
    targets = {
        (feed.batch["loader"], label["at"])
        for feed in both
        if feed.batch is not None
        for label in feed.labels
        if any(is_target(loss, label) for loss in losses_of(trace, feed))
    }
    known = {loader for loader, _ in targets}
    values = {target: _values(both, *target) for target in _all_labels(both)}
    places: dict[tuple[str, int, str], dict[str, Any]] = {}
    for feed in both:
        batch = feed.batch
        if batch is None:
            continue
        labels = [label for label in feed.labels if label.get("digest") is not None]
        if batch["loader"] in known:
            labels = [label for label in labels if (batch["loader"], label["at"]) in targets]
        elif any(label["dtype"] != "bool" for label in labels):
            labels = [label for label in labels if label["dtype"] != "bool"]  # flags beside labels are masks
        for label in labels:
            if values[batch["loader"], label["at"]] == []:
                continue
            places[batch["epoch"], batch["position"], label["at"]] = {
                "epoch": batch["epoch"],
                "position": batch["position"],
                "at": label["at"],
                "digest": label["digest"],
                "values": values[batch["loader"], label["at"]],
                "sure": batch["loader"] in known,
            }
    return list(places.values())


def spaced_out(trace: Trace, places: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Leave out the first and the third batch of training, if there are more: so labels that come late are told.

    A step on a batch with labels as they were, which differs, shows labels of the batch before.
    """
    order = list(
        dict.fromkeys((feed.batch["epoch"], feed.batch["position"]) for feed in train_feeds(trace) if feed.batch)
    )
    left_out = {place for number, place in enumerate(order) if number in {0, 2} and len(order) > 1}
    return [place for place in places if (place["epoch"], place["position"]) not in left_out]


def padded_places(trace: Trace) -> list[dict[str, Any]]:
    """Return a place per label tensor of training with a label per sample, beside a mask or lengths and a signal.

    Whether the signal really is padded as the mask or the lengths say is decided when the batch comes again.
    """
    places = []
    known = {(place["epoch"], place["position"], place["at"]): place["sure"] for place in label_places(trace)}
    for feed in train_feeds(trace):
        batch = feed.batch
        if batch is None:
            continue
        for label in batch["tensors"]:
            # Where no loss was seen, what is neither input nor mask may be the label or a weight of samples.
            if not known.get((batch["epoch"], batch["position"], label["at"])):
                continue
            if len(label["shape"]) != 2 or label["shape"][1] < SHORTEST:
                continue
            signals = [part["at"] for part in batch["tensors"] if _spans(part, label)]
            masks = [part["at"] for part in batch["tensors"] if part is not label and _tells_padding(part, label)]
            if signals and masks:
                places.append(
                    {
                        "epoch": batch["epoch"],
                        "position": batch["position"],
                        "at": label["at"],
                        "digest": label["digest"],
                        "signal": signals[0],
                        "masks": masks,
                    }
                )
    return places


def _spans(part: Any, label: Any) -> bool:
    """Return whether a tensor has channels over the same samples as the label."""
    shape, (rows, length) = part["shape"], label["shape"]
    return len(shape) == 3 and shape[0] == rows and length in shape[1:] and "float" in part["dtype"]


def _tells_padding(part: Any, label: Any) -> bool:
    """Return whether a tensor may be a mask or lengths that leave something out."""
    rows, length = label["shape"]
    if part["constant"]:
        return False
    if part["shape"] == [rows, length]:
        return part["dtype"] == "bool" or ("int" in part["dtype"] and part["values"] == [0.0, 1.0])
    return part["shape"] == [rows] and "int" in part["dtype"] and part["max"] is not None and part["max"] <= length


def is_target(loss: dict[str, Any], label: Any) -> bool:
    """Return whether a loss was given this tensor of the batch, as it is or in another type."""
    given = argument(loss, "target")
    if given is None:
        return False
    alike = given.get("row_means") is not None and given["row_means"] == label.get("row_means")
    return same_bytes(given, label) or (alike and len(set(given["row_means"])) > 1)


def _all_labels(feeds: list[Feed]) -> set[tuple[str, str]]:
    return {(feed.batch["loader"], label["at"]) for feed in feeds if feed.batch is not None for label in feed.labels}


def _values(feeds: list[Feed], loader: str, at: str) -> list[float] | None:
    """Return the values that a label took in the whole run, if they are few; none if it took only one."""
    found: set[float] = set()
    for feed in feeds:
        if feed.batch is None or feed.batch["loader"] != loader:
            continue
        for part in feed.batch["tensors"]:
            if part["at"] == at:
                if part["values"] is None:
                    return None
                found.update(part["values"])
    if len(found) < 2:
        return []  # there is no other value to put in its place
    # Negative numbers mark what a loss is to leave out, as a rule.
    kept = sorted(value for value in found if value >= 0)
    return kept if 2 <= len(kept) <= MAX_VALUES else None
