"""Training mode, evaluation mode, and what validation may not do."""

from training_traces import Story, module, only, passed, trained, vacuous, validating, zeros

DROPOUT = module("drop", "Dropout", (), p=0.1)
NORM = module("norm", "BatchNorm1d", ("weight", "running_mean"), momentum=0.1, track_running_stats=True)
MEAN = {
    "id": "b0",
    "name": "norm.running_mean",
    "shape": [4],
    "dtype": "float32",
    "device": "cpu",
    "digest": zeros(4),
    "persistent": True,
}


def test_left_in_evaluation_mode():
    found = only("training-mode", validating(modules=[DROPOUT], after={"training": False}))
    assert (found.where, found.cause) == ("Net", "model.train() is missing after model.eval()")
    assert passed("training-mode", validating(modules=[DROPOUT]))


def always(training, modules, **changes):
    story = Story(modules=modules, **changes)
    story.optimizer()
    for _ in range(3):
        story.backward([story.forward(training=training)])
        story.stepped()
    story.ended()
    return story


def test_never_in_training_mode():
    assert only("training-mode", always(False, [DROPOUT])).evidence["modules"] == ["Dropout"]


def test_resting_on_purpose():
    frozen = {"encoder.weight": {"requires_grad": False}}
    assert passed("training-mode", always(False, [DROPOUT], each=frozen))
    assert passed("training-mode", always(False, [NORM], buffers=[{**MEAN, "digest": "loaded"}]))
    assert passed("training-mode", always(False, []))


def test_the_discriminator_may_be_evaluated_for_the_generator():
    story = Story()
    story.optimizer("o0", parameters=["p0"])
    story.model("m1", "Critic", [story.parameter("p7", "weight")], modules=[DROPOUT])
    for _ in range(3):
        first, second = story.forward(), story.forward("m1", training=False)
        story.backward([first, second], touched=["p0", "p7"])
        story.stepped("o0", ["p0"])
    story.ended()
    assert passed("training-mode", story)


def test_a_part_left_in_evaluation_mode():
    modules = [module("encoder"), module("encoder.norm", "BatchNorm1d")]
    found = only("training-mode", validating(modules=modules, after={"mixed": ["encoder"]}))
    assert found.where == "Net: encoder"
    resting = Story(modules=modules)
    resting.optimizer()
    for _ in range(3):
        resting.backward([resting.forward(mixed=["encoder"])])
        resting.stepped()
    resting.ended()
    assert passed("training-mode", resting)


def test_validation_in_training_mode():
    found = only("evaluation-mode", validating(modules=[DROPOUT, NORM], training=True))
    assert found.evidence["modules"] == ["BatchNorm1d", "Dropout"]
    assert passed("evaluation-mode", validating(modules=[DROPOUT, NORM]))


def test_dropout_left_on_on_purpose():
    assert passed("evaluation-mode", validating(modules=[DROPOUT], mixed=["drop"]))
    assert only("evaluation-mode", validating(modules=[NORM], mixed=["norm"])).where == "Net"


def test_a_teacher_on_training_batches_is_no_validation():
    story = Story(modules=[DROPOUT])
    story.optimizer()
    story.loader()
    epoch = story.iterate()
    for number in range(3):
        story.batch(epoch=epoch, position=number)
        story.forward(grad=False, loader=[epoch, number])
        story.backward([story.forward(loader=[epoch, number])])
        story.stepped()
    story.ended()
    assert "no validation was seen" in vacuous("evaluation-mode", story)


def test_graphs_in_validation():
    assert only("validation-without-graphs", validating(grad=True)).where == "Net"
    assert passed("validation-without-graphs", validating())


def test_a_graph_that_validation_uses():
    story = validating(grad=True, during=lambda story, call: story.backward([call], function="grad", touched=[]))
    assert "no validation was seen" in vacuous("validation-without-graphs", story)


def test_steps_in_validation():
    def step(story, call):
        story.backward([story.forward(training=False, loader=[f"i{story.numbers['epoch']}", 0])])
        story.stepped()

    assert only("validation-is-passive", validating(during=step)).where == "Net"
    assert passed("validation-is-passive", validating())


