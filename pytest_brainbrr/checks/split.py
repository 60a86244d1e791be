"""Train and held-out data are apart, sample by sample."""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from pytest_brainbrr.checks.base import Check, Vacuous
from pytest_brainbrr.checks.feeds import (
    Feed,
    argument,
    losses_of,
    telling_forms,
    telling_rows,
    train_feeds,
    validation_feeds,
)
from pytest_brainbrr.checks.held_files import shared_files
from pytest_brainbrr.checks.stages import of_same_model, of_same_stages
from pytest_brainbrr.results import Finding
from pytest_brainbrr.targets import Target
from pytest_brainbrr.trace import Trace

COMMON = 4
"""A quarter of a window that more rows of one batch share tells none of them apart."""
FEW = 0.05
"""Share of held-out samples that may also be in training: public data sets hold a few duplicates."""


def judge_disjoint(traces: Mapping[str, Trace], target: Target) -> Iterable[Finding]:
    """Compare the samples that trained with those that validated, by content and by index."""
    trace = traces["straight"]
    shared = shared_files(trace)
    return [shared] if shared is not None else _by_samples(trace)


def _by_samples(trace: Trace) -> Iterable[Finding]:
    training, held_out = train_feeds(trace), validation_feeds(trace)
    if not training or not held_out:
        raise Vacuous("no validation was seen" if training else "no training step was seen")
    held_out = tuple(feed for feed in held_out if not (feed.call["training"] and _has_statistics(trace, feed)))
    if _parts_train(trace, training):
        raise Vacuous("losses take a part of the rows that the model is given: the rows are context, not samples")
    known_by = _known_by([*training, *held_out])
    seen = _Seen(trace, training, known_by)
    groups: dict[str, list[Feed]] = {}
    for feed in held_out:
        groups.setdefault(feed.batch["loader"] if feed.batch is not None else f"call {feed.call['n']}", []).append(feed)
    groups = {key: group for key, group in groups.items() if not _without_labels(trace, training, group)}
    verdicts = [_overlap(trace, training, group, known_by) for group in groups.values()]
    known = [verdict for verdict in verdicts if verdict is not None]
    if not known:
        raise Vacuous("samples carry neither indices of one data set nor content that tells them apart")
    if any(verdict["share"] == 0 for verdict in known):
        return []  # There is a clean held-out set: what else is evaluated (training accuracy) is so on purpose.
    worst = max(known, key=lambda verdict: verdict["share"], default=None)
    if worst is None or worst["share"] < FEW or worst["both"] < 2:
        return []
    return [_overlap_finding(trace, worst, seen, {group for group in groups if not group.startswith("call ")})]


def _parts_train(trace: Trace, training: Iterable[Feed]) -> bool:
    """Return whether the rows of the model's input are a world (the nodes of a graph) from which the losses choose.

    Either every loss of training takes fewer rows than the model gave, of the same width; or the model is always given
    one and the same tensor, and no loss takes all of its rows.
    """
    training = [feed for feed in training if feed.inputs and feed.inputs[0]["shape"]]
    worlds = {(feed.inputs[0].get("digest"), tuple(feed.inputs[0]["shape"])) for feed in training}
    chosen, whole = 0, 0
    for feed in training:
        rows = feed.inputs[0]["shape"][0]
        outputs = {tuple(fact["shape"][1:]) for fact in feed.call["outputs"] or () if fact["shape"][:1] == [rows]}
        given = [argument(loss, "input") for loss in losses_of(trace, feed) if loss["grad_enabled"]]
        shapes = [list(fact["shape"]) for fact in given if fact is not None]
        whole += any(shape[:1] == [rows] for shape in shapes)
        chosen += any(shape and shape[0] < rows and tuple(shape[1:]) in outputs for shape in shapes)
    if whole or not training:
        return False
    return chosen == len(training) or (len(worlds) == 1 and len(training) > 1)


def _without_labels(trace: Trace, training: Iterable[Feed], group: list[Feed]) -> bool:
    """Return whether a group has neither labels, as training has, nor losses: features are taken from it."""
    return (
        all(feed.batch is not None and not feed.labels and not losses_of(trace, feed) for feed in group)
        and bool(group)
        and any(feed.labels for feed in training)
    )


