"""Real processes: torchrun on gloo, and SIGKILL."""

import os
import random
import signal
import subprocess
import sys
import time

import pytest
import torch

from tests.brainbrr.small_runs import differences, metrics_of, state_of

# Group norm and no dropout: what one process computes, two can compute too.
EXACT = ("--set", "model.encoder={name: unet, channels: [32], norm: group, dropout: 0.0}")
UNEVEN = ("--set", "sampling.windows_per_epoch=11", "--set", "training.max_steps=6")


@pytest.fixture
def environment(small_corpus, small_cache):
    return os.environ | {
        "BGB_DATA_DIR": str(small_corpus), "BGB_CACHE_DIR": str(small_cache), "OMP_NUM_THREADS": "1",
    }  # fmt: skip


def torchrun(n, *args):
    return [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        f"--nproc-per-node={n}",
        "-m",
        "brainbrr",
        *map(str, args),
    ]


def finish(command, environment):
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert ended.returncode == 0, ended.stderr
    return ended


@pytest.mark.slow
def test_two_processes_follow_one(train, small_config, tmp_path, environment):
    command = ("train", small_config, *EXACT, *UNEVEN, "--output-dir")
    assert train("one", *EXACT[1:], *UNEVEN[1::2]).status == 0
    ended = finish(torchrun(2, *command, tmp_path / "two"), environment)
    assert ended.stderr.count("finished after step 6 of 6") == 1
    one, two = (metrics_of(tmp_path / name) for name in ("one", "two"))
    assert [(line["event"], line["step"], line["windows"]) for line in one] == [
        (line["event"], line["step"], line["windows"]) for line in two
    ]
    for left, right in zip(one, two, strict=True):
        for key in left.keys() & {"loss", "grad_norm", "learning_rate", "auroc", "auprc"}:
            assert left[key] == pytest.approx(right[key], rel=1e-3), (left["step"], key)
    assert len(state_of(tmp_path / "two", 6)["random"]) == 2

    # Three steps by two processes, the rest by one.
    finish(torchrun(2, *command, tmp_path / "mixed", "--max-steps", 3), environment)
    assert not differences(state_of(tmp_path / "two", 3)["model"], state_of(tmp_path / "mixed", 3)["model"])
    assert train("mixed", *EXACT[1:], *UNEVEN[1::2]).status == 0
    states = [state_of(tmp_path / name, 6) for name in ("one", "mixed")]
    assert states[0]["sampler"] == states[1]["sampler"]
    for name, value in states[0]["model"].items():
        torch.testing.assert_close(value, states[1]["model"][name], rtol=1e-3, atol=2e-4, msg=name)


@pytest.mark.slow
def test_one_of_two_processes_is_killed(small_config, tmp_path, environment):
    command = torchrun(2, "train", small_config, "--set", "training.max_steps=400", "--output-dir", tmp_path / "run")
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as launcher:
        wait_for(lambda: newest(tmp_path / "run") >= 3, launcher)
        children = subprocess.run(["pgrep", "-P", str(launcher.pid)], capture_output=True, text=True, check=True)
        os.kill(int(children.stdout.split()[-1]), signal.SIGKILL)
        launcher.communicate(timeout=120)
    assert launcher.returncode != 0
    last = str(newest(tmp_path / "run") + 5)
    arguments = command[command.index("train") :]
    finish(torchrun(2, *arguments, "--max-steps", last), environment)
    finish(torchrun(2, *arguments[:-1], tmp_path / "straight", "--max-steps", last), environment)
    assert not differences(*(state_of(tmp_path / name, int(last)) for name in ("straight", "run")))
    assert (tmp_path / "straight/metrics.jsonl").read_bytes() == (tmp_path / "run/metrics.jsonl").read_bytes()


def wait_for(condition, process, seconds=120):
    deadline = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, "ended early"
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.slow
def test_killed_at_random_moments(train, small_config, tmp_path, environment):
    """The long version, with a hundred kills, is benchmarks/training_kills.py."""
    plan = ("training.max_steps=60", "checkpoints.keep_last=3")
    assert train("straight", *plan).status == 0
    sets = [part for setting in plan for part in ("--set", setting)]
    command = [
        sys.executable,
        "-m",
        "brainbrr",
        "train",
        str(small_config),
        *sets,
        "--output-dir",
        str(tmp_path / "run"),
    ]
    dice = random.Random(0)
    for _ in range(3):
        before = newest(tmp_path / "run")
        with subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL) as run:
            wait_for(lambda: newest(tmp_path / "run") > before, run)  # noqa: B023 (called before the next round)
            time.sleep(dice.uniform(0, 0.3))
            run.kill()
    finish(command, environment)
    assert not differences(state_of(tmp_path / "straight", 60), state_of(tmp_path / "run", 60))
    assert (tmp_path / "straight/metrics.jsonl").read_bytes() == (tmp_path / "run/metrics.jsonl").read_bytes()


def newest(folder):
    return max((int(path.name[5:11]) for path in (folder / "checkpoints").glob("step-*.pt")), default=0)
