"""Between backward and step."""

import dataclasses

from training_traces import TARGET, Story, only, passed, trained, vacuous


def test_zero_grad_forgotten():
    story = Story()
    story.optimizer()
    for number in range(3):
        story.backward([story.forward()], before=story.ids if number else ())
        story.stepped()
    story.ended()
    found = only("gradients-cleared", story)
    assert (found.where, found.evidence["steps"]) == ("SGD", 2)
    assert passed("gradients-cleared", trained(3))


def test_what_the_generator_leaves_in_the_discriminator():
    story = Story()
    story.optimizer("o0", parameters=["p0"])
    story.optimizer("o1", parameters=["p1"])
    for _ in range(3):
        story.zero_grad("o0")
        story.backward([story.forward()], touched=["p0", "p1"], before=["p1"])
        story.stepped("o0", ["p0"])
        story.zero_grad("o1")
        story.backward([story.forward()], touched=["p0", "p1"], before=["p0"])
        story.stepped("o1", ["p1"])
    story.ended()
    assert passed("gradients-cleared", story)


def test_one_step_is_not_enough_to_tell():
    assert vacuous("gradients-cleared", trained(1)) == "no optimizer took two steps with backward calls of its own"


def test_a_step_on_the_gradients_of_the_last():
    story = Story()
    story.optimizer()
    for norm in (1.0, 2.0):
        story.zero_grad()
        story.backward([story.forward()])
        story.stepped(grad_norm=norm)
        story.stepped(grad_norm=norm)
    story.ended()
    assert only("gradients-fresh", story).evidence["steps"] == 2
    assert passed("gradients-fresh", trained(3))


def test_gradients_written_by_hand_are_new():
    story = Story()
    story.optimizer()
    for norm in (1.0, 2.0, 3.0):
        story.forward(grad=False)
        story.stepped(grad_norm=norm)
    story.ended()
    assert passed("gradients-fresh", story)


def test_gradients_zeroed_before_the_step():
    story = Story()
    story.optimizer()
    for _ in range(2):
        story.backward([story.forward()])
        story.zero_grad()
        story.stepped(grad="zero", moved=False)
    story.ended()
    assert only("gradients-arrive", story).evidence == {"steps": 2, "of": 2}
    assert passed("gradients-arrive", trained(2))


def test_a_batch_that_was_not_finite_may_be_dropped():
    story = Story()
    story.optimizer()
    story.backward([story.forward()], raw_nonfinite=["p0", "p1"])
    story.stepped(grad="none", moved=False)
    story.backward([story.forward()])
    story.stepped()
    story.ended()
    assert passed("gradients-arrive", story)


def test_gradients_of_a_part_wiped_out():
    wiped = {"p0": {"grad": "zero", "grad_norm": 0.0, "moved": False}}
    assert only("gradients-arrive", trained(3, each=wiped)).where == "encoder"
    assert passed("gradients-arrive", trained(3, each={"p0": {"grad": "none", "grad_norm": None, "moved": False}}))


def accumulating(steps=3, *, kept=True, coefficient=0.5, same=False, ratio=None):
    """Two micro-batches per step."""
    story = Story()
    story.optimizer()
    story.loader()
    epoch = story.iterate()
    place = 0
    for _ in range(steps):
        for micro in range(2):
            story.batch(epoch=epoch, position=place)
            call = story.forward(loader=[epoch, place])
            number = story.loss(source=call)
            story.backward([call], [number], coefficient=coefficient, before=story.ids if micro and kept else ())
            place += 0 if same else 1
        story.stepped(grad_norm=ratio)
        story.zero_grad()
    story.ended()
    return story


def test_accumulation():
    assert passed("gradients-accumulate", accumulating())


def test_accumulation_with_zero_grad_in_every_micro_batch():
    found = only("gradients-accumulate", accumulating(kept=False))
    assert found.message == "gradients of all but the last batch were cleared before any step used them"


def test_batches_that_are_only_measured():
    found = only("gradients-accumulate", accumulating(kept=False, coefficient=1.0))
    assert found.severity == "warning"
    target = dataclasses.replace(TARGET, accumulation=2)
    assert only("gradients-accumulate", accumulating(kept=False, coefficient=1.0), target=target).severity == "error"
    assert only("gradients-accumulate", accumulating(kept=False)).severity == "error"


def test_accumulation_without_division():
    found = only("gradients-accumulate", accumulating(coefficient=1.0))
    assert found.cause == "loss / accumulation is missing"


def test_gradients_divided_after_the_sum():
    assert passed("gradients-accumulate", accumulating(coefficient=1.0, ratio=0.5))


def test_two_backwards_on_one_batch_are_no_accumulation():
    assert "several batches" in vacuous("gradients-accumulate", accumulating(kept=False, same=True))


def test_declared_accumulation_that_never_happens():
    target = dataclasses.replace(TARGET, accumulation=2)
    assert only("gradients-accumulate", trained(3), target=target).evidence == {"declared": 2}


def clipped(order="before", limit=1.0, parameters=None, with_grad=None, steps=3):
    story = Story()
    story.optimizer()
    for _ in range(steps):
        story.zero_grad()
        story.backward([story.forward()])
        if order == "before":
            story.clip(limit, parameters=parameters, with_grad=with_grad)
        story.stepped()
        if order == "after":
            story.clip(limit)
    story.ended()
    return story


def test_clip_order():
    assert only("clip-before-step", clipped("after")).evidence == {"clips": 3}
    assert passed("clip-before-step", clipped())


def test_measuring_the_norm_is_no_clipping():
    assert "no gradient was clipped" in vacuous("clip-before-step", clipped("after", float("inf")))
    assert "no gradient was clipped" in vacuous("clip-before-step", clipped("after", 1e6))


def test_clip_without_parameters():
    assert only("clip-sees-gradients", clipped(parameters=[])).where == "clip"
    assert only("clip-sees-gradients", clipped(with_grad=0)).message == "no clipped parameter had a gradient"
    assert passed("clip-sees-gradients", clipped())


def test_clip_to_nothing():
    assert only("clip-limit", clipped(limit=1e-9)).evidence == {"limit": 1e-9, "norm": 3.0}
    assert passed("clip-limit", clipped(limit=0.01))


def empty(closure=False, forward=True):
    """A loop whose every second step has no backward before it."""
    story = Story()
    story.optimizer()
    for number in range(4):
        story.zero_grad()
        call = story.forward() if forward or number % 2 == 0 else None
        if number % 2 == 0:
            story.backward([call])
        story.stepped(grad="finite" if number % 2 == 0 else "none", closure=closure)
    story.ended()
    return story


def test_a_step_without_any_gradient():
    assert only("gradients-fresh", empty()).evidence["steps"] == 2
    assert passed("gradients-fresh", empty(closure=True))
    assert passed("gradients-fresh", empty(forward=False))


def carried(counts):
    """Steps on so many batches each, every loss divided by two."""
    story = Story()
    story.optimizer()
    story.loader()
    epoch, place = story.iterate(), 0
    for count in counts:
        for number in range(count):
            call = story.forward(loader=[epoch, place])
            place += 1
            story.backward([call], [story.loss(source=call)], before=story.ids if number else (), coefficient=0.5)
        story.stepped(grad_norm=1.0)
        story.zero_grad()
    story.ended()
    return story


def test_batches_left_over_are_carried_into_the_next_epoch():
    found = only("gradients-accumulate", carried([2, 3, 3]))
    assert found.evidence["batches"] == [2, 3, 3]
    assert passed("gradients-accumulate", carried([2, 2, 2]))
    assert passed("gradients-accumulate", carried([3, 3, 3]))
