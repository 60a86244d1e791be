"""What frameworks were told, token sequences, labels given to the model: planted faults and healthy neighbors."""

import pytest
import training_traces
from data_traces import Story, fact, healthy, label
from training_traces import only, passed, vacuous

from pytest_brainbrr.checks import axes, best, loaders, split, tokens, validation
from pytest_brainbrr.checks.base import Vacuous
from pytest_brainbrr.checks.feeds import feeds, telling_forms
from pytest_brainbrr.checks.labels import pairs
from pytest_brainbrr.checks.round_trip import below
from pytest_brainbrr.targets import Target

CHECKS = {check.id: check for room in (axes, best, loaders, split, tokens, validation) for check in room.CHECKS}
TARGET = Target("any", train=print)
NOTHING = {"choices": [], "limits": {}, "schedules": [], "steps": None, "epochs": None, "precision": None}


def judge(check, story):
    return [(found.where, found.severity) for found in CHECKS[check].judge({"straight": story.trace()}, TARGET)]


def declare(story, framework="lightning", **facts):
    story.add("declared", framework=framework, **{**NOTHING, **facts})
    return story


# ---------------------------------------------------------------------- which way is better


@pytest.mark.parametrize(
    ("monitor", "mode", "found"),
    [
        ("val/accuracy", "min", 1), ("val/accuracy", "max", 0), ("eval_loss", "max", 1), ("eval_loss", "min", 0),
        ("eval_wer", "max", 1),
    ],
)  # fmt: skip
def test_choice_the_wrong_way_round(monitor, mode, found):
    choice = {"what": "ModelCheckpoint", "monitor": monitor, "mode": mode}
    wrong = judge("best-is-best", declare(healthy(), choices=[choice]))
    assert wrong == [("ModelCheckpoint", "error")] * found


def test_a_number_whose_name_tells_nothing_is_not_judged():
    with pytest.raises(Vacuous):
        judge("best-is-best", declare(healthy(), choices=[{"what": "x", "monitor": "gap", "mode": "min"}]))


# ---------------------------------------------------------------------- metrics that are not computed


def test_function_of_metrics_that_is_never_called():
    for called, found in ((False, [("compute_metrics", "error")]), (True, [])):
        story = healthy()
        story.add("evaluated", metrics_given=True, metrics_called=called)
        assert judge("metric-computed", story) == found


def validated(logged, losses):
    story = Story()
    for name in ("l1", "l2"):
        story.dataset(name)
        story.loader(name, name)
    story.begin("l1")
    for number, (value, loss) in enumerate(zip(logged, losses, strict=True)):
        story.train([number, number + 4], number)
        story.begin("l2", number + 1)
        story.validate([0, 1], epoch=f"l2-i{number + 1}", value=loss)
        story.add("metric", logger="CSVLogger", values={"val_loss": value}, at=number, by="x")
    return story


def test_validation_loss_that_stays_though_the_loss_changes():
    assert judge("metric-computed", validated([0.5, 0.5], [0.5, 0.4])) == [("val_loss", "error")]
    assert judge("metric-computed", validated([0.5, 0.4], [0.5, 0.4])) == []
    assert judge("metric-computed", validated([0.5, 0.5], [0.5, 0.5])) == []
    with pytest.raises(Vacuous):
        judge("metric-computed", healthy())


# ---------------------------------------------------------------------- gathered outputs


@pytest.mark.parametrize(("axis", "found"), [(0, [("argmax", "error")]), (1, [])])
def test_argmax_over_gathered_outputs(axis, found):
    story = Story()
    batch = story.batch([0, 1])
    outputs = [fact("0", [0, 1], shape=(3,), samples=["a", "b"]), fact("0", [2, 3], shape=(3,), samples=["c", "d"])]
    for output in outputs:
        story.forward(batch, training=False, grad=False, outputs=[output])
    gathered = {"shape": [4, 3], "digest": "other", "ends": ["a", "d"], "grad_enabled": False, "by": "x"}
    story.add("choice", function="argmax", axis=axis, **gathered)
    assert judge("metric-axis", story) == found


