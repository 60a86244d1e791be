"""Every healthy trainer runs bare, gives the same twice, and resumes bit for bit where it says so."""

import pytest

from zoo import FAULTS, HEALTHY
from zoo.bare_runs import content, differences, last_checkpoint, run_bare
from zoo.cases import BASES

RESUMABLE = [case for case in HEALTHY if case.facts.get("resumable")]
CHECKPOINTED = [case for case in RESUMABLE if case.name != "base-script"]
SLOW = frozenset({"ours-tcn-with-seizures", "ours-unet-accumulating", "ours-tcn-of-short-epochs", "base-ours-unet"})
SLOW |= {case.name for case in HEALTHY if case.trainer.startswith("repositories/")}  # scripts of some seconds each
OF_THE_FOLDER = ("metrics_bytes", ".best_model_score", ".current_score", ".kth_value")
"""What a checkpoint says of the folder it lies in: the length of a log, and Lightning's best score, begin anew in
another one."""


def by_name(cases):
    params = [pytest.param(case, id=case.name, marks=pytest.mark.slow if case.name in SLOW else ()) for case in cases]
    return pytest.mark.parametrize("case", params)


@by_name(HEALTHY)
def test_runs_bare(case, tmp_path):
    run_bare(case.target(), tmp_path)


@by_name(RESUMABLE)
def test_resumes_bit_for_bit(case, tmp_path):
    target = case.target()
    run_bare(target, tmp_path / "straight")
    run_bare(target, tmp_path / "stopped", max_steps=3)
    run_bare(target, tmp_path / "resumed", resume_from=last_checkpoint(tmp_path / "stopped"))
    straight, resumed = (content(last_checkpoint(tmp_path / name)) for name in ("straight", "resumed"))
    assert len(straight) > 5
    assert [name for name in differences(straight, resumed) if not name.endswith(OF_THE_FOLDER)] == []


@by_name(CHECKPOINTED)
def test_seed_decides_everything(case, tmp_path):
    target = case.target()
    for name, seed in (("once", 0), ("again", 0), ("other", 1)):
        run_bare(target, tmp_path / name, seed=seed)
    once, again, other = (content(last_checkpoint(tmp_path / name)) for name in ("once", "again", "other"))
    assert differences(once, again) == []
    assert differences(once, other) != []


@pytest.mark.parametrize("base", ["accel", "bare", "engine", "lit"])
@pytest.mark.parametrize("data", ["no_positives", "non_finite"])
def test_bases_refuse_useless_data(base, data, tmp_path):
    case = next(case for case in HEALTHY if case.name == f"base-{base}")
    with pytest.raises((SystemExit, RuntimeError, ValueError, FloatingPointError), match=r"seizure|finite|loss"):
        run_bare(case.target(), tmp_path, data=data)


def test_zoo_is_large_enough_and_names_are_unique():
    names = [case.name for case in (*FAULTS, *HEALTHY)]
    assert len(names) == len(set(names))
    assert len(FAULTS) >= 90
    assert len(HEALTHY) >= 45
    assert {fault.base for fault in FAULTS} == set(BASES)
