"""Losses: shapes, kinds, signs, graphs."""

import pytest
from training_traces import Story, fact, only, outcome, passed, trained, vacuous


def losses(story=None, steps=3, *, coefficient=1.0, sign=1.0, options=None, reached=True, other=0.0, back=None, **loss):
    """A loop whose loss calls have the given facts; the root is ``coefficient`` times the loss plus ``other``."""
    story = story or Story()
    story.optimizer()
    for _ in range(steps):
        call = story.forward()
        number = story.loss(source=call, **loss)
        story.backward(
            [call],
            [number] if reached else [],
            root=0.7 * coefficient * sign + other,
            coefficient=coefficient * sign,
            **(back or {}),
        )
        story.stepped(**(options or {}))
    story.ended()
    return story


def test_broadcast_prediction():
    story = losses(function="mse_loss", given={"shape": [4, 1]}, wanted={"shape": [4]})
    found = only("loss-shapes", story)
    assert found.where == "mse_loss"
    assert found.evidence == {"prediction": [4, 1], "target": [4]}


def test_a_scalar_target_is_no_table():
    assert passed("loss-shapes", losses(function="mse_loss", given={"shape": [4, 1]}, wanted={"shape": []}))
    assert passed(
        "loss-shapes", losses(function="smooth_l1_loss", given={"shape": [4, 8, 1]}, wanted={"shape": [4, 1, 8]})
    )


def test_a_table_in_a_loss_written_by_hand():
    story = Story()
    story.optimizer()
    call = story.forward(shape=(4, 1))
    story.backward([call], tables=[[4, 1]])
    story.stepped()
    story.ended()
    assert only("loss-shapes", story).evidence == {"prediction": [4, 1]}


def test_a_table_of_something_else_is_no_fault():
    story = Story()
    story.optimizer()
    story.backward([story.forward(shape=(4, 16))], tables=[[4, 1]])
    story.stepped()
    story.ended()
    assert passed("loss-shapes", story)


def test_sigmoid_before_a_logits_loss():
    found = only("loss-input-kind", losses(given={"made_by": "SigmoidBackward0", "min": 0.1, "max": 0.9}))
    assert found.where == "binary_cross_entropy_with_logits"
    assert found.cause == "the model ends in a sigmoid, and the loss applies its own"


def test_softmax_before_cross_entropy():
    story = losses(function="cross_entropy", probability_like=True)
    assert only("loss-input-kind", story).cause.startswith("the model ends in a softmax")


def test_logits_that_happen_to_lie_between_0_and_1():
    assert passed("loss-input-kind", losses(given={"min": 0.1, "max": 0.9, "mean": 0.5}))
    unknown = losses(given={"min": 0.1, "max": 0.9, "mean": 0.5, "made_by": None})
    assert only("loss-input-kind", unknown).severity == "warning"


def test_probabilities_for_a_loss_of_probabilities():
    assert passed("loss-input-kind", losses(function="binary_cross_entropy", given={"made_by": "SigmoidBackward0"}))


def test_nll_loss_on_logits():
    assert only("loss-input-kind", losses(function="nll_loss", given={"max": 2.0})).where == "nll_loss"
    assert passed("loss-input-kind", losses(function="nll_loss", given={"max": -0.1}))


def test_labels_of_minus_one():
    found = only("loss-targets", losses(wanted={"min": -1.0}))
    assert (found.severity, found.evidence["lowest"]) == ("error", -1.0)
    assert only("loss-targets", losses(wanted={"max": 1.2})).severity == "warning"
    assert passed("loss-targets", losses())


def test_a_flipped_sign():
    found = only("loss-direction", losses(sign=-1.0))
    assert found.cause == "the sign of the loss is flipped before backward"
    assert passed("loss-direction", losses())


def weighed(low, high, explained=0.7, **sides):
    return {"elements": {"low": low, "high": high, "explained": explained, "positive": None, "negative": None, **sides}}