def _has_statistics(trace: Trace, feed: Feed) -> bool:
    """Return whether the model keeps statistics: calls in training mode may be there to renew them."""
    return bool(trace.models.get(feed.call["model"], {}).get("buffers"))


def _overlap(
    trace: Trace, training: Iterable[Feed], group: list[Feed], known_by: frozenset[str]
) -> dict[str, Any] | None:
    """Return how much of a group trained its model in the same stage, before it was evaluated for the last time.

    What is held out may be trained on afterwards: the last fit takes all there is, the pool of active learning grows.
    """
    own = of_same_stages(trace, of_same_model(training, group), group)
    last = max(feed.call["n"] for feed in group)
    before = [feed for feed in own if feed.call["n"] < last]
    verdict = _Seen(trace, own, known_by).overlap(group)
    if verdict is None or not verdict["both"] or not before:
        return verdict
    earlier = _Seen(trace, before, known_by).overlap(group)
    return earlier if earlier is not None and not earlier["both"] else verdict


class _Seen:
    """What training saw: contents, forms, and indices into base data sets."""

    def __init__(self, trace: Trace, feeds: Iterable[Feed], known_by: frozenset[str]) -> None:
        self.known_by = known_by
        self.datasets = {event["id"]: event for event in trace.events("dataset")}
        self.loaders = {event["id"]: event for event in trace.events("loader")}
        self.rows: set[str] = set()
        self.pieces: set[str] = set()
        self.indices: dict[str, set[int]] = {}
        self.used: set[str] = set()
        self.most = 0
        for feed in feeds:
            rows = _rows(feed, self.known_by)
            self.rows |= rows
            self.pieces |= {piece for row in _pieces(feed, self.known_by) for piece in row}
            self.most = max(self.most, len(rows))
            if feed.batch is not None:
                self.used.add(feed.batch["loader"])
                base = self.base(feed.batch["loader"])
                subset = self.datasets.get(self.loaders.get(feed.batch["loader"], {}).get("dataset"), {}).get("subset")
                for index in subset or feed.batch.get("base_indices") or ():
                    self.indices.setdefault(base, set()).add(index)

    def base(self, loader: str) -> str:
        dataset = self.loaders.get(loader, {}).get("dataset")
        return str(self.datasets.get(dataset, {}).get("base") or dataset or f"data of {loader}")

    @property
    def one_batch(self) -> bool:
        """Whether the whole training set is one batch, as when a model is made to overfit on purpose."""
        return 0 < len({row for row in self.rows if not row.startswith("form:")}) <= self.most

    def overlap(self, group: list[Feed]) -> dict[str, Any] | None:
        """Return how much of a held-out group is in training, or None if that cannot be told."""
        held, both, known = 0, 0, False
        for feed in group:
            batch = feed.batch
            indices = set((batch or {}).get("base_indices") or ())
            same = self.indices.get(self.base(batch["loader"])) if batch is not None and indices else None
            if same is not None and same & indices:
                known = True
                held += len(indices)
                both += len(same & indices)
                continue
            rows = _rows(feed, self.known_by)
            known = known or bool(rows) or same is not None
            held += max(
                _count(rows), len(indices) if same is not None else 0, len(pieces := _pieces(feed, self.known_by))
            )
            both += max(_count(rows & self.rows), sum(bool(row & self.pieces) for row in pieces))
        if not known or not held:
            return None
        return {
            "held_out": held,
            "both": both,
            "share": both / held,
            "loader": group[0].batch["loader"] if group[0].batch else None,
            "everything": bool(self.rows)
            and self.rows <= {row for feed in group for row in _rows(feed, self.known_by)},
        }


def _count(rows: set[str]) -> int:
    """Count samples, each of which may be known by its content and by its form."""
    forms = sum(row.startswith("form:") for row in rows)
    return max(forms, len(rows) - forms)


