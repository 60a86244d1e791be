"""The run ends well, takes steps, hides neither exceptions nor NaN."""

import pytest
from training_traces import Story, only, outcome, passed, trained, vacuous

NAN = float("nan")


def test_a_run_that_raised():
    story = trained(2, end=False)
    story.ended("raised", 1, exception="ValueError", message="bad shape\nmore")
    found = only("run-finishes", story)
    assert (found.where, found.message) == ("<run>", "the run did not end well: ValueError")
    assert found.cause == "bad shape"


@pytest.mark.parametrize("how", ["returned", "stopped"])
def test_a_run_that_ended(how):
    story = trained(2, end=False)
    story.ended(how)
    assert passed("run-finishes", story)


def test_a_hidden_crash():
    story = trained(2, end=False)
    story.ended("returned", lines=["Traceback (most recent call last):", "RuntimeError: boom", "training finished"])
    found = only("errors-surface", story)
    assert found.message == "training ended early with a traceback on the console, yet the run reports success"


def test_a_traceback_of_a_run_that_took_all_its_steps():
    story = trained(6, end=False)
    story.ended("returned", lines=["Traceback (most recent call last):", "ImportError: no tracker"])
    assert passed("errors-surface", story)


def test_batches_that_fail_in_silence():
    story = Story()
    for _ in range(3):
        story.forward(raised="RuntimeError")
    story.ended()
    found = only("errors-surface", story)
    assert found.evidence["calls"] == 3
    assert found.evidence["exception"] == "RuntimeError"


def test_one_failed_call_is_a_probe():
    story = trained(3, end=False)
    story.forward(raised="RuntimeError")
    story.ended()
    assert passed("errors-surface", story)


def test_no_step_after_gradients():
    story = Story()
    story.optimizer()
    for _ in range(3):
        story.backward([story.forward()])
    story.ended()
    found = only("steps-taken", story)
    assert found.message == "gradients were computed, but no optimizer step was ever taken"
    assert passed("steps-taken", trained(1))


def test_weights_that_are_plain_tensors():
    story = Story()
    story.backward([story.forward()], function="grad", touched=[])
    story.ended()
    assert "no torch optimizer was made" in vacuous("steps-taken", story)


def test_nothing_happened_at_all():
    story = Story()
    story.optimizer()
    story.ended()
    assert only("steps-taken", story).message == "the run did nothing: no batch, no model call, no step"


def test_training_in_another_process_is_not_judged():
    story = Story()
    story.events = [event for event in story.events if event["kind"] != "model"]
    story.ended()
    assert "nothing of torch was seen" in vacuous("steps-taken", story)


def test_steps_without_any_gradient():
    story = Story()
    story.optimizer()
    for _ in range(2):
        story.forward()
        story.stepped(grad="none", moved=False)
    story.ended()
    assert "never with a gradient" in only("steps-taken", story).message


def test_weights_moved_by_hand():
    story = Story()
    story.backward([story.forward()])
    story.weights()
    story.ended()
    assert "updated by hand" in vacuous("steps-taken", story)


def test_every_step_skipped_by_the_scaler():
    story = Story()
    story.optimizer()
    story.backward([story.forward()], scale=65536.0)
    story.scaler("step", skipped=True)
    story.ended()
    assert only("steps-taken", story).severity == "warning"


def test_planned_steps():
    import dataclasses

    from training_traces import TARGET

    target = dataclasses.replace(TARGET, planned_steps=4)
    assert only("steps-taken", trained(3), target=target).evidence == {"steps": 3, "planned": 4}
    assert passed("steps-taken", trained(4), target=target)


def test_weights_become_nan():
    story = trained(3, each={"p1": {"finite": False}})
    found = only("steps-finite", story)
    assert found.where == "head"
    assert found.evidence["first_step"] == 1
    assert passed("steps-finite", trained(3))


def test_weights_become_nan_on_data_with_nan_only():
    found = only("steps-finite", trained(3), non_finite=trained(3, each={"p0": {"finite": False}}))
    assert found.message.startswith("on data with NaN")
    assert found.evidence["run"] == "non_finite"


def test_repaired_gradients():
    story = Story()
    story.optimizer()
    story.backward([story.forward()], raw_nonfinite=["p0"])
    story.stepped()
    story.ended()
    found = only("nan-surfaces", story)
    assert found.where == "encoder"
    assert "finite when the optimizer used them" in found.message


def test_dropped_gradients_are_no_repair():
    story = Story()
    story.optimizer()
    story.backward([story.forward()], raw_nonfinite=["p0"])
    story.stepped(grad="none", moved=False)
    story.backward([story.forward()], raw_nonfinite=["p0"], scale=512.0)
    story.stepped()
    story.ended()
    assert passed("nan-surfaces", story)


def test_zeros_in_the_place_of_nan():
    def story(other):
        made = Story()
        made.optimizer()
        made.backward([made.forward()], raw_nonfinite=["p0"], scale=512.0)
        made.stepped(each={"p0": {"grad": "zero"}, "p1": {"grad": other}})
        made.ended()
        return made

    assert only("nan-surfaces", story("finite")).where == "encoder"
    assert passed("nan-surfaces", story("zero"))


def test_a_repairing_hook():
    story = trained(2, each=None)
    for event in story.events:
        if event["kind"] == "model":
            event["parameters"][0]["hooks"] = ["nan_to_num"]
    assert only("nan-surfaces", story).where == "encoder"


def test_nan_painted_over_inside_the_model():
    inner = [{"path": "encoder", "class": "Linear", "mean": NAN, "min": NAN, "max": NAN, "finite": False}]
    story = Story()
    story.optimizer()
    story.backward([story.forward(inner=inner)])
    story.stepped()
    story.ended()
    assert only("nan-surfaces", story).severity == "warning"
    assert only("nan-surfaces", trained(2), non_finite=story).severity == "error"


def test_masks_of_minus_infinity_are_no_nan():
    inner = [
        {"path": "mask", "class": "Mask", "mean": float("-inf"), "min": float("-inf"), "max": 0.0, "finite": False}
    ]
    story = Story()
    story.optimizer()
    story.backward([story.forward(inner=inner)])
    story.stepped()
    story.ended()
    assert passed("nan-surfaces", story)


def test_no_step_leaves_nothing_to_judge():
    story = Story()
    story.ended("raised", 1)
    assert vacuous("steps-finite", story) == "the run broke off before its first optimizer step (raised)"
    assert outcome("steps-taken", story).status == "vacuous"
