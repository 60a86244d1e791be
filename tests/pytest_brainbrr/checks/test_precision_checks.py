"""Mixed precision."""

import pytest
from training_traces import Story, only, outcome, passed, trained, vacuous


def scaled(*, scale=256.0, through=True, update=True, unscale=True, clip=None, autocast=None, steps=3, enabled=True):
    story = Story()
    story.optimizer()
    story.scaler("init", enabled)
    for _ in range(steps):
        call = story.forward(autocast=autocast)
        if scale is not None:
            story.scaler("scale")
        story.backward([call], scale=scale)
        if clip == "before":
            story.clip()
        if unscale:
            story.scaler("unscale", enabled)
        if clip == "after":
            story.clip()
        story.stepped()
        if through:
            story.scaler("step", enabled, skipped=False)
        if update:
            story.scaler("update", enabled)
    story.ended()
    return story


def test_gradients_unscaled_that_were_never_scaled():
    assert only("loss-scaled", scaled(scale=None)).cause.startswith("loss.backward() instead")
    assert passed("loss-scaled", scaled())


def test_a_scaler_that_raises_because_nothing_was_scaled():
    story = Story()
    story.optimizer()
    story.scaler("init")
    story.backward([story.forward()])
    story.ended("raised", 1, traceback="File torch/amp/grad_scaler.py, line 166")
    assert only("loss-scaled", story).where == "scaler"


def test_half_precision_without_scaling():
    half = {"cpu": "float16"}
    story = scaled(scale=None, through=False, unscale=False, update=False, autocast=half, enabled=False)
    assert only("loss-scaled", story).evidence == {"scaler": "disabled"}
    assert passed("loss-scaled", scaled(autocast=half))
    assert "neither float16" in vacuous("loss-scaled", trained(2))


def test_a_scale_of_the_trainers_own():
    story = Story()
    story.optimizer()
    for _ in range(2):
        call = story.forward(autocast={"cpu": "float16"})
        story.backward([call], [story.loss(value=0.7)], root=0.7 * 1024)
        story.stepped()
    story.ended()
    assert passed("loss-scaled", story)


def test_a_scaler_passed_by():
    assert only("scaler-steps", scaled(through=False)).evidence == {"steps": 3, "through_scaler": 0}
    assert passed("scaler-steps", scaled())
    assert "no enabled gradient scaler" in vacuous("scaler-steps", trained(2))


def test_a_scaler_never_updated():
    assert only("scaler-steps", scaled(update=False)).cause == "scaler.update() is missing"


def test_clipping_scaled_gradients():
    assert only("clip-unscaled", scaled(clip="before")).evidence == {"steps": 3, "scale": 256.0}
    assert passed("clip-unscaled", scaled(clip="after"))
    assert passed("clip-unscaled", scaled(scale=1.0, clip="before"))


def regions(enabled):
    story = scaled()
    story.events.pop()
    story.add("autocast", device="cpu", dtype="bfloat16", enabled=enabled)
    story.ended()
    return story


def test_autocast_switched_off_beside_a_scaler():
    assert only("autocast-on", regions(enabled=False)).severity == "warning"
    assert passed("autocast-on", regions(enabled=True))
    assert passed("autocast-on", scaled())


def test_updates_rounded_away():
    still = {"moved": False, "changed": 0.0, "dtype": "bfloat16"}
    found = only("updates-survive", trained(3, each={"p0": still, "p1": still}))
    assert found.evidence == {"dtypes": ["bfloat16"], "parameters": 2, "of": 2}
    assert passed("updates-survive", trained(3))


def test_a_bias_that_never_moves_means_nothing():
    assert passed("updates-survive", trained(3, each={"p1": {"moved": False, "changed": 0.0}}))


def test_few_elements_of_half_precision_weights_change():
    each = {key: {"changed": 0.01, "dtype": "bfloat16"} for key in ("p0", "p1")}
    assert only("updates-survive", trained(3, each=each)).severity == "warning"


@pytest.mark.parametrize(
    ("moving", "dtype", "count"), [(0.2, "bfloat16", 1), (0.8, "bfloat16", 0), (0.2, "float32", 0)]
)
def test_gains_in_half_precision_whose_updates_are_all_rounded_away(moving, dtype, count):
    each = {"p0": {"changed": moving, "dtype": dtype}, "p1": {"moved": False, "changed": 0.0, "dtype": dtype}}
    found = outcome("updates-survive", trained(3, each=each)).findings
    assert [(one.where, one.severity) for one in found] == [("<half precision weights>", "warning")] * count


def under_autocast(*kinds):
    """Training calls under autocast whose dense layers give these kinds of numbers."""
    story = Story()
    story.optimizer()
    inner = [
        {"path": f"layer{place}", "class": "Linear", "mean": 0.1, "outputs": [[[4, 2], kind, "cpu"]]}
        for place, kind in enumerate(kinds)
    ]
    for _ in range(3):
        story.backward([story.forward(autocast={"cpu": "bfloat16"}, inner=inner)])
        story.stepped()
    story.ended()
    return story


def test_autocast_switched_off_inside_of_forward():
    found = only("autocast-on", under_autocast("float32", "float32"))
    assert (found.severity, found.evidence["layers"]) == ("warning", 2)
    assert "no enabled gradient scaler" in vacuous("autocast-on", under_autocast("float32", "bfloat16"))
