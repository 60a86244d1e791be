"""Nothing that a run starts outlives it, and nobody waits for what does nothing."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from pytest_brainbrr import child, supervisor
from pytest_brainbrr.checks.progress import finishes
from pytest_brainbrr.processes import Running
from pytest_brainbrr.targets import Target
from pytest_brainbrr.trace import Trace

pytestmark = pytest.mark.skipif(not supervisor.CAN, reason="a supervisor needs Linux")

START = "from pathlib import Path\nfrom pytest_brainbrr.supervisor import supervise\nsupervise(Path.cwd())\n"
ORPHAN = """
import os, subprocess, time
# In a session of its own, its parent gone: what a daemon does.
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        open("orphan", "w").write(str(os.getpid()))
        time.sleep(600)
    os._exit(0)
os.wait()
while not os.path.exists("orphan") or not open("orphan").read():
    time.sleep(0.01)
"""


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[[str], subprocess.Popen[bytes]]]:
    """Start a program under a supervisor."""
    started = []

    def run(program: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-c", START + textwrap.dedent(program)]
        started.append(subprocess.Popen(command, cwd=tmp_path, start_new_session=True))
        return started[-1]

    yield run
    for process in started:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def end(folder: Path) -> Any:
    return json.loads((folder / supervisor.END).read_text())


def is_gone(pid: int) -> bool:
    """Whether a process ends within a moment: who inherits it may not have looked yet."""
    until = time.monotonic() + 5
    while time.monotonic() < until:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except OSError:
            return True
        time.sleep(0.02)
    return False


def orphan(folder: Path) -> int:
    until = time.monotonic() + 20
    while time.monotonic() < until:
        with contextlib.suppress(OSError, ValueError):
            return int((folder / "orphan").read_text())
        time.sleep(0.02)
    raise AssertionError("it never started")


@pytest.mark.parametrize(("ending", "code"), [("", 0), ("os._exit(7)", 7), ("os.kill(os.getpid(), 9)", -9)])
def test_what_a_run_left_behind_ends_with_it(start: Any, tmp_path: Path, ending: str, code: int) -> None:
    assert start(f"{ORPHAN}\n{ending}").wait(timeout=30) == (code if code >= 0 else 128 - code)
    assert is_gone(orphan(tmp_path))
    found = end(tmp_path)
    assert (found["code"], found["idle"], len(found["left"])) == (code, False, 1)


def test_a_run_that_is_told_to_end_ends_with_all_it_started(start: Any, tmp_path: Path) -> None:
    process = start(f"{ORPHAN}\ntime.sleep(600)")
    pid = orphan(tmp_path)
    running = Running()
    running.add(process.pid)
    running.end()
    process.wait(timeout=30)
    assert is_gone(pid)
    assert end(tmp_path)["code"] == -signal.SIGKILL
    late = start("import time; time.sleep(600)")
    running.add(late.pid)
    late.wait(timeout=30)


def test_a_run_ends_when_its_parent_dies(tmp_path: Path) -> None:
    parent = "import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', sys.argv[1]]); time.sleep(600)"
    command = [sys.executable, "-c", parent, f"{START}{ORPHAN}\ntime.sleep(600)"]
    process = subprocess.Popen(command, cwd=tmp_path)
    pid = orphan(tmp_path)
    process.kill()
    process.wait()
    assert is_gone(pid)


def test_a_target_that_returned_is_not_waited_for_when_nothing_happens(start: Any, tmp_path: Path) -> None:
    began = time.monotonic()
    start(f"{ORPHAN}\nopen('{supervisor.RETURNED}', 'w').write('1.0'); time.sleep(600)").wait(timeout=30)
    assert time.monotonic() - began < 25
    assert end(tmp_path)["idle"]
    assert is_gone(orphan(tmp_path))


def test_a_target_that_returned_is_waited_for_while_it_works(start: Any, tmp_path: Path) -> None:
    work = f"""
    import time
    open('{supervisor.RETURNED}', 'w').write('0.8')
    until = time.monotonic() + 3
    while time.monotonic() < until:
        sum(range(100_000))
    open('done', 'w')
    """
    assert start(work).wait(timeout=60) == 0
    assert not end(tmp_path)["idle"]
    assert (tmp_path / "done").exists()


def test_threads_that_do_nothing_are_named_and_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child, "IDLE_S", 0.3)
    word = threading.Event()
    thread = threading.Thread(target=word.wait, name="uploader")
    thread.start()
    try:
        assert child._wait_for_threads(lambda: 0) == ["uploader"]
    finally:
        word.set()
        thread.join()


def test_threads_that_work_are_waited_for_and_idle_workers_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child, "IDLE_S", 0.5)
    events: list[int] = []

    def work() -> None:
        for _ in range(10):
            time.sleep(0.15)
            events.append(1)

    with ThreadPoolExecutor(1) as pool:
        pool.submit(int).result()
        thread = threading.Thread(target=work)
        thread.start()
        assert child._wait_for_threads(lambda: len(events)) == []
    assert len(events) == 10


@pytest.mark.parametrize(("how", "warned"), [("returned", True), ("system_exit", True), ("stopped", False)])
def test_only_a_run_that_was_not_stopped_is_warned_of_what_lingered(how: str, warned: bool) -> None:
    trace = Trace([{"kind": "exit", "how": how, "code": 0, "lingered": ["uploader"], "steps": 3}])
    found = list(finishes({"straight": trace}, Target("t", train=print)))
    assert [finding.severity for finding in found] == ["warning"] * warned


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_pytest_that_is_ended_leaves_no_process(tmp_path: Path, number: signal.Signals) -> None:
    (tmp_path / "train.py").write_text(ORPHAN + "time.sleep(600)\n")
    command = [sys.executable, "-m", "pytest", "--smoke", "--smoke-script=train.py", f"--smoke-workdir={tmp_path}/runs"]
    pytest_ = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True, start_new_session=True)
    work = tmp_path / "runs" / "train" / "straight" / "work"
    pid = orphan(work)
    pytest_.send_signal(number)
    said = pytest_.communicate(timeout=60)[0]
    assert is_gone(pid)
    expected = {signal.SIGINT: (2, "KeyboardInterrupt"), signal.SIGTERM: (143, "terminated"), signal.SIGKILL: (-9, "")}
    code, word = expected[number]
    assert pytest_.returncode == code
    assert word in said


def test_a_script_that_starts_itself_anew_is_followed(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        train="""
        import os, sys
        if os.environ.get("PYTHONHASHSEED") != "0":
            os.environ["PYTHONHASHSEED"] = "0"
            os.execv(sys.executable, [sys.executable, *sys.argv])
        import torch
        net = torch.nn.Linear(2, 1)
        optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
        for step in range(100):
            optimizer.zero_grad()
            net(torch.randn(4, 2)).square().mean().backward()
            optimizer.step()
        """
    )
    result = pytester.runpytest_subprocess("--smoke", "--smoke-script=train.py", "-k", "run-finishes or steps-taken")
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(["train: device cpu, steps 6,*"])