def test_a_flipped_sign_of_a_table_of_losses():
    def judged(low, high, explained=0.7, sign=1.0):
        return losses(reduction="none", sign=sign, back=weighed(low, high, explained))

    assert passed("loss-direction", judged(0.1, 0.1))
    assert only("loss-direction", judged(-0.1, -0.1, -0.7, -1.0)).severity == "error"
    # Rewards, all of them below zero, look the same but for their size.
    assert only("loss-direction", judged(-0.3, -0.1, -0.7, -1.0)).severity == "warning"
    assert passed("loss-direction", judged(-0.3, 0.2, -0.7, -1.0))
    assert passed("loss-direction", judged(-0.1, -0.1, -0.2))  # a term among others


def test_maximize():
    assert only("loss-direction", losses(options={"maximize": True})).cause.endswith("maximize=True")
    assert passed("loss-direction", losses(sign=-1.0, options={"maximize": True}))


def test_a_negative_loss_as_one_term_of_more():
    story = Story()
    story.optimizer()
    for _ in range(3):
        number = story.loss(source=story.forward())
        story.backward([0], [number], root=3.3, coefficient=-1.0)
        story.stepped()
    story.ended()
    assert passed("loss-direction", story)


def test_adversaries_raise_what_the_other_lowers():
    story = Story()
    story.optimizer("o0", parameters=["p0"])
    story.optimizer("o1", parameters=["p1"])
    for _ in range(3):
        for key, sign in (("p0", 1.0), ("p1", -1.0)):
            call = story.forward()
            story.backward([call], [story.loss(source=call)], touched=[key], root=0.7 * sign, coefficient=sign)
            story.stepped(f"o{key[1]}", [key])
    story.ended()
    assert passed("loss-direction", story)


def test_an_update_along_the_gradient():
    story = Story()
    story.optimizer()
    story.backward([story.forward()])
    story.stepped(each={"p0": {"descent": 0.1}, "p1": {"descent": 0.2}})
    story.ended()
    assert only("loss-direction", story).cause == "the sign of the update is wrong"


def test_a_rebuilt_loss():
    story = Story()
    story.optimizer()
    for _ in range(2):
        story.forward()
        story.backward([], touched=[], root_grad_fn=False)
        story.stepped(grad="none", moved=False)
    story.ended()
    assert "without history" in only("loss-graph", story).message
    assert passed("loss-graph", trained(2))


def test_outputs_detached_before_the_loss():
    story = Story()
    story.optimizer()
    for _ in range(3):
        story.forward()
        story.backward([], touched=["p1"])
        story.stepped()
    story.ended()
    assert only("loss-graph", story).message.startswith("no gradient ever reached an output of the model")


def test_a_detached_loss_that_makes_up_the_root():
    story = Story()
    story.optimizer()
    for _ in range(3):
        call = story.forward()
        story.loss(source=call, given={"requires_grad": False})
        story.backward([call], [], root=0.701)
        story.stepped()
    story.ended()
    assert only("loss-graph", story).where == "binary_cross_entropy_with_logits"


def test_a_loss_kept_for_the_log():
    story = Story()
    story.optimizer()
    for _ in range(3):
        call = story.forward()
        story.loss(source=call, given={"requires_grad": False})
        story.backward([call], [], root=0.7)
        story.stepped()
    story.ended()
    assert passed("loss-graph", story)


def test_weight_of_rare_positives():
    weight = [fact("pos_weight", (), max=0.2)]
    assert only("positive-weight", losses(extra=weight, positives=0.1)).severity == "warning"
    assert passed("positive-weight", losses(extra=[fact("pos_weight", (), max=9.0)], positives=0.1))
    assert vacuous("positive-weight", losses()) == "no loss with pos_weight, or with weights per class, was called"


