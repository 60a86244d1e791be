"""Train and held-out data are apart, as far as names tell: patients, and folders of files."""

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import PurePosixPath

from pytest_brainbrr.checks.base import Check, Vacuous
from pytest_brainbrr.checks.feeds import Feed, train_feeds, validation_feeds
from pytest_brainbrr.checks.held_files import shared_patients
from pytest_brainbrr.results import Finding
from pytest_brainbrr.targets import Target
from pytest_brainbrr.trace import Trace

HELD_OUT = re.compile(r"^(val|valid|validation|dev|devel|eval|evaluation|held[-_]?out|holdout)$", re.IGNORECASE)
TRAIN = re.compile(r"^(train|training)$", re.IGNORECASE)
SUBJECT = re.compile(r"^(sub-[A-Za-z0-9]+|[A-Za-z]+\d+|[a-z]{8})(?=_|$)")
SUBJECT_KEYS = re.compile(r"(^|[._])(patient|subject|participant)(s|_?ids?)?([._]\d+)?$", re.IGNORECASE)


def judge_patients(traces: Mapping[str, Trace], target: Target) -> Iterable[Finding]:
    """Compare the patients of both sides: those that batches name, and those that the files' names show."""
    sides = _canaries(traces.get("canary"))
    if all(sides):
        both = sides[0] & sides[1]
        return [_patients_finding("patients of the canary recordings", both)] if both else []
    trace = traces["straight"]
    named = {
        side: set(_named_patients(feeds))
        for side, feeds in (("train", train_feeds(trace)), ("held-out", validation_feeds(trace)))
    }
    if named["train"] and named["held-out"]:
        both = named["train"] & named["held-out"]
        return [_patients_finding("patients named in batches", both)] if both else []
    files: dict[str, set[str]] = {"train": set(), "held-out": set()}
    for event in trace.events("file_open", mode="read", role=None):
        side, subject = _place(event["path"])
        if side and subject:
            files[side].add(subject)
    if not files["train"] or not files["held-out"]:
        told, finding = shared_patients(trace)
        if told:
            return [finding] if finding is not None else []
        raise Vacuous("neither batches nor file names say which patient a sample belongs to")
    both = files["train"] & files["held-out"]
    return [_patients_finding("patients of the files read", both)] if both else []


def _canaries(trace: Trace | None) -> tuple[set[str], set[str]]:
    """Return the patients that trained and those that were validated on, where each window tells its own."""
    told: dict[str, set[str]] = {}
    for event in trace.events("probe", after=True, name="canary") if trace is not None else ():
        known = {patient for patient in event["result"]["patients"] if patient is not None}
        told.setdefault(event["result"]["digest"], set()).update(known)
    sides: list[set[str]] = []
    for fed in (train_feeds(trace), validation_feeds(trace)) if trace is not None else ((), ()):
        digests = {part["digest"] for feed in fed for part in (feed.batch or {"tensors": ()})["tensors"]}
        sides.append({patient for digest in digests & told.keys() for patient in told[digest]})
    return sides[0], sides[1]


def _named_patients(feeds: Iterable[Feed]) -> Iterator[str]:
    for feed in feeds:
        batch = feed.batch or {"others": {}, "tensors": []}
        for at, value in batch["others"].items():
            if SUBJECT_KEYS.search(at):
                yield from (str(one) for one in (value if isinstance(value, list) else [value]))
        for part in batch["tensors"]:
            if SUBJECT_KEYS.search(part["at"]) and part.get("row_means") and "int" in part["dtype"]:
                yield from (f"{one:g}" for one in part["row_means"])


def _place(path: str) -> tuple[str | None, str | None]:
    """Return the side of the split that the folders of a path name, and its patient.

    >>> _place("data/train/p01_s001.npz")
    ('train', 'p01')
    >>> _place("sub-03/eeg/sub-03_task-rest_eeg.edf")
    (None, 'sub-03')
    """
    pure = PurePosixPath(path.replace("\\", "/"))
    side = None
    for part in pure.parts[:-1]:
        if TRAIN.match(part):
            side = "train"
        elif HELD_OUT.match(part):
            side = "held-out"
    subject = SUBJECT.match(pure.name)
    return side, subject.group(1) if subject and "_" in pure.name else None


def _patients_finding(where: str, both: set[str]) -> Finding:
    return Finding(
        "split-patients",
        where,
        "error",
        "a patient is in training and in validation",
        {"patients": sorted(both)[:5], "count": len(both)},
        "the split is made by window, file or session instead of by patient",
        "split the list of patients first, then list their files",
    )


def judge_held_out_files(traces: Mapping[str, Trace], target: Target) -> Iterable[Finding]:
    """Validation happened: then the folder that is named for it was read."""
    trace = traces["straight"]
    if not validation_feeds(trace):
        raise Vacuous("no validation was seen")
    read = {
        str(event["path"]).replace("\\", "/") for event in trace.events("file_open", mode="read", role=None, after=True)
    }
    folders: dict[str, dict[str, list[bool]]] = {}
    for event in trace.events("file_left", after=True, role=None):
        path = PurePosixPath(str(event["path"]).replace("\\", "/"))
        side, _ = _place(str(path))
        if side is not None:
            folders.setdefault(path.suffix, {}).setdefault(side, []).append(str(path) in read)
    found: list[Finding] = []
    judged = False
    for sides in folders.values():
        if not any(sides.get("train", [])) or not sides.get("held-out"):
            continue
        judged = True
        if not found and not any(sides["held-out"]):
            found.append(
                Finding(
                    "held-out-read",
                    "validation files",
                    "error",
                    "validation ran, yet no file of the folder named for it was read",
                    {"held_out_files": len(sides["held-out"]), "training_files_read": sum(sides["train"])},
                    "the validation set is listed from the training folder",
                    "list the files of the validation folder for validation",
                )
            )
    if not judged:
        raise Vacuous(
            "no folder below the workdir is named for training and none for validation, or their files are opened "
            "out of sight"
        )
    return found


CHECKS: tuple[Check, ...] = (
    Check(
        "split-patients",
        "No patient is on both sides of the split",
        "split",
        judge_patients,
        wants=("canary",),
        cut=True,
        proves=(
            "Patients named in the batches (keys like patient, subject), or by the files read below folders called "
            "train and val, are disjoint. Windows of canary recordings tell their patient themselves."
        ),
        faults=("split by file or window instead of patient",),
        limits=(
            "Needs batches that name patients, BIDS- or TUSZ-like file names below folders named for the split, or "
            "data sets with a file per sample named for a patient and more; the last warns, and is left alone where "
            "sessions are split."
        ),
    ),
    Check(
        "held-out-read",
        "Validation reads the held-out files",
        "split",
        judge_held_out_files,
        cut=True,
        proves=(
            "Where files lie in folders named for training and for validation and validation runs, files of the "
            "latter are opened."
        ),
        faults=("validation set listed from the training folder",),
        limits="Files opened by C++ libraries are not seen; then the check is vacuous.",
    ),
)