# ---------------------------------------------------------------------- token sequences


def spoken(tokens, target, **options):
    story = Story()
    story.dataset()
    story.loader()
    batch = story.batch([0, 1])
    batch["tokens"] = tokens
    call = story.forward(batch)
    loss = story.loss(call, fact("target", [0], shape=(7,), digest=target), function="cross_entropy")
    loss |= {"options": options}
    story.backward(call, losses=[loss])
    return story


def table(*, shift=None, padding=None):
    targets = {at: {str(n): [f"{at}{n}", f"{at}{n} filled"] for n in (0, 1, 2)} for at in ("ids", "labels")}
    if shift is None:
        del targets["labels"]
    shifts = [] if shift is None else [{"of": "labels", "to": "ids", "shift": shift}]
    return {"targets": targets, "shifts": shifts, "padding": padding}


@pytest.mark.parametrize(
    ("tokens_", "target", "found"),
    [
        (table(shift=0), "labels1 filled", []),  # the model moves its labels itself
        (table(shift=1), "labels1", [("labels", "error")]),  # so did the collator
        (table(shift=1), "labels0", []),
        (table(shift=0), "labels0", [("labels", "warning")]),
        (table(), "ids1", []),  # a loop of one's own
        (table(), "ids0", [("labels", "warning")]),
    ],
)
def test_the_next_token_is_learned(tokens_, target, found):
    assert judge("next-token", spoken(tokens_, target)) == found


def test_targets_of_another_making_are_not_judged():
    for tokens_, target in ((table(shift=0), "classes"), (None, "ids1")):
        with pytest.raises(Vacuous):
            judge("next-token", spoken(tokens_, target))


@pytest.mark.parametrize(
    ("values", "options", "found"),
    [
        ([0], {}, [("labels", "warning")]),
        ([-100], {}, []),
        ([0], {"ignore_index": 0}, []),
        ([3, 4, 9], {}, []),  # labels with padding of their own: the mask is that of another sequence
    ],
)
def test_padding_is_not_learned(values, options, found):
    padding = {"places": 5, "values": values, "elements": 14}
    assert judge("padding-ignored", spoken(table(shift=0, padding=padding), "x", **options)) == found


# ---------------------------------------------------------------------- limits that were asked for


def repeated(**limits):
    story = Story()
    story.dataset()
    story.loader()
    declare(story, limits=limits)
    for number in range(1, 5):
        story.train([3, 7], epoch=story.begin(number=number))
    return story


@pytest.mark.parametrize(
    ("limits", "found"),
    [
        ({"overfit_batches": 0.0, "limit_train_batches": 1.0}, [("training loop", "error")]),
        ({"overfit_batches": 1, "limit_train_batches": 1}, []),
        ({"overfit_batches": 0.0, "limit_train_batches": 1}, []),
    ],
)
def test_one_batch_on_purpose(limits, found):
    assert judge("batches-advance", repeated(**limits)) == found


# ---------------------------------------------------------------------- labels given to the model


def told(name, target):
    story = Story()
    story.dataset()
    story.loader()
    x, y = fact("signal", [0, 1]), label(name, [0, 1], digest="y")
    batch = story.batch([0, 1], tensors=[x, y])
    call = next(story.calls)
    loss = story.loss({"call": call, "outputs": [fact("0", [0, 1], shape=())]}, label("t", [0, 1], digest=target))
    loss |= {"inside": "", "input_from": call}
    forward = story.forward(batch)
    forward |= {"call": call, "inputs": [dict(x, at="signal"), dict(y, at=name)]}
    story.backward(forward, losses=[loss])
    return story.trace()


@pytest.mark.parametrize(("name", "target", "is_label"), [("labels", "z", 1), ("mask", "y", 1), ("mask", "z", 0)])
def test_labels_given_to_the_model_are_no_signal(name, target, is_label):
    trace = told(name, target)
    (feed,) = feeds(trace)
    assert [given["at"] for given in feed.inputs] == ["signal", name][: 2 - is_label]
    assert [part["at"] for part in feed.labels] == [name] * is_label
    assert len(list(pairs(trace))) == (is_label and target == "y") + (name == "labels")


