"""What optimizers hold, and for how long."""

import dataclasses

from training_traces import TARGET, Story, module, only, outcome, passed, trained, vacuous


def loop(story, steps=3, *, held=("p0", "p1"), touched=("p0", "p1"), moved=("p0", "p1"), each=None, **options):
    """Steps of one optimizer over ``held``, gradients for ``touched``."""
    story.optimizer(parameters=held, **options)
    for _ in range(steps):
        story.backward([story.forward()], touched=touched)
        story.stepped(parameters=held, each=each)
        story.weights(moved=moved)
    story.ended()
    return story


NONE = {"grad": "none", "grad_norm": None, "moved": False}


def test_head_swapped_after_the_optimizer_was_built():
    story = loop(Story(), held=("p0", "p9"), each={"p9": NONE}, moved=("p0",))
    found = only("optimizer-holds-model", story)
    assert (found.where, found.evidence["left_out"]) == ("head", 1)
    assert outcome("optimizer-covers-model", story).status == "passed"
    assert passed("optimizer-holds-model", loop(Story()))


def test_the_optimizer_of_a_resumed_run_drives_another_model():
    resumed = loop(Story(), held=("p8", "p9"), each={"p8": NONE, "p9": NONE}, moved=())
    assert only("optimizer-holds-model", loop(Story()), resumed=resumed).where == "encoder, head"


def test_a_placeholder_in_the_optimizer():
    assert passed("optimizer-holds-model", loop(Story(), held=("p0", "p1", "p9"), each={"p9": NONE}))


def test_only_the_head_is_optimized():
    story = loop(Story(), held=("p1",), moved=("p1",))
    found = only("optimizer-covers-model", story)
    assert (found.where, found.severity) == ("encoder", "error")
    assert passed("optimizer-covers-model", loop(Story()))


def test_what_is_declared_or_moved_by_hand_may_be_left_out():
    story = loop(Story(), held=("p1",), moved=("p1",))
    assert passed("optimizer-covers-model", story, target=dataclasses.replace(TARGET, frozen=("encoder.*",)))
    assert passed("optimizer-covers-model", loop(Story(), held=("p1",)))


def test_a_whole_model_without_optimizer():
    story = Story()
    story.model("m1", "Critic", [story.parameter("p7", "weight")])
    story.forward("m1")
    story.backward([0], touched=["p7"])
    loop(story)
    found = only("optimizer-covers-model", story)
    assert (found.severity, found.where) == ("warning", "Critic/weight")


def frozen(**changes):
    story = Story(each={"encoder.weight": {"requires_grad": False}}, modules=[module("encoder"), module("head")])
    call = dict(changes)
    story.optimizer()
    if call.pop("loaded", False):
        story.add("load_state_dict", what="Net", missing=[], unexpected=[], keys=2)
    for _ in range(3):
        story.backward([story.forward(**call)], touched=["p1"])
        story.stepped(each={"p0": NONE})
        story.weights(moved=["p1"])
    story.ended()
    return story


def test_layers_left_frozen():
    assert only("optimizer-covers-model", frozen()).severity == "warning"
    assert passed("optimizer-covers-model", frozen(loaded=True))
    assert passed("optimizer-covers-model", frozen(mixed=["encoder"]))
    thawed = frozen()
    thawed.backward([thawed.forward()])
    assert passed("optimizer-covers-model", thawed)


def leaf(shape=(8, 8), n=1):
    return [{"shape": list(shape), "dtype": "float32", "n": n}]


def walked(leaves, **model):
    story = Story()
    story.events = story.events[:1]
    story.model(**model)
    story.optimizer()
    for _ in range(2):
        story.backward([story.forward()], unregistered_leaves=leaves)
        story.stepped()
    story.ended()
    return story


def test_layers_in_a_list():
    found = only("parameters-registered", walked(leaf(), unregistered=[{"path": "blocks", "count": 2}]))
    assert (found.where, found.severity) == ("blocks", "error")


def test_a_leaf_nobody_knows():
    assert only("parameters-registered", walked(leaf())).severity == "warning"
    assert passed("parameters-registered", walked(leaf((4, 2))))  # an input that requires a gradient
    assert passed("parameters-registered", walked([], unregistered=[{"path": "teacher", "count": 1}]))


def test_plain_tensors_are_the_model_where_there_is_no_module():
    story = walked(leaf())
    story.events = [event for event in story.events if event["kind"] not in {"model", "forward", "optimizer"}]
    assert passed("parameters-registered", story)


def test_constant_initialization():
    story = Story(each={"encoder.weight": {"rows_equal": True}}, modules=[module("encoder")])
    story.ended()
    assert only("units-differ", story).where == "encoder"


def test_zeros_and_depthwise_kernels_may_be_alike():
    for changes, groups in (({"zero": True}, 1), ({}, 2)):
        facts = {"encoder.weight": {"rows_equal": True, "owner": "Conv1d", **changes}}
        story = Story(each=facts, modules=[module("encoder", "Conv1d", groups=groups)])
        story.ended()
        assert passed("units-differ", story)


def rebuilt(steps, per=1, kind="torch.optim.Adam"):
    story = Story()
    for number in range(steps):
        story.optimizer(f"o{number}", kind)
        for _ in range(per):
            story.backward([story.forward()])
            story.stepped(f"o{number}")
    story.ended()
    return story


def test_an_optimizer_per_step():
    assert only("optimizer-lives-on", rebuilt(4)).where == "Adam"
    assert passed("optimizer-lives-on", rebuilt(4, kind="torch.optim.SGD"))
    assert passed("optimizer-lives-on", rebuilt(3, per=2))


def test_duplicates():
    assert only("optimizer-lists-once", loop(Story(), duplicates=["p0"])).where == "encoder"
    assert passed("optimizer-lists-once", loop(Story()))


def rated(*rates, schedule=None):
    story = Story()
    story.optimizer()
    for number, rate in enumerate(rates):
        story.backward([story.forward()])
        story.stepped(lr=rate)
        if schedule is not None and (number + 1) % schedule == 0:
            story.schedule()
    story.ended()
    return story


def test_a_rate_of_zero():
    assert only("rate-positive", rated(0.0, 0.0, 0.0)).message == "the learning rate was 0 in every step"
    assert passed("rate-positive", rated(0.0, 0.1, 0.2, schedule=1))


def test_a_warm_up_counted_in_epochs():
    found = only("rate-positive", rated(0.0, 0.0, 0.0, 0.1, schedule=3))
    assert found.evidence == {"steps_at_zero": 3, "steps": 4}


def test_strange_options():
    story = Story()
    story.optimizer(kind="torch.optim.AdamW")
    story.backward([story.forward()])
    story.stepped(weight_decay=10.0, eps=1e-8)
    story.ended()
    found = only("optimizer-options", story)
    assert (found.where, found.severity) == ("AdamW.weight_decay", "warning")
    assert passed("optimizer-options", trained(2))


def test_nothing_to_judge_without_steps():
    story = Story()
    story.ended()
    for check in ("optimizer-holds-model", "optimizer-covers-model", "rate-positive", "optimizer-options"):
        assert "no step" in vacuous(check, story)


def test_weights_tied_through_data():
    story = loop(Story())
    next(event for event in story.events if event["kind"] == "optimizer")["overlapping"] = ["p0", "p1"]
    assert only("optimizer-lists-once", story).evidence["parameters"] == 2
    assert passed("optimizer-lists-once", loop(Story()))
