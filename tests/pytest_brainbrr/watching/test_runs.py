"""Whole runs in fresh processes: how they end, what is run for which check, and the round trip of a checkpoint."""

import os
import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
import small_trainers as trainers

import pytest_brainbrr as smoke
from pytest_brainbrr import runner
from pytest_brainbrr.packing import pack
from pytest_brainbrr.resuming import choose_checkpoint
from pytest_brainbrr.runner import Runs
from pytest_brainbrr.spec import Spec
from pytest_brainbrr.trace import Trace


@pytest.fixture(autouse=True)
def _one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def straight(train: object, folder: Path, **facts: object) -> Trace:
    runs = Runs(smoke.Target("t", train=train, **facts), folder, 4)  # type: ignore[arg-type]
    runs.make({"straight"})
    return runs.traces["straight"]


@pytest.mark.parametrize(
    ("train", "how", "code", "word"),
    [
        (trainers.returning, "returned", 0, "a last word"),
        (trainers.raising, "raised", 1, "ValueError: no such file: x.edf"),
        (trainers.leaving, "system_exit", 3, ""),
        (trainers.leaving_with_words, "system_exit", 1, "[FATAL] nothing to do"),
        (trainers.interrupted, "interrupted", 130, ""),
        (trainers.killed, "killed", -9, "before the end"),
    ],
)
def test_every_ending_is_told(train: object, how: str, code: int, word: str, tmp_path: Path) -> None:
    end = straight(train, tmp_path).exit
    assert (end["how"], end["code"]) == (how, code)
    assert word in "\n".join(end["last_lines"])


def test_a_run_that_hangs_is_ended_with_its_stacks(tmp_path: Path) -> None:
    end = straight(trainers.sleeping, tmp_path, timeout_s=3.0).exit
    assert (end["how"], end["code"]) == ("timeout", 124)
    lines = "\n".join(end["last_lines"])
    assert "still here" in lines
    assert "in sleeping" in lines


def test_a_full_disk_is_said_and_nothing_is_judged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner.shutil, "disk_usage", lambda _: SimpleNamespace(free=0))
    with pytest.raises(OSError, match="the disk is full"):
        straight(trainers.returning, tmp_path)


def test_the_limit_lets_what_follows_the_last_step_happen(tmp_path: Path) -> None:
    runs = Runs(smoke.Target("t", train=trainers.endless), tmp_path, 5)
    runs.make({"straight"})
    trace = runs.traces["straight"]
    # A callable is told max_steps; the limit, two steps later, is for those that do not listen.
    assert (trace.exit["how"], trace.exit["steps"]) == ("stopped", 7)
    assert [event["final"] for event in trace.checkpoints] == ["3.pt", "6.pt"]
    assert len(trace.eval_calls) == 2


def test_prepare_lays_out_the_variant_unwatched(tmp_path: Path) -> None:
    trace = straight(trainers.reading, tmp_path, prepare=trainers.prepare)
    assert trace.exit["how"] == "returned"
    assert trace.events("checkpoint_write") == []


def test_closures_and_lambdas_travel_by_value(tmp_path: Path) -> None:
    number = 41

    def train(run: smoke.Run) -> int:
        return number + 1

    assert straight(train, tmp_path).exit["result"] == "42"


def test_what_cannot_travel_is_said_at_once(tmp_path: Path) -> None:
    with (
        (tmp_path / "open").open("w") as file,
        pytest.raises(TypeError, match="cannot be carried into a fresh process"),
    ):
        pack(smoke.Target("t", train=lambda run: file.write("x")), tmp_path / "t.pkl")


def test_the_parent_imports_no_torch() -> None:
    code = "import sys, pytest_brainbrr, pytest_brainbrr.runner; sys.exit('torch' in sys.modules)"
    assert os.spawnv(os.P_WAIT, sys.executable, [sys.executable, "-c", code]) == 0


def round_trip(fault: str, folder: Path, **facts: object) -> smoke.Report:
    train = partial(trainers.resumable, fault=fault)
    return smoke.run(smoke.Target("t", train=train, **facts), workdir=folder, steps=5, checks=["round-trip"])  # type: ignore[arg-type]


def test_a_complete_checkpoint_passes_and_the_plan_is_the_cheapest(tmp_path: Path) -> None:
    report = round_trip("", tmp_path)
    assert report.outcome("round-trip").status == "passed", report.findings
    assert set(report.facts["runs"]) == {"straight", "stopped", "probe", "reload"}
    assert Trace.read(tmp_path / "stopped" / "trace").exit["how"] == "stopped"
    assert Trace.read(tmp_path / "reload" / "trace").exit["steps"] == 0


@pytest.mark.parametrize(
    ("fault", "where"),
    [
        ("optimizer", "optimizer state: AdamW"),
        ("schedule", "schedule: CosineAnnealingLR"),
        ("prefix", "Net: weights"),
        ("buffers", "Net: buffers"),
        ("attribute", "outputs"),
    ],
)
def test_the_round_trip_names_what_is_lost(fault: str, where: str, tmp_path: Path) -> None:
    report = round_trip(fault, tmp_path)
    assert report.outcome("round-trip").status == "failed"
    assert where in [finding.where for finding in report.findings]