def normalized(digest, training=True):
    inner = [{"path": "norm", "class": "BatchNorm1d", "mean": 0.0}]
    story = Story(modules=[NORM], buffers=[MEAN])
    story.optimizer()
    for _ in range(3):
        story.backward([story.forward(inner=inner, mixed=[] if training else ["norm"])])
        story.stepped()
        story.weights(buffers={"b0": digest})
    story.ended()
    return story


def test_statistics_that_never_move():
    assert only("statistics-move", normalized(zeros(4))).where == "norm"
    assert passed("statistics-move", normalized("moved"))
    assert "no normalization layer" in vacuous("statistics-move", normalized(zeros(4), training=False))


def test_statistics_estimated_afresh():
    story = normalized("moved")
    story.weights("eval_begin", buffers={"b0": zeros(4)})
    assert passed("statistics-move", story)


def renewing(*, trained_on=True):
    """Training by hand, and a pass over a loader in training mode without gradients, before one in evaluation mode."""
    story = Story(modules=[NORM], buffers=[{**MEAN, "digest": "x"}])

    def call(samples, **changes):
        number = story.forward(samples=list(samples), **changes)
        story.events[-1]["inputs"][0]["shape"] = [len(samples), 9]
        return number

    story.optimizer()
    for _ in range(3):
        story.backward([call("abcd")])
        story.stepped()
        for name, samples, training in (("l1", "abcd" if trained_on else "efgh", True), ("l2", "tuvw", False)):
            own = story.iterate(name)
            story.batch(name, own, 0)
            call(samples, loader=[own, 0], training=training, grad=False)
            story.iterate(name, "end", 1)
    story.ended()
    return story


def test_statistics_renewed_on_training_data_are_no_validation():
    assert passed("evaluation-mode", renewing())
    assert only("evaluation-mode", renewing(trained_on=False)).where == "Net"


def by_hand(*, scored=True, again=True, training=True, fresh=True):
    """A validation on a tensor that no loader delivers, at every step."""
    story = Story(modules=[NORM], buffers=[{**MEAN, "digest": "x"}])

    def call(samples, **changes):
        number = story.forward(samples=list(samples), digest="".join(samples), **changes)
        story.events[-1]["inputs"][0]["shape"] = [len(samples), 9]
        return number

    story.optimizer()
    for step in range(3):
        story.backward([call("abcd")])
        story.stepped()
        name = "tuvw" if fresh else "abcd"
        seen = call(
            [f"{letter}{0 if again else step}" if fresh else letter for letter in name], training=training, grad=False
        )
        if scored:
            story.loss(source=seen, grad_enabled=False)
    story.ended()
    return story


def test_equal_inputs_that_are_scored_at_several_steps_are_validation():
    assert only("evaluation-mode", by_hand()).severity == "error"
    assert passed("evaluation-mode", by_hand(training=False))
    assert only("evaluation-mode", by_hand(again=False)).severity == "warning"
    for doubt in ({"scored": False}, {"fresh": False}):
        assert "no validation was seen" in vacuous("evaluation-mode", by_hand(**doubt))


def test_without_loaders_there_is_no_validation_to_judge():
    for check in ("evaluation-mode", "validation-without-graphs", "validation-is-passive"):
        assert "validation" in vacuous(check, trained(3))


def scored(training=False, grad=False, steps=4):
    """A loop without loaders that measures a loss after each step."""
    story = Story(modules=[module("drop", "Dropout", (), p=0.1)])
    story.optimizer()
    for _ in range(steps):
        call = story.forward()
        story.backward([call], [story.loss(source=call)])
        story.stepped()
        call = story.forward(training=training, grad=grad)
        story.loss(source=call, grad_enabled=grad)
    story.ended()
    return story


def test_validation_without_a_loader():
    assert only("evaluation-mode", scored(training=True)).severity == "warning"
    assert only("validation-without-graphs", scored(grad=True)).severity == "warning"
    assert "no validation" in vacuous("evaluation-mode", scored())
    assert "no validation" in vacuous("validation-without-graphs", scored())


def normalizing(momentum):
    story = Story(modules=[module("norm", "BatchNorm1d", momentum=momentum, track_running_stats=True)])
    story.optimizer()
    for _ in range(3):
        story.backward([story.forward()])
        story.stepped()
    story.ended()
    return story


def test_statistics_of_the_last_batch():
    assert only("statistics-move", normalizing(0.99)).evidence["momentum"] == 0.99
    assert vacuous("statistics-move", normalizing(0.1))
