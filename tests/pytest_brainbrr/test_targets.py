"""What a target is told, and what it refuses."""

from pathlib import Path

import pytest

from pytest_brainbrr import Target
from pytest_brainbrr.mirror import carry_over, mirror


def test_a_script_is_told_what_its_owner_says() -> None:
    target = Target(
        "t",
        script="train.py --lr 0.1",
        seed_argument="--seed {seed}",
        resume_argument="resume='{checkpoint}'",
        steps_argument="trainer.max_steps={steps}",
    )
    assert target.resumable
    assert target.told(seed=3, max_steps=6) == ["--seed", "3", "trainer.max_steps=6"]
    told = target.told(seed=0, max_steps=2, resume_from=Path("a folder/last.pt"))
    assert told == ["--seed", "0", "trainer.max_steps=2", "resume=a folder/last.pt"]


def test_a_script_may_find_the_checkpoint_itself() -> None:
    target = Target("t", script="train.py", resume_argument="--resume")
    assert target.told(seed=0, max_steps=6) == []
    assert target.told(seed=0, max_steps=6, resume_from="x.pt") == ["--resume"]


@pytest.mark.parametrize(
    "facts",
    [
        {"seed_argument": "--seed"},
        {"seed_argument": "--seed {step}"},
        {"seed_argument": "--seed {seed} --steps {steps}"},
        {"resume_argument": " "},
        {"resume_argument": "--resume '{checkpoint}"},
        {"steps_argument": "--steps 6"},
    ],
)
def test_what_says_nothing_is_refused(facts: dict[str, str]) -> None:
    with pytest.raises(ValueError, match=next(iter(facts))):
        Target("t", script="train.py", **facts)  # type: ignore[arg-type]


def test_failures_are_declared_with_their_reason() -> None:
    marks = [pytest.mark.smoke_expected_failure("repeats", reason="cuDNN"), pytest.mark.slow]
    declared = Target("t", train=print, expected_failures={"shapes": "why"}, marks=marks).declared_failures()
    assert declared == {"shapes": "why", "repeats": "cuDNN"}
    with pytest.raises(ValueError, match="needs a reason"):
        Target("t", train=print, expected_failures={"shapes": " "}).declared_failures()


def test_callables_are_told_by_their_run() -> None:
    with pytest.raises(TypeError, match="is for scripts"):
        Target("t", train=print, seed_argument="--seed {seed}")


def test_a_run_goes_on_where_another_left_its_files(tmp_path: Path) -> None:
    source, one, other = tmp_path / "source", tmp_path / "one", tmp_path / "other"
    for folder in (source / "runs" / "old", one, other):
        folder.mkdir(parents=True)
    (source / "train.py").write_text("pass")
    (source / "runs" / "old" / "log.txt").write_text("old")
    mirror(source, one, skip=tmp_path / "none")
    mirror(source, other, skip=tmp_path / "none")
    (one / "runs").unlink()
    (one / "runs" / "new").mkdir(parents=True)
    (one / "runs" / "new" / "last.pt").write_text("weights")
    carry_over(one, other)
    assert (other / "runs" / "new" / "last.pt").read_text() == "weights"
    assert (other / "runs" / "old" / "log.txt").read_text() == "old"
    assert (other / "train.py").read_text() == "pass"
    assert not (source / "runs" / "new").exists()
