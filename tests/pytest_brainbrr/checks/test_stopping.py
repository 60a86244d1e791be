"""Where a run is stopped to be resumed: in the middle of a pass, where a place that is forgotten shows."""

from training_traces import validating

from pytest_brainbrr.passes import ends_a_pass
from pytest_brainbrr.resuming import where_to_stop
from pytest_brainbrr.trace import Trace


def written(step):
    path = f"{step}.pt"
    return {"kind": "checkpoint_write", "n": step, "step": step, "path": path, "tensors": {"w": {"digest": path}}}


def test_a_validation_ends_a_pass():
    trace = validating(4, every=2).trace()
    assert [step for step in range(1, 5) if ends_a_pass(trace, step)] == [2, 4]


def test_a_run_is_stopped_after_a_checkpoint_within_a_pass():
    trace = Trace(
        [
            {"kind": "epoch", "n": 1, "step": 2, "action": "end", "id": "i0", "loader": "l0", "batches": 2},
            *(written(step) for step in (2, 4, 6)),
            {"kind": "exit", "n": 9, "step": 6, "how": "returned", "steps": 6},
        ]
    )
    assert where_to_stop(trace, 6) == (4, True)
    assert where_to_stop(trace, 4) == (2, True)


def test_without_a_checkpoint_on_the_way_a_run_is_stopped_halfway():
    trace = Trace([{"kind": "exit", "n": 9, "step": 6, "how": "returned", "steps": 6}])
    assert where_to_stop(trace, 6) == (3, False)
