"""Averaged weights, live graphs, configuration."""

import pytest
from training_traces import Story, module, only, passed, trained, vacuous


def averaged(*, moves=True, swapped_out=True, validated=True, lags=False, steps=4, looked_at=True):
    """A loop with an average that validation is run on, swapped in and out."""
    story = Story()
    story.optimizer()
    story.loader("l0")
    story.loader("l1")
    train = story.iterate("l0")
    average, left = "avg-0", None
    for number in range(steps):
        story.batch(epoch=train, position=number)
        call = story.forward(loader=[train, number])
        if left is not None:
            story.weights("eval_end", state=left, moved=())
        story.backward([call])
        story.stepped()
        story.weights(state=f"net-{number}")
        # Copies are recorded right after the step, before the trainer's own code goes on.
        recorded, average = average, f"avg-{number + 1}" if moves else "avg-0"
        recorded = average if lags else recorded
        named = {name: f"{key}-{recorded}" for key, name in story.names.items()}
        story.add(
            "copy",
            id="c0",
            of="m0",
            form="dict",
            parameters=named,
            equal=0,
            decay=0.9,
            in_optimizer=False,
            updates=None,
        )
        left = None
        if validated:
            own = story.iterate("l1")
            story.batch("l1", own, 0)
            if looked_at:
                story.weights("eval_begin", state=average)
            story.forward(training=False, grad=False, loader=[own, 0])
            left = f"net-{number}" if swapped_out else average
    story.ended()
    return story


def test_an_average_that_never_moves():
    assert only("average-follows", averaged(moves=False)).where == "averaged weights"
    assert passed("average-follows", averaged())


def test_an_average_that_lags_behind_by_a_step():
    found = only("average-follows", averaged(lags=True))
    assert (found.where, found.severity) == ("averaged weights", "warning")
    assert passed("average-follows", averaged(lags=True, validated=False))
    # Weights last seen at the step say nothing of those that validate: a teacher is called all the time.
    assert passed("average-follows", averaged(lags=True, looked_at=False))


def test_a_copy_at_rest_that_nobody_validates():
    assert passed("average-follows", averaged(moves=False, validated=False))
    assert vacuous("average-follows", trained(3)) == "no copy of the model's weights was seen"


def test_training_goes_on_with_the_average():
    assert only("average-swapped-out", averaged(swapped_out=False)).where == "Net"
    assert passed("average-swapped-out", averaged())
    assert "no training went on" in vacuous("average-swapped-out", trained(3))


def test_the_best_weights_so_far_come_back():
    story = averaged(swapped_out=False)
    for event in story.events:
        if event["kind"] == "weights" and event["when"] == "step" and event["step"] == 1:
            earlier = event["parameters"]
    for event in story.events:
        if event["kind"] == "weights" and event["when"] == "eval_end":
            event["parameters"] = earlier
        if event["kind"] == "copy":
            event["parameters"] = {story.names[key]: digest for key, digest in earlier.items()}
    assert passed("average-swapped-out", story)


def saved(average):
    story = trained(3, end=False)
    tensors = {}
    for name in ("a", "b"):
        tensors[f"model/{name}"] = {"shape": [2], "dtype": "float32", "digest": f"now-{name}"}
        tensors[f"ema/{name}"] = {"shape": [2], "dtype": "float32", "digest": f"{average}-{name}"}
    story.add("checkpoint_write", path="last.pt", tensors=tensors, scalars={}, types={}, writer="torch.save")
    story.ended()
    return story


def test_an_average_that_is_the_model():
    found = only("average-differs", saved("now"))
    assert (found.severity, found.where) == ("warning", "ema")
    assert passed("average-differs", saved("older"))


def written(story, during):
    """Validation, and what the weights are when training goes on."""
    story.optimizer()
    story.loader("l0")
    story.loader("l1")
    train, own = story.iterate("l0"), None
    for number in range(3):
        story.batch(epoch=train, position=number)
        call = story.forward(loader=[train, number])
        if own is not None:
            story.weights("eval_end", state=during if number == 1 else f"net-{number - 1}", moved=())
        story.backward([call])
        story.stepped()
        story.weights(state=f"net-{number}")
        own = story.iterate("l1")
        story.batch("l1", own, 0)
        story.weights("eval_begin", state=f"net-{number}")
        story.forward(training=False, grad=False, loader=[own, 0])
    story.ended()
    return story


