"""The files that data sets hold, sample by sample, on both sides of the split."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import PurePosixPath
from typing import Any

from pytest_brainbrr.checks.feeds import Feed, train_feeds, validation_feeds
from pytest_brainbrr.results import Finding
from pytest_brainbrr.trace import Trace

PERSON = re.compile(
    r"^((?:sub|subj|subject|pat|patient|person|participant|sleeper|speaker|spk|user|animal|chb|p)[-_]?\d+)[-_.](.+)$",
    re.IGNORECASE,
)
FEW = 0.05
Sides = tuple[list[str], list[list[str]]]
"""Files of training, and those of each data set that validates."""


def sides(trace: Trace) -> Sides:
    """Return the files of the samples of training, and of each held-out data set; empty where they are not known."""
    training = _files(trace, train_feeds(trace))
    return [name for names in training for name in names], _files(trace, validation_feeds(trace))


def _files(trace: Trace, feeds: Iterable[Feed]) -> list[list[str]]:
    loaders = {event["id"]: event["dataset"] for event in trace.events("loader")}
    datasets = {event["id"]: event for event in trace.events("dataset")}
    used = dict.fromkeys(loaders.get(feed.batch["loader"]) for feed in feeds if feed.batch is not None)
    return [_of_dataset(datasets[name], datasets) for name in used if name in datasets]


def _of_dataset(dataset: Mapping[str, Any], datasets: Mapping[str, Mapping[str, Any]]) -> list[str]:
    files = (datasets.get(dataset["base"]) or dataset).get("files") or []
    if dataset["base"] == dataset["id"]:
        return list(files)
    return [files[index] for index in dataset["subset"] or [] if index < len(files)]


def shared_files(trace: Trace) -> Finding | None:
    """Return what is wrong with a split of files that leaves some of them on both sides."""
    training, held_out = sides(trace)
    if not training or not held_out or not all(held_out):
        return None
    shared = [set(training) & set(names) for names in held_out]
    if any(not both for both in shared):
        return None  # there is a clean held-out set: what else is evaluated is so on purpose
    both, names = max(zip(shared, held_out, strict=True), key=lambda pair: len(pair[0]) / len(set(pair[1])))
    if len(both) < 2 or len(both) < FEW * len(set(names)) or both == set(names) == set(training):
        return None
    text = "samples of the validation are training samples"
    cause = "the list of files holds some of them more than once, and was doubled before it was split"
    evidence = {"held_out": len(set(names)), "also_in_training": len(both)}
    hint = "split first, and double, weigh or balance the training files alone"
    return Finding("split-disjoint", "files of the data sets", "error", text, evidence, cause, hint)


def shared_patients(trace: Trace) -> tuple[bool, Finding | None]:
    """Return whether names of files say whose they are, and what is wrong if persons are on both sides.

    Where the rest of the names is another on the other side, the split is by session, on purpose.
    """
    training, held_out = sides(trace)
    if not training or not held_out or not all(held_out):
        return False, None
    verdicts = [_persons(training, names) for names in held_out]
    known = [verdict for verdict in verdicts if verdict is not None]
    if not known or any(not both for both in known):
        return bool(known), None
    both = max(known, key=len)
    text = "a patient is in training and in validation, as the names of the data sets' files say"
    cause = "the split is made by file or session instead of by patient"
    evidence = {"patients": sorted(both)[:5], "count": len(both)}
    hint = "split the list of patients first, then list their files"
    return True, Finding("split-patients", "patients of the data sets' files", "warning", text, evidence, cause, hint)


def _persons(training: list[str], held_out: list[str]) -> set[str] | None:
    """Return who is on both sides; None if the names do not tell, or the split is by what else they say."""
    found = [
        [PERSON.match(PurePosixPath(name.replace("\\", "/")).name) for name in names] for names in (training, held_out)
    ]
    if not all(match for matches in found for match in matches):
        return None
    one, other = ([match.groups() for match in matches if match] for matches in found)
    often = Counter(person for person, _ in {*one, *other})
    if max(often.values()) == 1:
        return None  # a number of its own for every file says nothing of persons
    if not {rest for _, rest in one} & {rest for _, rest in other}:
        return None
    return {person for person, _ in one} & {person for person, _ in other}
