"""Rates and other options of optimizers."""

import pytest
from training_traces import Story, only, passed, trained


def stepped(rates=(0.1,) * 6, kind="torch.optim.AdamW", **options):
    story = Story()
    story.optimizer(kind=kind)
    for rate in rates:
        story.backward([story.forward()])
        story.stepped(lr=rate, **options)
    story.ended()
    return story


def test_a_schedule_that_ends_long_before_training():
    found = only("rate-positive", stepped((0.1, 0.05, 0.0, 0.0, 0.0, 0.0)))
    assert (found.severity, found.evidence["steps_at_zero"]) == ("warning", 4)
    assert passed("rate-positive", stepped((0.1, 0.1, 0.1, 0.05, 0.0, 0.0)))


def test_a_warm_up_that_never_ends():
    found = only("rate-positive", stepped([1e-10 * step for step in range(1, 7)]))
    assert (found.severity, found.where) == ("warning", "AdamW")
    assert passed("rate-positive", stepped([1e-7 * step for step in range(1, 7)]))
    assert passed("rate-positive", stepped([1e-10] * 6, kind="torch.optim.SGD"))


@pytest.mark.parametrize(
    ("option", "kind", "strange", "usual"),
    [
        ("betas", "torch.optim.Adam", [0.999, 0.9], [0.9, 0.8]),
        ("lr", "torch.optim.SGD", 50, 5.0),
        ("lr", "torch.optim.Adam", 1, 0.1),
    ],
)
def test_numbers_that_do_not_train(option, kind, strange, usual):
    def run(value):
        return stepped((value,) * 3, kind) if option == "lr" else stepped((0.1,) * 3, kind, **{option: value})

    assert only("optimizer-options", run(strange)).where == f"{kind.rpartition('.')[2]}.{option}"
    assert passed("optimizer-options", run(usual))


def decayed(matrices, vectors, **matrix):
    story = Story(("body.weight", "body.bias"), each={"body.bias": {"shape": [2]}, "body.weight": matrix})
    story.optimizer()
    story.backward([story.forward()])
    story.stepped(each={"p1": {"group": 1}})
    story.events[-1]["groups"] = [{"lr": 0.1, "weight_decay": matrices}, {"lr": 0.1, "weight_decay": vectors}]
    story.ended()
    return story


def test_decay_on_vectors_only():
    assert only("optimizer-options", decayed(0.0, 0.1)).where == "SGD.weight_decay"
    assert passed("optimizer-options", decayed(0.1, 0.0))
    assert passed("optimizer-options", decayed(0.1, 0.1))


def test_decay_on_what_is_marked_to_be_left_out():
    found = only("optimizer-options", decayed(0.1, 0.0, no_decay=True))
    assert found.evidence == {"parameters": 1, "marked": 1}
    assert passed("optimizer-options", decayed(0.1, 0.1, no_decay=True))  # nobody made groups for it
    assert passed("optimizer-options", decayed(0.1, 0.0))


def test_plain_training():
    assert passed("rate-positive", trained(4))
    assert passed("optimizer-options", trained(4))
