"""What an owner asks of a run himself, and declares of its checkpoints."""

import pytest
from training_traces import Story, only, outcome, passed, vacuous

from pytest_brainbrr.targets import Target


def target(**facts):
    return Target("any", train=print, **facts)


def finished(folder):
    story = Story()
    story.events[0]["workdir"] = str(folder)
    story.ended()
    return story


def test_each_sentence_of_the_owner_is_a_failure(tmp_path):
    (tmp_path / "log.txt").write_text("first\nsecond\n")
    own = target(verify=lambda folder: (folder / "log.txt").read_text().splitlines())
    found = outcome("run-verified", finished(tmp_path), target=own).findings
    assert [(one.message, one.severity) for one in found] == [("first", "error"), ("second", "error")]
    (tmp_path / "log.txt").write_text("")
    assert passed("run-verified", finished(tmp_path), target=own)


def test_what_cannot_be_verified_is_no_pass(tmp_path):
    assert vacuous("run-verified", finished(tmp_path)) == "the target declares no verify"
    missing = target(verify=lambda folder: [(folder / "log.txt").read_text()])
    assert "FileNotFoundError" in vacuous("run-verified", finished(tmp_path), target=missing)


@pytest.mark.parametrize(("atomic", "found"), [(False, 1), (True, 0)])
def test_declared_atomic_checkpoints(atomic, found):
    story = Story()
    names = {"path": "a.pt", "final": "a.pt", "tensors": {"w": {}}, "scalars": {}, "overwrote": False}
    story.add("checkpoint_write", writer="torch.save", **names)
    story.events[-1]["atomic"] = atomic
    story.ended()
    if found:
        assert only("checkpoint-atomic", story, target=target(atomic=True)).severity == "error"
    assert "resumes" in vacuous("checkpoint-atomic", story)
