"""Healthy habits of other fields beside the faults they resemble: graphs, states, sweeps, kept weights."""

import pytest
from data_traces import Story, fact, label

from pytest_brainbrr.checks import labels, loss, reading, resume, split, validation
from pytest_brainbrr.checks.base import Vacuous
from pytest_brainbrr.checks.checkpoints import INITIAL
from pytest_brainbrr.targets import Target

CHECKS = {check.id: check for room in (labels, loss, reading, resume, split, validation) for check in room.CHECKS}
TARGET = Target("any", train=print)


def judge(check, **stories):
    return list(CHECKS[check].judge({plan: story.trace() for plan, story in stories.items()}, TARGET))


def graph(*, chosen):
    """One graph of ten nodes, of which the loss takes the first four, or all; then the same graph without gradients."""
    story = Story()
    nodes = fact("0", range(10))
    for _ in range(3):
        call = story.forward(x=nodes, outputs=[fact("0", range(10), shape=(3,), dtype="out")])
        given = fact("input", range(4 if chosen else 10), shape=(3,))
        story.loss(call, label("target", [0, 1] * (2 if chosen else 5)), function="cross_entropy", given=given)
        story.backward(call)
        story.optimize()
        story.forward(x=nodes, training=False, grad=False)
    return story


def test_nodes_of_one_graph_are_on_both_sides_where_losses_choose_among_them():
    with pytest.raises(Vacuous, match="part of the rows"):
        judge("split-disjoint", straight=graph(chosen=True))
    (found,) = judge("split-disjoint", straight=graph(chosen=False))
    assert found.severity == "warning"


def forms(names, **changes):
    return fact(
        "0", [f"{name}{place}" for place, name in enumerate(names)], shape=(1, 64), forms=list(names), **changes
    )


@pytest.mark.parametrize(("training", "found"), [("abcd", 1), ("aacd", 0)])
def test_forms_that_two_samples_of_a_batch_share_identify_nothing(training, found):
    story = Story()
    story.loader("l1", "d1"), story.loader("l2", "d2")
    for place in range(2):
        batch = story.batch(range(4), x=forms(training, digest=f"t{place}"), position=place)
        call = story.forward(batch)
        story.loss(call, batch["tensors"][1])
        story.backward(call)
        story.optimize()
    rescaled = fact("0", ["r", "s", "t", "u"], shape=(1, 64), forms=["b", "c", "d", "z"])
    story.validate(range(4), x=rescaled, tensors=[rescaled, label("1", [0, 1, 0, 1])])
    assert len(judge("split-disjoint", straight=story)) == found


def test_a_pass_without_labels_and_losses_takes_features_and_validates_nothing():
    story = Story()
    story.dataset("d1"), story.dataset("d2", base="d1")
    story.loader("l1", "d1"), story.loader("l2", "d2", sampler_kind="sequential")
    story.train([0, 1])
    x = fact("0", [("train", 0), ("train", 1)])
    batch = story.batch([0, 1], loader="l2", epoch="l2-i1", tensors=[x])
    story.forward(batch, training=False, grad=False)
    with pytest.raises(Vacuous):
        judge("split-disjoint", straight=story)
    story.validate([0, 1], epoch="l2-i2", split="train")
    assert len(judge("split-disjoint", straight=story)) == 1


@pytest.mark.parametrize(("targets", "found"), [((0.0,), 1), ((0.0, 1.0), None)])
def test_labels_of_one_value_are_no_fault_where_the_losses_are_given_others(targets, found):
    story = Story()
    for place in range(8):
        batch = story.batch(range(4), y=label("1", [0] * 4), position=place)
        call = story.forward(batch)
        for value in targets:
            story.loss(call, label("target", [value] * 4))
        story.backward(call)
        story.optimize()
    if found is None:
        with pytest.raises(Vacuous, match="no labels of this task"):
            judge("labels-vary", straight=story)
    else:
        assert len(judge("labels-vary", straight=story)) == found


