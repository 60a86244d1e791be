"""How two readings of a sample lie to each other, and whether the label went along."""

import numpy as np
import pytest
import torch

from pytest_brainbrr.turning import apart, compare, pairs, way

RNG = np.random.default_rng(5)
WHOLE = RNG.normal(size=(3, 60))
LABELS = (RNG.random(60) < 0.5).astype(np.float32)


def cut(start, turned=False, label_start=None, label_turned=None, gain=1.0):
    """Return a window of 40 places, and its label, cut and turned alike unless told otherwise."""
    signal = WHOLE[:, start : start + 40] * gain + 0.01 * RNG.normal(size=(3, 40))
    label_start = start if label_start is None else label_start
    label = LABELS[label_start : label_start + 40]
    label_turned = turned if label_turned is None else label_turned
    return (signal[:, ::-1] if turned else signal), (label[::-1] if label_turned else label)


@pytest.mark.parametrize(
    ("other", "expected"),
    [
        (cut(10, gain=3.0), (False, 0)),
        (cut(10, turned=True), (True, 0)),
        (cut(14), (False, 4)),
        (cut(3, gain=0.5), (False, -7)),
        ((RNG.normal(size=(3, 40)), LABELS[:40]), None),
    ],
)
def test_the_way_of_a_signal(other, expected):
    assert way(cut(10)[0], other[0]) == expected


@pytest.mark.parametrize(
    ("other", "expected"),
    [
        (cut(10), None),
        (cut(10, turned=True), False),
        (cut(14), False),
        (cut(10, turned=True, label_turned=False), True),
        (cut(10, label_turned=True), True),
        (cut(14, label_start=10), True),
        (cut(14, label_start=7), True),
        ((cut(14)[0], np.ones(40)), None),
        ((cut(10, turned=True)[0], np.arange(40)), None),
        ((cut(14)[0], RNG.normal(size=40)), None),
        ((np.zeros((3, 40)), LABELS[:40]), None),
    ],
)
def test_whether_the_label_went_along(other, expected):
    assert apart(cut(10), other) is expected


def test_signals_and_labels_of_a_sample():
    signal, label = torch.zeros(20, 3), torch.arange(20)
    found = list(pairs({"x": signal, "y": label[None], "patient": 4, "other": torch.zeros(7)}))
    assert [(at, label_at, x.shape, y.shape) for at, label_at, x, y in found] == [("x", "y", (3, 20), (20,))]
    assert list(pairs((torch.zeros(20, 20), label))) == []
    assert list(pairs((torch.zeros(3, 20).long(), label))) == []


def test_readings_are_compared_with_the_first():
    readings = [cut(10), cut(10, turned=True), cut(12, label_start=10), cut(10)]
    assert compare(readings) == {("0", "1"): [False, True]}