def test_a_trainer_that_ignores_resume_from_is_vacuous(tmp_path: Path) -> None:
    report = smoke.run(smoke.Target("t", train=trainers.endless), workdir=tmp_path, steps=4, checks=["round-trip"])
    assert report.outcome("round-trip").status == "vacuous"
    assert "does not open run.resume_from" in report.outcome("round-trip").reason


def test_a_script_runs_as_main_with_its_own_arguments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project = tmp_path / "project"
    project.mkdir()
    (project / "helper.py").write_text("LENGTH = 3\n")
    (project / "numbers.txt").write_text("1 2 3")
    (project / "train.py").write_text(
        "import sys, torch\nfrom helper import LENGTH\n"
        "if __name__ == '__main__':\n"
        "    assert sys.argv[1:] == ['--epochs', '9'] and len(open('numbers.txt').read().split()) == LENGTH\n"
        "    net = torch.nn.Linear(LENGTH, 1)\n"
        "    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)\n"
        "    for _ in range(100):\n"
        "        optimizer.zero_grad(); net(torch.ones(2, LENGTH)).sum().backward(); optimizer.step()\n"
        "    open('done.txt', 'w').write('never')\n"
    )
    monkeypatch.chdir(project)
    report = smoke.run(
        smoke.Target("s", script="train.py --epochs 9"),
        workdir=tmp_path / "runs",
        steps=3,
        checks=["gradient-flow", "round-trip"],
    )
    assert report.facts["exit"]["how"] == "stopped", report.facts
    assert report.facts["steps"] == 3
    assert report.outcome("gradient-flow").status == "passed"
    assert "the script is not told what to resume from" in report.outcome("round-trip").reason
    assert sorted(path.name for path in project.iterdir() if path.name != "__pycache__") == [
        "helper.py",
        "numbers.txt",
        "train.py",
    ]


@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_ranks_write_their_own_record_and_stop_by_themselves(start: str, tmp_path: Path) -> None:
    trace = straight(partial(trainers.in_two_ranks, start=start), tmp_path)
    assert trace.exit["how"] in {"returned", "stopped"}, trace.exit["last_lines"]
    assert trace.exit["steps"] == 6
    assert {event["rank"] for event in trace.events("distributed", role=None, action="init")} == {0, 1}
    assert [event["rank"] for event in trace.events("distributed", action="init")] == [0]
    weights = [
        [list(event["parameters"].values()) for event in trace.events("weights", role=role, when="step")]
        for role in ("main", "rank")
    ]
    assert weights[0] == weights[1]
    assert len(weights[0]) == 6


def test_a_watched_and_an_unwatched_run_leave_the_same_files(tmp_path: Path) -> None:
    runs = Runs(smoke.Target("t", train=trainers.resumable), tmp_path, 4)
    runs.make({"straight", "unwatched"})
    files = [sorted((tmp_path / plan / "work").iterdir()) for plan in ("straight", "unwatched")]
    assert [path.name for path in files[0]] == ["step-3.pt"] == [path.name for path in files[1]]
    assert files[0][0].read_bytes() == files[1][0].read_bytes()
    assert runs.traces["unwatched"].events("forward") == []


def test_a_folder_of_parts_is_resumed_from_as_a_whole(tmp_path: Path) -> None:
    def write(path: str, step: int, digest: str, n: int) -> dict[str, object]:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).touch()
        tensors = {"w": {"shape": [1], "dtype": "float32", "digest": digest}}
        return {"kind": "checkpoint_write", "n": n, "step": step, "path": path, "tensors": tensors, "scalars": {}}

    parts = Trace([write("c-2/model.safetensors", 2, "aa", 0), write("c-2/optimizer.bin", 2, "bb", 1)])
    assert choose_checkpoint(parts, tmp_path) == tmp_path / "c-2"
    whole = Trace([write("ckpt/last.pt", 4, "cc", 0), write("ckpt/best.pt", 4, "cc", 1)])
    assert choose_checkpoint(whole, tmp_path) == tmp_path / "ckpt" / "last.pt"
    assert choose_checkpoint(Trace([]), tmp_path) is None


def test_a_process_without_torch_is_left_without_torch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pytest_brainbrr import ranks

    for name in (ranks.VARIABLE, "PYTHONPATH"):
        monkeypatch.setenv(name, "")
    own = tmp_path / "own"
    own.mkdir()
    (own / "sitecustomize.py").write_text("import builtins\nbuiltins.seen = 'the user\\'s own'\n")
    monkeypatch.setenv("PYTHONPATH", str(own))
    folders = {"workdir": str(tmp_path), "trace": str(tmp_path / "trace")}
    ranks.announce(Spec(name="t", plan="straight", pickle=None, script=["x.py"], **folders))
    code = "import builtins, sys; sys.exit(0 if 'torch' not in sys.modules and builtins.seen else 1)"
    assert os.spawnv(os.P_WAIT, sys.executable, [sys.executable, "-c", code]) == 0
    assert list(tmp_path.glob("trace/*")) == []