def test_numbers_among_the_inputs_tell_no_sample_apart():
    assert telling_forms({"shape": [], "dtype": "float32", "forms": None}) == {}


def test_only_input_is_never_taken_for_a_label():
    story = healthy()
    (call,) = [event for event in story.events if event["kind"] == "forward"][:1]
    call["inputs"][0]["at"] = "targets"
    assert feeds(story.trace())[0].inputs


# ---------------------------------------------------------------------- schedule, precision, parameters, buffers


def scheduled(interval, planned):
    story = training_traces.Story()
    story.optimizer()
    story.schedule("init", "OneCycleLR")
    plan = {"class": "OneCycleLR", "interval": interval, "planned": planned}
    story.add("declared", framework="lightning", **{**NOTHING, "schedules": [plan], "steps": 60, "epochs": 10})
    for number in range(4):
        story.backward([story.forward()])
        story.stepped()
        story.schedule("step", "OneCycleLR", last_epoch=number + 1)
    story.ended()
    return story


def test_schedule_planned_in_steps_and_stepped_by_epoch():
    assert only("schedule-pace", scheduled("epoch", 60)).where == "OneCycleLR"
    assert passed("schedule-pace", scheduled("step", 60))
    assert passed("schedule-pace", scheduled("epoch", 10))


def fabric(precision, kind):
    story = training_traces.Story()
    story.add("declared", framework="fabric", **{**NOTHING, "precision": precision})
    story.optimizer()
    call = story.forward()
    story.events[-1]["class"] = kind
    story.backward([call])
    story.stepped()
    story.ended()
    return story


def test_fabric_passed_by():
    assert only("autocast-on", fabric("bf16-mixed", "Net")).where == "model"
    assert passed("autocast-on", fabric("bf16-mixed", "_FabricModule"))
    assert vacuous("autocast-on", fabric("32-true", "Net"))


def frozen(back_at=None, validated=True):
    story = training_traces.Story()
    story.optimizer()
    for number in range(6):
        if number == 3 and validated:
            story.weights("eval_begin")
        rests = number >= 3 and (back_at is None or number < back_at)
        story.backward([story.forward()], touched=["p1"] if rests else None)
        story.stepped(each={"p0": {"grad": "none"}} if rests else None)
        story.weights()
    story.ended()
    return story


def test_parameters_that_learn_until_a_validation():
    found = only("weight-changes", frozen())
    assert (found.where, found.severity) == ("encoder", "warning")
    assert passed("weight-changes", frozen(back_at=5))
    assert passed("weight-changes", frozen(validated=False))


def test_buffers_below_a_module_that_was_called():
    assert below("net.norm.running_mean", ("net",))
    assert below("running_mean", ("",))
    assert not below("network.mean", ("net",))


@pytest.mark.parametrize(("held_out", "found"), [(("a", "b"), [("validation data", "error")]), (("c", "d"), [])])
def test_padded_sequences_in_both_splits(held_out, found):
    story = Story()
    for name in ("l1", "l2"):
        story.dataset(name)
        story.loader(name, name)
    tokens_ = fact("ids", [0, 1], shape=(20,), dtype="int64", samples=["p", "q"])
    story.train([0, 1], epoch=story.begin("l1"), x=tokens_)["tokens"] = {"rows": ["a", "b"]}
    story.train([2, 3], 1, x=tokens_)["tokens"] = {"rows": ["e", "f"]}
    wider = fact("ids", [0, 1], shape=(25,), dtype="int64", samples=["r", "s"])
    batch = story.batch([0, 1], loader="l2", epoch=story.begin("l2"), x=wider)
    batch["tokens"] = {"rows": list(held_out)}
    story.forward(batch, training=False, grad=False)
    assert judge("split-disjoint", story) == found
