"""Labels changed at the loader: what must move with them, and what must not."""

import pytest
from data_traces import Story, digest, fact, label

from pytest_brainbrr.checks import label_effect, labels, leaks
from pytest_brainbrr.checks.base import Vacuous
from pytest_brainbrr.label_places import label_places, padded_places, spaced_out
from pytest_brainbrr.targets import Target

ROOMS = (label_effect, labels, leaks)
CHECKS = {check.id: check for room in ROOMS for check in room.CHECKS}
TARGET = Target("any", train=print)


def run(*, root=0.5, relabeled=False, x=None, columns=None, told=None, target=True, teacher=False):
    """Two steps and a validation; with ``relabeled`` the labels of the first batch were changed."""
    story = Story()
    story.dataset("d1"), story.loader("l1", "d1")
    story.dataset("d2", length=4), story.loader("l2", "d2", sampler="SequentialSampler", sampler_kind="sequential")
    story.begin("l1")
    for place, indices in enumerate([[0, 1, 2, 3], [4, 5, 6, 7]]):
        batch = story.batch(indices, position=place)
        batch["told"] = told
        if relabeled and not place:
            story.add("relabel", epoch="l1-i1", position=0, at="1", how="moved", sure=True, rows=4)
        if teacher:
            story.forward(batch, training=False, grad=False, model="m2")
        call = story.forward(batch, x=x)
        if relabeled and not place:
            story.add(
                "probe",
                name="label_sensitivity",
                model="Net",
                at="first",
                result={"columns": columns or {}},
                raised=None,
            )
        given = batch["tensors"][1] if target else fact("target", ["zeros"] * 4, shape=())
        loss = story.loss(call, given, target_from=["l1-i1", place, "1"] if target else None)
        backward = story.backward(call, losses=[loss], value=root)
        backward["raw_norms"] = {"p0": root}
        story.optimize(digest=digest(root, place))
    story.begin("l2")
    story.validate([0, 1, 2, 3])
    return story.trace()


def judge(check, straight, relabeled=None):
    traces = {"straight": straight} | ({"relabeled": relabeled} if relabeled is not None else {})
    return list(CHECKS[check].judge(traces, TARGET))


def test_loss_that_moves_with_the_labels_passes():
    assert judge("labels-matter", run(), run(root=0.6, relabeled=True)) == []


def test_loss_that_stays_warns_where_validation_takes_the_labels():
    (finding,) = judge("labels-matter", run(target=False), run(target=False, relabeled=True))
    assert (finding.where, finding.severity) == ("loss", "warning")


def test_loss_that_stays_is_no_fault_where_another_model_teaches():
    with pytest.raises(Vacuous, match="another model"):
        judge("labels-matter", run(target=False, teacher=True), run(target=False, teacher=True, relabeled=True))


def test_labels_that_could_not_be_changed_are_not_judged():
    with pytest.raises(Vacuous, match="could be changed"):
        judge("labels-matter", run(), run())


@pytest.mark.parametrize(
    ("moved", "columns", "count"),
    [(True, {"args.0": ["1:0"]}, 1), (True, {}, 0), (False, {"args.0": ["1:0"]}, 0)],
    ids=["holds the label", "augmented by class", "did not move"],
)
def test_input_that_moves_with_the_labels(moved, columns, count):
    other = fact("0", ["a", "b", "c", "d"], digest="moved") if moved else None
    straight, relabeled = run(), run(root=0.6, relabeled=True, x=other, columns=columns)
    found = judge("labels-hidden", straight, relabeled)
    assert [finding.where for finding in found] == ["model input"] * count


@pytest.mark.parametrize(
    ("columns", "of", "count"),
    [({"1:3": 25.0}, 4, 1), ({"1:3": 5.0}, 4, 0), ({"1:0": 25.0}, 1, 0), ({}, 4, 0)],
    ids=["a channel is the label", "may be chance", "the only channel", "none"],
)
def test_column_of_the_data_set_that_is_the_label(columns, of, count):
    told = [{"label": "1", "signal": "0", "columns": columns, "of": of}]
    found = judge("labels-hidden", run(told=told))
    assert [(finding.where, finding.severity) for finding in found] == [("batch", "error")] * count