def energies(values, *, shape=(4, 8), **changes):
    return fact("0", range(len(values)), shape=shape, row_rms=values, **changes)


@pytest.mark.parametrize(
    ("inputs", "found"),
    [
        ([energies([1.0, 0.0])], 1),
        ([energies([1.0, 0.0], shape=(2,))], 0),  # a truth table, coordinates
        ([energies([1.0, 1.0]), energies([0.0, 0.0], constant=True, min=0.0)], 0),  # the first state of a network
        ([fact("0", range(2), dtype="int64"), energies([0.0, 0.0], constant=True, min=0.0)], 0),
        ([energies([1.0, 0.0]), energies([0.0, 1.0])], 0),  # one of two signals is missing
        ([energies([1.0, 0.0]), energies([1.0, 0.0])], 1),
    ],
)
def test_windows_of_zeros_are_wide_and_alone(inputs, found):
    story = Story()
    call = story.forward(x=inputs[0])
    call["inputs"] = [*inputs, energies([1.0, 1.0]) | {"shape": [3, 8]}] if len(inputs) > 1 else inputs
    story.backward(call)
    story.optimize()
    assert len(judge("inputs-alive", straight=story)) == found


@pytest.mark.parametrize(("built", "found"), [(False, 1), (True, 0)])
def test_seeding_again_is_no_fault_where_another_training_begins(built, found):
    story = Story()
    for place in range(3):
        if place == 0 or built:
            story.add("seed", function="torch.manual_seed", value=0)
            story.add("optimizer", id=f"o{place}")
        else:
            story.add("seed", function="torch.manual_seed", value=0)
        story.train([2 * place, 2 * place + 1], place)
    assert len(judge("randomness-goes-on", straight=story)) == found


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("ticket.pt/init/", True),
        ("initial_weights.pt/", True),
        ("last.pt/w0/", True),
        ("last.pt/model/", False),
        ("last.pt/_orig_mod.", False),
        ("initech.pt/model/", False),
    ],
)
def test_names_of_weights_kept_from_before_training(name, kept):
    assert bool(INITIAL.search(name)) == kept


def ended_pass(training):
    story = Story()
    story.loader("l1", "d1")
    story.begin("l1")
    story.train([0, 1])
    batch = story.batch([2, 3], position=1)
    story.end("l1", 1, 2)
    story.forward(x=fact("0", [7, 8, 9]), training=training, grad=training)
    story.events[-1]["loader"] = [batch["epoch"], 1]
    return story.trace().events("forward")[-1]["loader"]


def test_a_call_in_other_modes_after_the_end_of_a_pass_is_not_fed_by_it():
    assert ended_pass(training=False) is None
    assert ended_pass(training=True) is not None  # an engine that fetches one batch ahead


@pytest.mark.parametrize(("name", "writes", "found"), [("c", False, 1), ("c", True, 0), ("test_c", False, 0)])
def test_files_of_its_own_and_of_a_test_may_stay_unread(name, writes, found):
    story = Story()
    story.add("file_open", path="data/a.pt", mode="read")
    story.train([0, 1])
    if writes:
        story.add("file_open", path=f"data/{name}.pt", mode="write")
    for left in ("a", "b", name):
        story.add("file_left", path=f"data/{left}.pt", bytes=1)
    assert len(judge("files-read", straight=story)) == found


@pytest.mark.parametrize(("classes", "found"), [(2, 1), (64, 0)])
def test_one_constant_target_is_meant_where_the_loss_tells_other_classes_apart(classes, found):
    story = Story()
    for place in range(3):
        batch = story.batch(range(4), position=place)
        call = story.forward(batch)
        given = fact("input", range(4), shape=(classes,))
        story.loss(call, label("target", [0] * 4), function="cross_entropy", given=given)
        story.backward(call)
        story.optimize()
    assert len(judge("labels-reach-loss", straight=story)) == found