def _known_by(feeds: Iterable[Feed]) -> frozenset[str]:
    """Return which of `forms` and `pieces` tell samples apart: not if two samples of a batch share them by chance.

    Samples of other bytes and one form are no rescaled copies of each other where they stand in one batch, and windows
    that overlap share quarters, but not at the same place. Signals of few or coarse steps do either: binary images,
    tables of few columns.
    """
    alike = Counter[str]()
    for fact, batch in ((fact, feed.batch) for feed in feeds for fact in _facts(feed)):
        samples = fact.get("samples") or []
        drawn = (batch or {}).get("base_indices") or []
        if len(set(drawn)) < len(drawn):
            continue  # One sample drawn twice, and augmented.
        for word in ("forms", "pieces"):
            first: dict[Any, str | None] = {}
            for sample, form in zip(samples, fact.get(word) or [], strict=False):
                for place in enumerate(form) if isinstance(form, list) else [(0, form)]:
                    if place[1] is not None and first.setdefault(place, sample) != sample:
                        alike[word] += 1
    return frozenset({"forms", "pieces"} - alike.keys())


def _facts(feed: Feed) -> list[Any]:
    return [*feed.inputs, *(part for part, _ in feed.signals)]


def _pieces(feed: Feed, known_by: frozenset[str]) -> list[set[str]]:
    """Return the forms of the quarters of each sample, those left out that many samples share."""
    if "pieces" not in known_by:
        return []
    facts = [fact for fact in _facts(feed) if fact.get("pieces")]
    rows = [{piece for piece in row if piece is not None} for row in (facts[0]["pieces"] if facts else [])]
    often = Counter(piece for row in rows for piece in row)
    return [{piece for piece in row if often[piece] < COMMON} for row in rows]


def _rows(feed: Feed, known_by: frozenset[str]) -> set[str]:
    rows: set[str] = set()
    told = ((feed.batch or {}).get("tokens") or {}).get("rows") or ()
    if any(told):  # Sequences are padded to the longest of their batch: they are compared without their padding.
        return {f"tokens:{row}" for row in told if row is not None}
    for fact in _facts(feed):
        rows |= telling_rows(fact).keys()
        rows |= telling_forms(fact).keys() if "forms" in known_by else set()
    return rows


def _overlap_finding(trace: Trace, worst: dict[str, Any], seen: _Seen, used: set[str]) -> Finding:
    same_loader = worst["loader"] is not None and worst["loader"] in seen.used
    begun = {event["loader"] for event in trace.events("epoch")} | used | seen.used
    idle = [loader for loader in seen.loaders if loader not in begun]
    # Tensors that hold all that trains, and more: scores to mine from, clusters, the accuracy of training.
    scored = worst["loader"] is None and worst["everything"] and not idle
    on_purpose = seen.one_batch or scored or (same_loader and not idle)
    cause = "the held-out data set is built from the files or indices of the training set"
    if same_loader:
        cause = "validation iterates over the training loader"
    elif worst["share"] < 1 - FEW:
        cause = "the split cuts between windows or files, not between patients, or one file stands in both lists"
    evidence = {"held_out": worst["held_out"], "also_in_training": worst["both"]}
    if idle:
        evidence["loaders_never_used"] = len(idle)
    return Finding(
        "split-disjoint",
        "validation data",
        "warning" if on_purpose else "error",
        "samples of the validation are training samples",
        evidence,
        cause,
        "give validation patients of its own; to overfit on purpose, declare it in expected_failures",
    )


CHECKS: tuple[Check, ...] = (
    Check(
        "split-disjoint",
        "No sample that validates was trained on",
        "split",
        judge_disjoint,
        cut=True,
        proves=(
            "Samples of training and of validation differ in index and in content; content is compared bitwise and "
            "up to scale and offset."
        ),
        faults=(
            "validation set built on the training files",
            "split by window or file with an overlap",
            "validation over the training loader",
        ),
        limits=(
            "Only samples that the run reached are compared; windows that overlap without being equal are not "
            "recognised. A warning where the training set is a single batch, or where training data are the only "
            "data "
            "and are evaluated through the same loader. Vacuous where losses choose among the rows given (nodes of a "
            "graph); content up to scale and offset is not compared where samples of one batch share it by chance."
        ),
    ),
)