def test_weights_of_classes():
    def weighing(*weights, counts=(90, 10)):
        return losses(function="cross_entropy", classes={"weights": list(weights), "counts": list(counts)})

    assert only("positive-weight", weighing(1.8, 0.2)).severity == "warning"
    assert passed("positive-weight", weighing(0.6, 5.0))
    assert passed("positive-weight", weighing(1.0, 0.0))  # left out on purpose
    assert passed("positive-weight", weighing(1.8, 0.2, counts=(50, 50)))
    assert passed("positive-weight", weighing(1.0, 1.0, 0.5, counts=(30, 90, 10)))


def test_weight_of_rare_positives_by_hand():
    def judged(positive, negative, share=0.1):
        return losses(reduction="none", positives=share, back=weighed(0.1, 1.0, positive=positive, negative=negative))

    assert only("positive-weight", judged([0.1, 0.1], [1.0, 1.0])).evidence["weight"] == 0.1
    assert passed("positive-weight", judged([9.0, 9.0], [1.0, 1.0]))
    assert passed("positive-weight", judged([0.25, 0.25], [0.75, 0.75]))
    assert passed("positive-weight", judged([0.1, 0.1], [1.0, 1.0], 0.6))
    vacuous("positive-weight", judged([0.05, 0.1], [0.5, 1.0]))  # follows the prediction
    vacuous("positive-weight", judged(None, [1.0, 1.0]))


def test_an_undivided_sum_of_a_table():
    def judged(shape, factor, **changes):
        table = {"output": fact("", (4, 2)), "reduction": "none"}
        return losses(back={"summed": {"shape": shape, "factor": factor}, **changes}, **table)

    assert only("loss-summed", judged([4, 2], 1.0)).evidence == {"elements": 8}
    assert only("loss-summed", judged([4, 2], 1024.0, scale=1024.0)).evidence == {"elements": 8}
    vacuous("loss-summed", judged([4, 2], 0.125))
    vacuous("loss-summed", judged([4], 1.0))  # summed within a sample before


def test_an_undivided_sum():
    assert only("loss-summed", losses(reduction="sum")).evidence == {"elements": 8}
    assert passed("loss-summed", losses(reduction="sum", coefficient=0.25))
    assert "written by hand" in vacuous("loss-summed", losses(reached=False))
    assert "sum of terms" in vacuous("loss-summed", losses(reduction="sum", other=0.001))


@pytest.mark.parametrize(
    ("each", "root", "found"),
    [(1.0, 12.0, ["warning"]), (0.05, 0.6, []), (0.25, 3.0, []), (1.0, 30.0, [])],
)
def test_a_table_of_losses_that_nobody_divides(each, root, found):
    """Summed; a mean over the mask; summed over time and averaged over the batch; summed, and a penalty added."""
    story = losses(reduction="none")
    for event in story.events:
        if event["kind"] == "loss":
            event["output"] = fact("", (4, 8), mean=0.7)
        if event["kind"] == "loss_grad":
            event.update(output_grad=20 * each, output_grad_largest=each)
        if event["kind"] == "backward":
            event["root"]["mean"] = root
    assert [finding.severity for finding in outcome("loss-summed", story).findings] == found


def pulling(*pulls, steps=3, **call):
    """A loss written by hand: no loss call, and at each output the gradients beside tensors of the batch."""
    story = Story()
    story.optimizer()
    for _ in range(steps):
        made = story.forward(**call)
        story.add("output_grad", call=made, at="", shape=[8], pull=[dict(pull) for pull in pulls])
        story.backward([made])
        story.stepped()
    story.ended()
    return story


def test_outputs_pushed_away_from_their_labels():
    away, towards, mixed = (
        {"at": at, "towards": one, "away": other} for at, one, other in (("y", 0, 8), ("y", 8, 0), ("mask", 3, 5))
    )
    assert only("loss-direction", pulling(away)).severity == "warning"
    assert only("loss-direction", pulling(away, mixed)).evidence == {"gradients": 24}
    assert passed("loss-direction", pulling(towards))
    assert passed("loss-direction", pulling(mixed))
    assert passed("loss-direction", pulling({**away, "at": "other"}, towards))
    assert passed("loss-direction", pulling(away, steps=1))
