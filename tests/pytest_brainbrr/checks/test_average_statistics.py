"""Running statistics of averaged weights."""

from training_traces import Story, module, only, passed, vacuous, zeros

NORM = module("norm", "BatchNorm1d", ("weight", "running_mean"), momentum=0.1, track_running_stats=True)


def mean(identity):
    return {"id": identity, "name": "norm.running_mean", "shape": [4], "dtype": "float32", "digest": zeros(4)}


def teaching(*, copied=False, moves=True, training=False):
    """A student, and a teacher of the same shape that is called beside it."""
    story = Story(modules=[NORM], buffers=[mean("b0")])
    story.optimizer()
    twin = [story.parameter("p7", "encoder.weight"), story.parameter("p8", "head.weight")]
    story.model("m1", "Net-2", twin, modules=[NORM], buffers=[mean("b1")])
    for number in range(4):
        story.backward([story.forward()])
        story.forward("m1", training=training, grad=False)
        story.stepped()
        story.weights(buffers={"b0": f"mean-{number}"})
        own = f"mean-{number}" if copied else zeros(4)
        story.weights(model="m1", ids=["p7", "p8"], state=number if moves else 0, buffers={"b1": own})
    story.ended()
    return story


def test_buffers_that_nobody_copies():
    assert only("average-statistics", teaching()).evidence["layers"] == 1
    assert passed("average-statistics", teaching(copied=True))


def test_networks_that_rest_or_measure_their_own():
    assert vacuous("average-statistics", teaching(moves=False))
    assert vacuous("average-statistics", teaching(training=True))
