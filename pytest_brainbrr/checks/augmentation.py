"""Augmentation belongs to training: held-out samples are the same at every reading, and reading changes nothing."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pytest_brainbrr.checks.base import Check, Vacuous
from pytest_brainbrr.checks.feeds import Fact, Feed, losses_of, validation_passes
from pytest_brainbrr.results import Finding
from pytest_brainbrr.targets import Target
from pytest_brainbrr.trace import Trace

Sample = tuple[str, str | None, tuple[Any, ...], float | None]
"""Digests of its row at the model and in the batch, its labels, its size."""
Samples = dict[Any, Sample]


def judge_repeats(traces: Mapping[str, Trace], target: Target) -> Iterable[Finding]:
    """Compare what validation feeds the model for one sample, from one validation to the next."""
    trace = traces["straight"]
    rounds: dict[str, list[Samples]] = {}
    for group in validation_passes(trace):
        samples = _samples(trace, group)
        if samples:
            key = group[0].batch["loader"] if group[0].batch is not None else "calls"
            rounds.setdefault(key, []).append(samples)
    tally = _Tally()
    for first, *others in rounds.values():
        for later in others:
            for name in first.keys() & later.keys():
                tally.compare(first[name], later[name])
    compared, changed, at_loop, ratios = tally.compared, tally.changed, tally.at_loop, tally.ratios
    if not compared:
        raise Vacuous("no labelled sample was validated twice")
    if not changed:
        return []
    evidence = {"samples": compared, "changed": changed}
    text = "one and the same held-out sample is fed differently from validation to validation"
    if at_loop == changed:
        where, cause = "validation loop", "noise or augmentation is applied to the batch in the validation loop"
    elif len(ratios) == 1 and ratios != {1.0} and changed == compared:
        where, cause = "validation data", "reading a sample changes the stored one in place"
    else:
        where, cause = "validation data", "the augmentation of training is on in the validation data set"
    return [
        Finding("validation-repeats", where, "error", text, evidence, cause, "augment training samples only, on copies")
    ]


class _Tally:
    """Counts of samples that were fed twice, and alike or not."""

    def __init__(self) -> None:
        self.compared = self.changed = self.at_loop = 0
        self.ratios: set[float] = set()

    def compare(self, one: Sample, other: Sample) -> None:
        """Compare two readings of a sample; without labels, or with labels drawn anew, random inputs are meant."""
        if not one[2] or one[2] != other[2]:
            return
        self.compared += 1
        if one[0] != other[0]:
            self.changed += 1
            self.at_loop += one[1] is not None and one[1] == other[1]
            if one[3] and other[3]:
                self.ratios.add(round(other[3] / one[3], 4))


def _samples(trace: Trace, group: Sequence[Feed]) -> Samples:
    """Return what was fed for each sample of a validation; empty where samples are evaluated several times."""
    found: Samples = {}
    for place, feed in enumerate(group):
        signals = feed.signals
        given: Fact | None = signals[0][1] if signals else (feed.inputs[0] if feed.inputs and feed.batch else None)
        if feed.batch is None or given is None or not given.get("samples") or "float" not in given["dtype"]:
            continue
        rows = given["samples"]
        targets = [fact for loss in losses_of(trace, feed) for fact in loss["args"] if fact["at"] == "target"]
        labels = feed.labels
        names = feed.batch["indices"] or [(place, row) for row in range(len(rows))]
        if len(names) != len(rows):
            continue
        for row, name in enumerate(names):
            if name in found:
                return {}
            tags = [fact["samples"][row] for fact in labels if fact.get("samples")]
            tags += [fact["samples"][row] for fact in targets if len(fact.get("samples") or ()) == len(rows)]
            part = signals[0][0]["samples"][row] if signals and signals[0][0].get("samples") else None
            sizes = given.get("row_rms")
            found[name] = (rows[row], part, tuple(tags) if labels else (), sizes[row] if sizes else None)
    return found


def judge_unchanged(traces: Mapping[str, Trace], target: Target) -> Iterable[Finding]:
    """Read samples again with the generators put back: what still differs was changed by reading."""
    readings = traces["probe"].events("reread", after=True)
    if not readings:
        raise Vacuous("no sample of a data set could be read again")
    changed = [
        event
        for event in readings
        if event.get("mutated") and any(reading != event["digests"][0] for reading in event["digests"][1:])
    ]
    if not changed:
        return []
    attributes = sorted({str(one) for event in changed for one in event["mutated"]})
    return [
        Finding(
            "reading-changes-nothing",
            "data set",
            "error",
            "reading a sample changes what the data set holds, so that the next reading differs",
            {"samples": len(changed), "of": len(readings), "attributes": attributes[:4]},
            "an in-place operation (*=, -=, normal_) on a view of the stored signal",
            "work on a copy: x = x * factor, or x.clone() first",
        )
    ]


CHECKS: tuple[Check, ...] = (
    Check(
        "reading-changes-nothing",
        "Reading a sample leaves the data set as it was",
        "reading",
        judge_unchanged,
        needs=("straight", "probe"),
        proves=(
            "Samples read three times with generators put back do not differ because of stored arrays that changed."
        ),
        faults=("sample scaled in place", "mean subtracted in place"),
        limits="A few samples per data set; arrays in attributes of the data set.",
    ),
    Check(
        "validation-repeats",
        "Held-out samples are fed alike at every validation",
        "augmentation",
        judge_repeats,
        cut=True,
        proves="A labelled sample validated twice gives the model bitwise the same input.",
        faults=(
            "training augmentation on in validation",
            "noise added in the validation loop",
            "sample changed in place by reading",
        ),
        limits=(
            "Needs two validations within the run. Samples evaluated several times per validation (crops averaged on "
            "purpose) and tasks whose targets are drawn anew (denoising, masked tokens) are not judged."
        ),
    ),
)