def test_weights_written_during_validation():
    assert only("validation-keeps-weights", written(Story(), "noise")).severity == "warning"
    assert passed("validation-keeps-weights", written(Story(), "net-0"))


def remembered(graphs=None, census=None, nodes=None, histories=None, steps=6, twice=(), **backward):
    story = Story()
    for number in range(steps):
        for _ in range(2 if number in twice else 1):
            story.backward([], [], **backward)
        story.step = number + 1
        story.add(
            "memory",
            graphs=graphs[number] if graphs else 1,
            graph_tensors=census[number] if census else None,
            graph_nodes=nodes[number] if nodes else None,
            histories=histories[number] if histories else None,
        )
    story.ended()
    return story


@pytest.mark.parametrize(
    ("facts", "where"),
    [
        ({"graphs": [1, 2, 3, 4, 5, 6]}, "<losses>"),
        ({"census": [None, 9, None, 18, None, 27]}, "<activations>"),
        ({"nodes": [None, 20, None, 40, None, 60]}, "<losses>"),
        ({"histories": [1, 2, 3, 4, 1, 2]}, "<losses>"),
        ({"histories": [1, 2, 1, 2, 1, 2]}, "<losses>"),
    ],
)
def test_graphs_that_pile_up(facts, where):
    assert only("graphs-end", remembered(**facts)).where == where


@pytest.mark.parametrize(
    "facts",
    [
        {"graphs": [1, 2, 2, 3, 3, 4]},
        {"census": [None, 9, None, 12, None, 9]},
        {"nodes": [None, 6, None, 21, None, 21]},
        {"histories": [1, 1, 1, 1, 1, 1]},
        {"histories": [1, 2, 2, 2, 2, 2]},
        {"histories": [1, 2, 1, 2, 1, 2], "twice": (1, 3, 5)},
        {"histories": [1, 2, 3, 1, 2, 3], "retain_graph": True},
    ],
)
def test_graphs_that_come_and_go(facts):
    assert passed("graphs-end", remembered(**facts))


def configured(argv=(), scalars=None, kind="torch.optim.Adam", modules=(), **options):
    story = Story(argv=argv, modules=modules)
    story.optimizer(kind=kind, **options)
    story.backward([story.forward()])
    story.stepped(**options)
    if scalars is not None:
        tensors = {"model/w": {"shape": [1], "dtype": "float32", "digest": "x"}}
        story.add("checkpoint_write", path="last.pt", tensors=tensors, scalars=scalars, types={}, writer="torch.save")
    story.ended()
    return story


def test_a_rate_that_never_reached_the_optimizer():
    found = only("configuration-echo", configured(["--lr", "0.02"], lr=1e-3))
    assert (found.severity, found.where, found.evidence["configured"]) == ("error", "learning rate", 0.02)
    found = only("configuration-echo", configured(scalars={"config/optimizer/lr": 0.02}, lr=1e-3))
    assert found.severity == "error"


def test_a_rate_in_force_or_scaled():
    assert passed("configuration-echo", configured(["--lr=0.02"], lr=0.02))
    assert only("configuration-echo", configured(["--lr=0.02"], lr=0.16)).severity == "warning"
    assert "no configuration was seen" in vacuous("configuration-echo", configured(["--epochs", "3"], lr=0.02))


def test_dropout_that_is_not_passed_on():
    layer = [module("drop", "Dropout", (), p=0.5)]
    assert only("configuration-echo", configured(["--dropout", "0.1"], modules=layer)).where == "dropout"
    assert passed("configuration-echo", configured(["--dropout", "0.5"], modules=layer))


def test_weight_decay_that_is_not_passed_on():
    found = only("configuration-echo", configured(["--weight-decay", "0.05"], weight_decay=0.0))
    assert (found.severity, found.where) == ("warning", "weight_decay")
    assert passed("configuration-echo", configured(["--weight-decay", "0.05"], weight_decay=0.05))
