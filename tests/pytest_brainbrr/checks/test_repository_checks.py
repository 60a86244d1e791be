"""What public repositories do that looks like a fault, beside the fault that it looks like."""

import zlib

import data_traces as data
import pytest
import training_traces as training
from training_traces import only, passed, vacuous


def two_models(*, called, steps):
    """A trained model, and a second one of the same inner names in an optimizer of its own."""
    story = training.Story(names=("0.weight", "2.weight"))
    parameters = [story.parameter(f"q{place}", name) for place, name in enumerate(("0.weight", "2.weight"))]
    story.model("m1", "Other", parameters=parameters)
    story.names.update(q0="Other/0.weight", q1="Other/2.weight")
    inner = [{"path": "0", "training": True}, {"path": "2", "training": True}]
    story.optimizer()
    story.optimizer("o1", parameters=["q0", "q1"])
    for _ in range(4):
        calls = [story.forward(model, inner=inner) for model in ("m0", "m1")[: 1 + called]]
        story.backward(calls, touched=["p0", "p1"])
        story.stepped()
        if steps:
            story.stepped("o1", parameters=["q0", "q1"], grad=steps)
    story.ended()
    return story


def test_gradients_written_by_hand_reach():
    assert passed("gradient-flow", two_models(called=True, steps="finite"))
    found = training.outcome("gradient-flow", two_models(called=True, steps="none")).findings
    assert [(one.where, one.severity) for one in found] == [("Other/0", "error"), ("Other/2", "error")]


def test_a_call_of_another_model_is_no_call_of_this_one():
    found = training.outcome("gradient-flow", two_models(called=False, steps="none")).findings
    assert {one.severity for one in found} == {"warning"}


def test_the_next_fold_has_built_its_optimizer_and_not_begun():
    assert passed("gradient-flow", two_models(called=False, steps=None))


def longer(touched):
    story = training.Story(names=("a.weight", "b.weight", "c.weight"))
    story.optimizer()
    for number in range(6):
        story.backward([story.forward()], touched=touched[number])
        story.stepped()
        story.add("memory", graphs=1, graph_tensors=3, graph_nodes={2: 6, 4: 14, 6: 20}.get(number + 1))
    story.ended()
    return story


def test_graphs_of_layers_that_thaw_are_longer():
    thawed = [["p2"]] * 2 + [["p1", "p2"]] * 2 + [["p0", "p1", "p2"]] * 2
    assert passed("graphs-end", longer(thawed))
    assert only("graphs-end", longer([["p2"]] * 6)).where == "<losses>"


def scheduled(*, waits, other=False):
    story = training.Story()
    story.optimizer()
    story.schedule("init", waits=waits)
    if other:
        story.schedule("init", "StepLR", identity="s1")
    story.loader()
    for _ in range(2):
        epoch = story.iterate()
        for position in range(2):
            story.batch(epoch=epoch, position=position)
            story.backward([story.forward(loader=[epoch, position])])
            story.stepped()
        story.iterate(action="end", batches=2)
        if other:
            story.schedule(kind="StepLR", identity="s1")
    story.ended()
    return story


def test_a_schedule_that_begins_after_some_epochs_waits_for_its_turn():
    assert "may be counted in epochs" in vacuous("schedule-steps", scheduled(waits=True))
    assert only("schedule-steps", scheduled(waits=False)).severity == "error"
    assert passed("schedule-steps", scheduled(waits=False, other=True))


@pytest.mark.parametrize("own", [True, False])
def test_a_teacher_is_made_of_weights_that_were_trained_and_validated(own):
    """A frozen copy of a model whose last weights were validated is no average; weights put in its place are."""
    story = training.Story()
    story.model("m1", "Net", parameters=[story.parameter(f"q{n}", name) for n, name in enumerate(story.names.values())])
    story.optimizer()
    story.loader("l0")
    story.loader("l1")
    train = story.iterate("l0")
    for number in range(4):
        story.batch(epoch=train, position=number)
        story.backward([story.forward(loader=[train, number])])
        story.stepped()
        last = "same" if own and number == 3 else f"net-{number}"
        story.weights(state=last)
        kept = {name: f"{key}-same" for key, name in story.names.items()}
        story.add("copy", id="c0", of="m0", form="dict", parameters=kept, equal=0, in_optimizer=False)
    validated = story.iterate("l1")
    story.batch("l1", validated, 0)
    story.weights("eval_begin", state="same")
    story.forward(training=False, grad=False, loader=[validated, 0])
    story.ended()
    found = training.outcome("average-follows", story).findings
    assert [one.severity for one in found] == ([] if own else ["error"])


def judge(check, story, **others):
    return training.outcome(check, story, **others).findings


def test_rows_of_a_table_that_count_nothing_are_alive():
    for low, count in ((0.0, 0), (-1.0, 1)):
        story = data.Story()
        story.train([0, 1], x=data.fact("0", [0, 1], shape=(40,), min=low, row_rms=[0.0, 1.0]))
        assert len(judge("inputs-alive", story)) == count


