"""Weights initialized a second time, hooks that pile up, state dicts kept without a copy."""

import pytest
from training_traces import Story, only, outcome, passed, vacuous


def again(*, loaded=False, optimizers=("o0",) * 4):
    """Four steps, with an initialization of the head in the middle."""
    story = Story()
    for identity in dict.fromkeys(optimizers):
        story.optimizer(identity)
    for number, identity in enumerate(optimizers):
        if number == 2:
            story.add("initialized", function="normal_", parameter="p1", by="trainer")
            if loaded:
                story.add("load_state_dict", what="Net", missing=[], unexpected=[], keys=2)
        story.backward([story.forward()])
        story.stepped(identity)
    story.ended()
    return story


def test_trained_weights_are_initialized_again():
    assert only("initialized-once", again()).where == "head"
    assert passed("initialized-once", again(loaded=True))
    assert passed("initialized-once", again(optimizers=("o0", "o0", "o1", "o1")))


def hooked(counts):
    story = Story()
    story.optimizer()
    for count in counts:
        story.backward([story.forward()])
        story.stepped()
        story.add("memory", graphs=1, graph_tensors=None, hooks=count)
    story.ended()
    return story


def test_a_hook_more_with_every_step():
    assert only("graphs-end", hooked([1, 2, 3, 4, 5])).where == "<hooks>"
    assert passed("graphs-end", hooked([1, 2, 2, 2, 2]))


def kept(path="model/w", name="best.pt", step=2):
    """A checkpoint after four steps, of a state dict taken after ``step``."""
    story = Story()
    story.optimizer()
    for _ in range(4):
        story.backward([story.forward()])
        story.stepped()
    fact = {"shape": [1], "dtype": "float32", "digest": "x"}
    story.add("checkpoint_write", path=name, tensors={path: fact}, scalars={}, types={}, taken={path: step})
    story.ended()
    return story


@pytest.mark.parametrize("where", [{}, {"path": "best_weights/w", "name": "result.pt"}])
def test_the_best_weights_are_an_alias(where):
    found = only("best-is-validated", kept(**where))
    assert found.evidence == {"taken_after_step": 2, "saved_after_step": 4}
    assert vacuous("best-is-validated", kept(**where, step=4))
    assert vacuous("best-is-validated", kept(**where, step=0))


def test_an_alias_that_is_not_called_best():
    assert vacuous("best-is-validated", kept(name="last.pt"))


def restored(own):
    story = kept(step=4)
    story.events.pop()
    story.add("load_state_dict", what="Net", missing=[], unexpected=[], keys=2, own=own)
    story.ended()
    return story


def test_restoring_weights_that_were_never_copied():
    assert only("best-is-validated", restored(2)).where == "Net"
    assert outcome("best-is-validated", restored(None)).status == "vacuous"
    assert outcome("best-is-validated", restored(4)).status == "vacuous"
