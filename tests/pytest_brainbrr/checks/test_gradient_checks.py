"""Gradients that are returned instead of accumulated, free offsets, batch counters of several models."""

from training_traces import Story, module, only, outcome, passed, vacuous

from pytest_brainbrr.targets import Target

NONE = {"grad": "none", "grad_norm": None}


def returned(*, optimizer=False, moved=("p0", "p1"), each=None, function="grad"):
    """A loop whose gradients torch.autograd.grad returns; weights move by hand unless an optimizer steps."""
    story = Story()
    if optimizer:
        story.optimizer()
    story.weights("first_forward", moved=())
    for _ in range(3):
        inner = [{"path": "encoder", "training": True}, {"path": "head", "training": True}]
        story.backward([story.forward(inner=inner)], touched=[], function=function)
        if optimizer:
            story.stepped(each=each)
    story.weights("end", moved=moved)
    story.ended()
    return story


def test_weights_moved_by_hand_have_had_gradients():
    assert passed("gradient-flow", returned())
    assert only("gradient-flow", returned(moved=["p1"])).where == "encoder"


def test_gradients_used_out_of_sight():
    assert "out of sight" in vacuous("gradient-flow", returned(moved=()))


def test_returned_gradients_written_for_an_optimizer():
    assert passed("gradient-flow", returned(optimizer=True))
    assert passed(
        "gradient-flow", returned(optimizer=True, each={"p0": NONE})
    )  # an optimizer with gradients of its own
    decayed = {"grad": "zero", "grad_norm": 0.0}
    assert only("gradient-flow", returned(optimizer=True, each={"p0": decayed})).where == "encoder"


def test_a_detached_loss_is_not_excused():
    still = {"p0": {**NONE, "moved": False}, "p1": {**NONE, "moved": False}}
    for function in ("grad", "backward"):
        found = outcome("gradient-flow", returned(optimizer=True, moved=(), each=still, function=function)).findings
        assert [(one.where, one.severity) for one in found] == [("encoder", "error"), ("head", "error")]


def fitted(*, derivative=True, touched=("p0",), names=("head.weight", "head.bias")):
    story = Story(names=names)
    story.optimizer()
    for _ in range(3):
        call = story.forward(inner=[{"path": "head", "training": True}])
        if derivative:
            story.backward([call], touched=[], function="grad", create_graph=True)
        story.backward([call], touched=touched)
        story.stepped(each={"p1": {**NONE, "moved": False}})
    story.ended()
    return story


def test_an_offset_that_derivatives_do_not_see():
    assert passed("gradient-flow", fitted())
    assert only("gradient-flow", fitted(derivative=False)).where == "head.bias"
    assert only("gradient-flow", fitted(names=("head.weight", "head.scale"))).where == "head.scale"


def test_an_offset_that_differences_do_not_see():
    def story(names=("head.weight", "head.bias"), zero=("p1",)):
        told = Story(names=names)
        told.optimizer()
        for _ in range(3):
            told.backward([told.forward()], raw_zero=list(zero))
            told.stepped()
            told.weights(moved=["p0"])
        told.ended()
        return told

    assert passed("gradient-flow", story())
    assert only("gradient-flow", story(names=("head.weight", "gate.bias"))).where == "gate"
    assert only("gradient-flow", story(zero=("p0",))).where == "head.weight"


def counted(awake, *, looks=3):
    """Two models with a batch counter each that never counts; only those in ``awake`` train in training mode."""
    layer = [module("norm", "BatchNorm1d")]
    story = Story(modules=layer, buffers=[{"id": "b0", "name": "norm.num_batches_tracked"}])
    story.model(
        "m1",
        "Twin",
        [story.parameter("q0", "norm.weight")],
        layer,
        [{"id": "b1", "name": "norm.num_batches_tracked"}],
    )
    story.optimizer()
    for number in range(3):
        for model, ids in (("m0", story.ids), ("m1", ["q0"])):
            if number < looks or model == "m0":
                story.weights("step", model, ids=ids)
        for model in ("m0", "m1"):
            inner = [{"path": "norm", "training": model in awake}]
            story.backward([story.forward(model, training=model in awake, inner=inner)], touched=["p0", "p1"])
        story.stepped()
    story.ended()
    return [finding.where for finding in outcome("weight-changes", story).findings]


def test_counters_are_those_of_the_model_that_was_called():
    assert counted({"m0"}) == ["Net/norm"]
    assert counted({"m1"}) == ["Twin/norm"]
    assert counted({"m0", "m1"}) == ["Net/norm", "Twin/norm"]
    assert counted(set()) == []


def test_counters_seen_once_are_not_judged():
    assert counted({"m1"}, looks=1) == []


def fed(*stretches, between=True):
    """A layer of which these stretches of inputs were zero, call by call, with steps between or not."""
    story = Story()
    story.optimizer()
    for dead in stretches:
        inner = [{"path": "encoder", "training": True, "dead": dead}, {"path": "head", "training": True}]
        story.backward([story.forward(inner=inner)])
        if between:
            story.stepped()
    story.stepped()
    story.ended()
    return story


def test_inputs_that_are_always_zero():
    found = only("gradient-flow", fed([8, 16, 16], [8, 16, 16]))
    assert (found.where, found.severity) == ("encoder", "warning")
    assert found.evidence == {"inputs": 16, "zero": 8, "from": 8}


def test_inputs_that_begin_at_zero():
    assert passed("gradient-flow", fed([8, 16, 16], None))
    assert passed("gradient-flow", fed([8, 16, 16], [8, 16, 16], between=False))


def frozen_encoder(*, held=False):
    """A loop whose encoder needs no gradient, in the optimizer or not."""
    story = Story(each={"encoder.weight": {"requires_grad": False}})
    story.optimizer(parameters=["p0", "p1"] if held else ["p1"])
    story.weights("first_forward", moved=())
    for _ in range(3):
        story.backward([story.forward()], touched=["p1"])
        story.stepped(parameters=["p1"])
    story.weights("end", moved=["p1"])
    story.ended()
    return story


def test_what_is_declared_to_learn_may_not_be_frozen():
    def target(**facts):
        return Target("any", train=print, **facts)

    for held in (False, True):
        story = frozen_encoder(held=held)
        assert only("weight-changes", story, target=target(trained=["*"])).where == "encoder"
        assert passed("weight-changes", story)
        assert passed("weight-changes", story, target=target(trained=["head.*"]))
        assert passed("weight-changes", story, target=target(trained=["*"], frozen=["encoder.*"]))