@pytest.mark.parametrize(("again", "count"), [(True, 0), (False, 1)])
def test_samples_drawn_anew_for_each_pass_are_compared_with_the_last(again, count):
    story, probe = data.healthy(), data.Story()
    values = [0.0, 0.25, 1.0]
    probe.batch([0, 1, 2], y=data.label("1", values[1:] + values[:1]))
    if again:
        probe.batch([0, 1, 2], y=data.label("1", values), epoch="l1-i2")
    for index, value in enumerate(values):
        known = {"0": data.fact("0", [("train", index)])["samples"][0], "1": data.label("1", [value])["samples"][0]}
        probe.add("reread", dataset="d1", index=index, digests=[known, known, known], mutated=[], loader="l1")
    assert len(judge("labels-in-order", story, probe=probe)) == count


@pytest.mark.parametrize(("pool", "severity"), [(range(12), "warning"), (range(5), "error")])
def test_scores_of_all_that_trains_only_warn(pool, severity):
    """A pool that is scored, to mine from it, holds all that was drawn from it; a split that leaks does not."""
    story = data.Story()
    for step in range(6):
        call = story.forward(x=data.fact("0", [("train", step), ("train", step + 1)]))
        story.backward(call)
        story.optimize()
    story.forward(training=False, grad=False, x=data.fact("0", [("train", row) for row in pool]))
    assert [one.severity for one in judge("split-disjoint", story)] == [severity]


def saved(names, held):
    story = training.Story(names=names)
    story.optimizer()
    story.backward([story.forward()])
    story.stepped()
    tensors = {name: {"digest": "d", "dtype": "float32", "shape": [2, 2]} for name in held}
    story.add("checkpoint_write", path="a.pt", final="a.pt", tensors=tensors, scalars={}, types={})
    story.ended()
    return story


def test_pruning_made_permanent_saves_weights_under_their_own_names():
    names = [f"{place}.weight_orig" for place in range(6)] + ["6.bias"]
    whole = [name.removesuffix("_orig") for name in names]
    assert training.outcome("checkpoint-complete", saved(names, whole)).findings == ()
    assert only("checkpoint-complete", saved(names, ["6.bias"])).where == "all checkpoints"
    assert "no checkpoint" in vacuous("checkpoint-complete", saved(names, []))


def routed(turns, names=("experts.0.weight", "experts.1.weight", "experts.2.weight")):
    story = training.Story(names=names)
    story.optimizer()
    for touched in turns:
        story.backward([story.forward()], touched=touched)
        story.stepped(each={key: {"grad": "none", "grad_norm": None, "moved": False} for key in ("p1", "p2")})
    story.ended()
    return story


def test_experts_that_take_turns_may_wait_longer():
    assert passed("gradient-flow", routed([["p0"], ["p1"], ["p0"], ["p0"]]))
    assert only("gradient-flow", routed([["p0", "p1"]] * 4)).where == "experts.2"
    assert only("gradient-flow", routed([["p0", "p1"], ["p0"]] * 2)).where == "experts.2"


def held_out_between(first, held_out, then, *, new_optimizer=False):
    """Some steps on tensors, a call of evaluation, some more steps; perhaps of a new optimizer."""
    story = data.Story()

    def train(pairs):
        for rows in pairs:
            story.backward(story.forward(x=data.fact("0", [("row", row) for row in rows])))
            story.optimize()

    story.add("optimizer", id="o1", groups=[])
    train(first)
    if new_optimizer:
        story.add("optimizer", id="o2", groups=[])
        train(then)
    story.forward(training=False, grad=False, x=data.fact("0", [("row", row) for row in held_out]))
    if not new_optimizer:
        train(then)
    return len(judge("split-disjoint", story))


def test_what_was_held_out_may_train_in_the_end():
    first, later = [[0, 1], [2, 3], [4, 5]], [[6, 7], [8, 0]]
    assert held_out_between(first, [6, 7, 8], later) == 0
    assert held_out_between(first, [3, 6, 7], later) == 1
    assert held_out_between([*first, *later], [6, 7, 8], []) == 1


def test_a_fold_may_hold_out_what_another_trained_on():
    assert held_out_between([[0, 1], [2, 3]], [0, 1], [[4, 5], [6, 7]], new_optimizer=True) == 0
    assert held_out_between([[0, 1], [2, 3]], [4, 5], [[4, 5], [6, 7]], new_optimizer=True) == 1


def test_an_average_that_says_that_it_has_not_begun_is_no_stale_checkpoint():
    for begun, count in ((0, 0), (1, 1)):
        story = training.Story()
        story.optimizer()
        story.weights("first_forward", state="start", moved=())
        story.backward([story.forward()])
        story.stepped()
        story.weights(state="later")
        named = {f"module.{name}": f"{key}-start" for key, name in story.names.items()}
        tensors = {name: {"digest": digest, "dtype": "float32", "shape": [2, 2]} for name, digest in named.items()}
        number = f"{zlib.crc32(begun.to_bytes(8, 'little')):08x}"
        tensors["n_averaged"] = {"digest": number, "dtype": "int64", "shape": []}
        now = {name: f"{key}-later" for key, name in story.names.items()}
        story.add("snapshot", when="save", models={"Net": now})
        story.add("checkpoint_write", path="a.pt", final="a.pt", tensors=tensors, scalars={}, types={})
        story.ended()
        assert len(judge("checkpoint-current", story)) == count
