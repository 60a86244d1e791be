"""Where a run is stopped to be resumed: in the middle of a pass, where a place that is forgotten shows."""

from training_traces import validating

from pytest_brainbrr.runner import _ends_a_pass


def test_a_validation_ends_a_pass():
    trace = validating(4, every=2).trace()
    assert [step for step in range(1, 5) if _ends_a_pass(trace, step)] == [2, 4]
