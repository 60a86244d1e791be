"""Checks of masks, contents and scores: one planted fault and its healthy neighbor for each."""

import pytest
from data_traces import Story, digest, fact

from pytest_brainbrr.checks import contents, masks, scores
from pytest_brainbrr.checks.base import Vacuous
from pytest_brainbrr.targets import Target

CHECKS = {check.id: check for room in (masks, contents, scores) for check in room.CHECKS}
TARGET = Target("any", train=print)
ROWS, WIDTH = 3, 8
REAL, ALL = 0xFCF0FE, 0xFFFFFF
"""Three rows of eight places: 6, 4 and 7 are real."""


def judge(check, story):
    return [(one.where, one.severity) for one in CHECKS[check].judge({"straight": story.trace()}, TARGET)]


def flags(at, bits, **changes):
    return fact(at, range(ROWS), shape=(WIDTH,), dtype="bool", bits=f"{bits:06x}", constant=bits == ALL, **changes)


def masked(live, mask=REAL, *, empty=None, lone=False, steps=3):
    """Train on batches with a mask; gradients arrive where ``live`` says."""
    story = Story()
    story.dataset()
    story.loader()
    story.begin()
    for step in range(steps):
        x = fact("0", [(step, row) for row in range(ROWS)], shape=(WIDTH, 2), empty=empty and f"{empty:06x}")
        targets = [] if lone else [fact("1", range(ROWS), shape=(WIDTH,), dtype="int64")]
        batch = story.batch(range(ROWS), position=step, tensors=[x, *targets, flags("2", mask)])
        call = story.forward(batch)
        rows = [bool(live >> WIDTH * (ROWS - 1 - row) & 0xFF) for row in range(ROWS)]
        shape = [ROWS, WIDTH, 5]
        story.add("output_grad", call=call["call"], at="", shape=shape, rows=rows, live=f"{live:06x}", live_last=None)
        story.backward(call)
        story.optimize()
    return story


@pytest.mark.parametrize("live", [REAL, REAL & 0xF0F0F0, ALL & ~REAL])
def test_gradients_inside_or_outside_of_the_mask_are_fine(live):
    assert judge("loss-keeps-mask", masked(live)) == []


@pytest.mark.parametrize("live", [ALL, 0x3F0F7F])
def test_gradients_on_both_sides_of_the_mask_warn(live):
    assert judge("loss-keeps-mask", masked(live)) == [("loss", "warning")]


def test_lone_table_of_flags_may_be_the_label():
    with pytest.raises(Vacuous):
        judge("loss-keeps-mask", masked(ALL, lone=True))


@pytest.mark.parametrize("seen", ["target of the loss", "another type of it", "name"])
def test_labels_of_0_and_1_beside_a_full_mask_are_no_mask(seen):
    story = Story()
    story.dataset()
    story.loader()
    story.begin()
    for step in range(3):
        x = fact("0", [(step, row) for row in range(ROWS)], shape=(WIDTH, 2))
        y = flags("label" if seen == "name" else "1", REAL, row_means=[0.75, 0.5, 0.875])
        call = story.forward(batch := story.batch(range(ROWS), position=step, tensors=[x, y, flags("2", ALL)]))
        if seen != "name":
            changes = {"dtype": "float32", "digest": "cast"} if seen == "another type of it" else {}
            story.loss(call, {**y, **changes})
        story.add("output_grad", call=call["call"], at="", shape=[*batch["tensors"][1]["shape"]], rows=[True] * ROWS,
                  live=f"{ALL:06x}", live_last=None)  # fmt: skip
        story.backward(call)
        story.optimize()
    with pytest.raises(Vacuous):
        judge("loss-keeps-mask", story)


def test_mask_beside_the_padding():
    assert judge("mask-on-padding", masked(REAL, empty=ALL & ~REAL)) == []
    assert judge("mask-on-padding", masked(REAL, empty=0xC0F080)) == [("batch", "error")]
    assert judge("mask-on-padding", masked(ALL, ALL, empty=0xC0F080)) == [("batch", "warning")]
    with pytest.raises(Vacuous):
        judge("mask-on-padding", masked(REAL))


def test_only_first_row_trains():
    assert judge("rows-train", masked(0xFF0000)) == [("loss", "error")]
    assert judge("rows-train", masked(0x0000FF)) == []
    assert judge("rows-train", masked(ALL)) == []


def indexed(signals, labels):
    """Deliver samples 0, 1, ... with these signals and labels."""
    story = Story()
    story.dataset(length=len(signals))
    story.loader()
    story.begin()
    x = fact("0", signals, shape=(32,))
    y = fact("1", labels, shape=(), dtype="int64", samples=[digest(one) for one in labels])
    story.forward(story.batch(range(len(signals)), tensors=[x, y]))
    return story