def test_places_are_those_that_reached_a_loss():
    places = label_places(run())
    assert {(place["epoch"], place["position"], place["at"]) for place in places} == {
        ("l1-i1", 0, "1"), ("l1-i1", 1, "1"), ("l2-i1", 0, "1"),
    }  # fmt: skip
    assert places[0]["digest"] == label("1", [0, 1, 0, 1])["digest"]
    assert places[0]["values"] == [0.0, 1.0]
    assert places[0]["sure"]


def padded(*, root=0.5, how=None):
    """One step on windows of unequal length, with a mask beside the labels."""
    story = Story()
    story.dataset("d1"), story.loader("l1", "d1"), story.begin("l1")
    rows = range(4)
    parts = [
        fact("x", rows, shape=(8, 2)),
        fact("y", rows, shape=(8,), dtype="float", digest="labels"),
        fact("valid", rows, shape=(8,), dtype="bool", digest="mask"),
    ]
    batch = story.batch(rows, tensors=parts)
    if how is not None:
        story.add("relabel", epoch="l1-i1", position=0, at="y", how=how, sure=True, rows=2)
    call = story.forward(batch, x=parts[0])
    story.loss(call, parts[1])
    backward = story.backward(call, value=root)
    backward["raw_norms"] = {"p0": root}
    story.optimize(digest=digest(root))
    return story.trace()


@pytest.mark.parametrize(
    ("root", "how", "severities"),
    [
        (0.5, "under padding", []),
        (0.6, "under padding", ["warning"]),
        (0.6, "under padding, which the mask has elsewhere", ["error"]),
    ],
    ids=["masked", "padding counts", "padded on opposite sides"],
)
def test_labels_under_padding(root, how, severities):
    traces = {"straight": padded(), "padded": padded(root=root, how=how)}
    found = list(CHECKS["padding-left-out"].judge(traces, TARGET))
    assert [finding.severity for finding in found] == severities


def test_without_padding_there_is_nothing_to_leave_out():
    with pytest.raises(Vacuous, match="no signal was padded"):
        list(CHECKS["padding-left-out"].judge({"straight": padded(), "padded": padded()}, TARGET))
    (place,) = padded_places(padded())
    assert (place["at"], place["signal"], place["masks"]) == ("y", "x", ["valid"])
    assert padded_places(run()) == []


def late(roots, changed=(1, 3, 4), forms=True):
    """Steps with these losses; labels of some batches were changed."""
    story = Story()
    story.dataset("d1"), story.loader("l1", "d1")
    story.begin("l1")
    for place, root in enumerate(roots):
        batch = story.batch([place, place + 1], position=place)
        if place in changed:
            story.add("relabel", epoch="l1-i1", position=place, at="1", how="moved", sure=True, rows=2)
        call = story.forward(batch, x=None if forms else fact("0", ["a", "b"], digest=f"made anew {place}"))
        loss = story.loss(call, batch["tensors"][1])
        story.backward(call, losses=[loss], value=root)["raw_norms"] = {"p0": root}
        story.optimize(digest=digest(root))
    return story.trace()


BASE = [0.9, 0.8, 0.7, 0.6, 0.5]


def test_labels_that_take_effect_a_batch_late():
    (finding,) = judge("labels-matter", late(BASE, ()), late([0.9, 0.8, 0.75, 0.6, 0.5]))
    assert (finding.severity, finding.where) == ("error", "loss")


@pytest.mark.parametrize(
    ("roots", "forms"),
    [([0.9, 0.85, 0.7, 0.6, 0.5], True), ([0.9, 0.8, 0.7, 0.65, 0.5], True), ([0.9, 0.8, 0.75, 0.6, 0.5], False)],
    ids=["at once", "every second step learns without labels", "inputs of unknown origin"],
)
def test_labels_that_are_not_late(roots, forms):
    assert judge("labels-matter", late(BASE, (), forms), late(roots, forms=forms)) == []


def test_labels_of_the_first_and_the_third_batch_are_left_alone():
    trace = late(BASE, ())
    places = label_places(trace)
    assert [place["position"] for place in places] == [0, 1, 2, 3, 4]
    assert [place["position"] for place in spaced_out(trace, places)] == [1, 3, 4]
    assert spaced_out(run(), label_places(run())) != []
