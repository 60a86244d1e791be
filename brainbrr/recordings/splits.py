"""Which patients train, which validate, which are held out; never one on two sides."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations

import numpy as np

from brainbrr.config.data import Data, SplitRatio
from brainbrr.errors import ConfigError, DataError
from brainbrr.recordings.types import Located

SPLITS = ("train", "dev", "eval")


def split_recordings(located: Sequence[Located], data: Data, *, where: object = None) -> dict[str, list[Located]]:
    """Divide recordings into the three splits, each in the order of keys.

    Raises:
        DataError: the official split is wanted and a recording has none.
        ConfigError: too few patients for the shares.
    """
    official = data.split == "official" or (data.split == "auto" and any(one.split for one in located))
    if official:
        for one in located:
            if one.split not in SPLITS:
                raise DataError(
                    "a recording outside the official splits",
                    where=one.path,
                    expected="a folder train, dev or eval above it",
                    hint="Set data.split: ratio, or move it",
                )
        by_patient = None
    else:
        by_patient = assign_patients({one.patient for one in located}, data.split_ratio, data.split_seed, where=where)
    splits: dict[str, list[Located]] = {name: [] for name in SPLITS}
    for one in sorted(located, key=lambda one: one.key):
        splits[str(one.split) if by_patient is None else by_patient[one.patient]].append(one)
    return splits


def assign_patients(patients: Iterable[str], ratio: SplitRatio, seed: int, *, where: object = None) -> dict[str, str]:
    """Give every patient one split: shuffled by seed, then cut at the shares, at least one where the share is above 0.

    >>> sorted(assign_patients("abcde", SplitRatio(train=0.6, dev=0.2, eval=0.2), seed=0).values())
    ['dev', 'eval', 'train', 'train', 'train']

    Raises:
        ConfigError: fewer patients than splits.
    """
    order = [str(name) for name in np.random.default_rng(seed).permutation(sorted(patients))]
    shares = {name: float(getattr(ratio, name)) for name in SPLITS}
    wanted = [name for name in SPLITS if shares[name] > 0]
    if len(order) < len(wanted):
        raise ConfigError(
            "too few patients to split",
            where=where or "data.split_ratio",
            got=f"{len(order)} patients",
            expected=f"one each for {', '.join(wanted)}",
        )
    # Largest remainder above one each.
    free, total = len(order) - len(wanted), sum(shares.values())
    exact = {name: max(shares[name] / total * len(order) - 1, 0) for name in wanted}
    scale = free / sum(exact.values()) if sum(exact.values()) else 0
    counts = {name: 1 + int(exact[name] * scale) for name in wanted}
    for name in sorted(wanted, key=lambda name: exact[name] * scale % 1, reverse=True):
        if sum(counts.values()) < len(order):
            counts[name] += 1
    counts[wanted[0]] += len(order) - sum(counts.values())
    names = [name for name in wanted for _ in range(counts[name])]
    return dict(zip(order, names, strict=True))


def check_disjoint(splits: Mapping[str, Sequence[Located]], *, where: object = None) -> None:
    """Refuse splits that share a patient.

    Raises:
        DataError: naming the patients and both splits.
    """
    patients = {name: {one.patient for one in located} for name, located in splits.items()}
    for first, second in combinations(patients, 2):
        if shared := sorted(patients[first] & patients[second]):
            raise DataError(
                f"patients in both {first} and {second}: {', '.join(shared)}",
                where=where,
                hint="A model would be judged on patients it learned from: move recordings, or set data.split: ratio",
            )
