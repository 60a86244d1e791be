"""What a person sees, on a terminal and elsewhere."""

import logging
import os
import pty
import subprocess
import sys

import pytest

from brainbrr.training.console import Lines, Silent, duration, logging_to_stderr


def test_elsewhere_there_are_plain_lines(train):
    said = train("run", "training.log_every_steps=4").err
    assert "\x1b" not in said
    assert "\r" not in said
    lines = [line for line in said.splitlines() if " of 6: " in line]
    assert [line.split("step ")[1].split(" ")[0] for line in lines] == ["1", "4", "6"]
    assert all(word in lines[0] for word in ("loss", "learning rate", "windows/s", "left"))
    assert said.count("validation after step") == 3


@pytest.mark.slow
def test_on_a_terminal_there_are_bars(small_config, small_corpus, small_cache, tmp_path):
    environment = os.environ | {
        "BGB_DATA_DIR": str(small_corpus), "BGB_CACHE_DIR": str(small_cache), "TERM": "xterm", "COLUMNS": "120",
    }  # fmt: skip
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "brainbrr", "train", str(small_config), "--output-dir", str(tmp_path / "run")]
    with subprocess.Popen(command, env=environment, stderr=theirs, stdout=subprocess.DEVNULL) as run:
        os.close(theirs)
        said = b""
        try:
            while part := os.read(ours, 4096):
                said += part
        except OSError:  # the other end is closed
            pass
    os.close(ours)
    assert run.returncode == 0
    assert b"\x1b[" in said
    assert b"training" in said
    assert b"6/6" in said
    assert b"windows/s" in said
    assert b"validation after step 6" in said


def test_the_rate_and_what_is_left(caplog, monkeypatch):
    from brainbrr.training import console

    clock = iter([0.0, 100.0, 110.0])
    monkeypatch.setattr(console.time, "monotonic", lambda: next(clock))
    lines = Lines(every_steps=1)
    lines.start(step=10, n_steps=30)
    with caplog.at_level(logging.INFO, logger="brainbrr"):
        lines.step(step=11, loss=0.5, learning_rate=1e-3, n_windows=40)
    assert caplog.messages == ["step 11 of 30: loss 0.5, learning rate 1.00e-03, 4.00 windows/s, 3 min 10 s left"]


def test_the_log_is_put_back():
    log = logging.getLogger("brainbrr")
    before = list(log.handlers), log.level
    with logging_to_stderr():
        assert len(log.handlers) == len(before[0]) + 1
    assert (list(log.handlers), log.level) == before


def test_the_others_are_silent(capsys):
    silent = Silent()
    silent.start(step=0, n_steps=1)
    silent.step(step=1, loss=0.0, learning_rate=0.0, n_windows=1)
    silent.close()
    assert capsys.readouterr() == ("", "")


def test_durations():
    assert [duration(s) for s in (0, 59.4, 60, 3600, 86_400)] == ["0 s", "59 s", "1 min 0 s", "1 h 0 min", "24 h 0 min"]