def test_different_samples_are_fine():
    assert judge("samples-distinct", indexed(range(10), [0] * 10)) == []


def test_repeated_data_set_is_fine():
    assert judge("samples-distinct", indexed([0, 1, 2, 3] * 3, [0, 1, 0, 1] * 3)) == []


@pytest.mark.parametrize(
    ("signals", "labels"),
    [([7] * 10, [0] * 10), ([0, 1, 2, 3] * 3, [0, 1, 2] * 4), ([0, 0, 0, 0, *range(1, 7)], [0] * 10)],
)
def test_one_signal_behind_several_indices_warns(signals, labels):
    assert judge("samples-distinct", indexed(signals, labels)) == [("data set", "warning")]


@pytest.mark.parametrize(("weights", "expected"), [(10, []), (4, [("training sampler", "error")])])
def test_weights_are_as_many_as_samples(weights, expected):
    story = Story()
    story.dataset(length=10)
    story.loader(sampler_kind="weighted", weights={"n": weights, "min": 0.1, "max": 1.0, "distinct": None})
    assert judge("sampler-fits", story) == expected


HITS = [[(4, 3), (4, 1), (2, 2)], [(4, 4), (4, 2), (2, 0)]]
"""Samples and hits of the batches of two validations: 0.6 and 0.6; the second is changed below."""


def validated(logged, hits=HITS, name="val_accuracy", **changes):
    story = Story()
    story.dataset()
    story.dataset("d2")
    story.loader()
    story.loader("l2", dataset="d2")
    for turn, batches in enumerate(hits, 1):
        story.begin(number=turn)
        story.train([2 * turn, 2 * turn + 1], epoch=f"l1-i{turn}")
        story.begin("l2", turn)
        for place, (n, right) in enumerate(batches):
            story.validate([place], place, epoch=f"l2-i{turn}")
            call = next(event for event in reversed(story.events) if event["kind"] == "forward")
            score = {
                "output": "",
                "at": "1",
                "kind": "classes",
                "n": n,
                "hits": right,
                "confusion": [right, n - right, 1],
            }
            call["scores"] = [score | changes]
    rows = [{name: value} for value in logged]
    story.add("metrics_file", path="metrics.csv", rows=rows)
    return story


DIFFERENT = [HITS[0], [(4, 4), (4, 4), (2, 1)]]


def test_logged_accuracy_of_all_outputs_is_fine():
    assert judge("scores-of-outputs", validated([0.6, 0.9], DIFFERENT)) == []
    assert judge("scores-of-outputs", validated([60.0, 90.0], DIFFERENT)) == []


def test_other_numbers_are_left_alone():
    assert judge("scores-of-outputs", validated([0.61, 0.77], DIFFERENT)) == []


@pytest.mark.parametrize("logged", [[1.0, 0.5], [0.75, 1.0], [0.6, 0.75]], ids=["last", "first", "never-reset"])
def test_accuracy_of_other_batches_warns(logged):
    assert judge("scores-of-outputs", validated(logged, DIFFERENT)) == [("accuracy", "warning")]


@pytest.mark.parametrize(
    ("name", "logged", "found"),
    [
        ("val_f1", [12 / 19, 9 / 11], None),
        ("val_recall", [6 / 9, 9 / 12], None),
        ("val/precision", [1.0, 0.5], "precision"),
        ("val_macro_f1", [1.0, 0.5], None),
    ],
)
def test_scores_of_the_positive_class(name, logged, found):
    """Of all outputs; of the last batch; of both classes, which are left alone."""
    expected = [(found, "warning")] if found else []
    if name == "val_macro_f1":
        with pytest.raises(Vacuous):
            judge("scores-of-outputs", validated(logged, DIFFERENT, name))
    else:
        assert judge("scores-of-outputs", validated(logged, DIFFERENT, name)) == expected


def test_misses_warn():
    story = validated([0.4, 0.1], DIFFERENT, hits_half=1, outside=True)
    assert judge("scores-of-outputs", story) == [("accuracy", "warning")]


def test_validation_that_stays_on_one_input():
    fine, stuck = Story(), Story()
    for story in (fine, stuck):
        story.loader()
        story.loader("l2", dataset="d2")
        story.begin()
        story.train([4, 5])
        story.begin("l2")
        for place in range(3):
            x = fact("0", [("train", 0)]) if story is stuck else None
            story.validate([place], place, x=x)
    assert judge("validation-advances", fine) == []
    assert judge("validation-advances", stuck) == [("validation loop", "error")]
