"""Smoke items behave like tests anywhere in pytest: ids, selection, statuses, workers, reports.

The runner is replaced here by one that returns a fixed report and writes down that it ran; runs of real trainers
are tested where they are made.
"""

import json
import xml.etree.ElementTree as ET

import pytest

from pytest_brainbrr.checks.catalogue import CHECKS

CHECK_IDS = [check.id for check in CHECKS]
PASSING, FAILING, WARNING, VACUOUS = CHECK_IDS[:4]

CONFTEST = f"""
import dataclasses, os, pathlib
import pytest_brainbrr.runner
from pytest_brainbrr import Finding, Outcome, Report, Target

HERE = pathlib.Path(__file__).parent

def outcome(target, check):
    error = Finding(check, "net.0.weight", "error", "no gradient", {{"steps": 6}}, "detached", "attach it")
    if check == {FAILING!r} and target == "sick":
        return Outcome(check, "failed", findings=(error,))
    if target == "idle":
        idle = check not in ("run-finishes", "errors-surface")
        return Outcome(check, "vacuous", "nothing of torch") if idle else Outcome(check, "passed")
    if check == {WARNING!r}:
        return Outcome(check, "warned", findings=(Finding(check, "loss", "warning", "odd"),))
    if check == {VACUOUS!r}:
        return Outcome(check, "vacuous", "no CUDA device")
    return Outcome(check, "passed")

def run(target, *, workdir, steps=6, checks=None, timeout_s=0.0):
    with open(HERE / "runs.txt", "a") as log:
        log.write(f"{{target.name}} {{os.getpid()}} {{steps}} {{timeout_s:g}}\\n")
    if target.name == "broken":
        raise RuntimeError("the runner is broken")
    if target.name == "cut":
        import pytest
        pytest.fail("a time limit of another plugin")
    if target.name == "slow":
        import time
        time.sleep(2)
    workdir.mkdir(parents=True, exist_ok=True)
    (workdir / "trace.jsonl").write_text("x")
    outcomes = [
        dataclasses.replace(outcome(target.name, check), expected_failure=target.expected_failures.get(check))
        for check in checks
    ]
    return Report(target.name, tuple(outcomes), {{"device": "cpu", "steps": steps}})

pytest_brainbrr.runner.run = run

def train(run):
    pass
"""


@pytest.fixture
def project(pytester: pytest.Pytester) -> pytest.Pytester:
    pytester.makeconftest(
        CONFTEST
        + """
def pytest_brainbrr_targets():
    yield Target("well", train=train)
    yield Target("sick", train=train)
"""
    )
    pytester.makepyfile(test_other="def test_other(): pass")
    return pytester


def runs(project: pytest.Pytester) -> list[list[str]]:
    return [line.split() for line in (project.path / "runs.txt").read_text().splitlines()]


def test_without_the_option_no_smoke_item_exists(project: pytest.Pytester) -> None:
    result = project.runpytest_subprocess("-v")
    result.assert_outcomes(passed=1)
    assert not (project.path / "runs.txt").exists()


def test_each_check_is_an_item_and_each_trainer_runs_once(project: pytest.Pytester) -> None:
    result = project.runpytest_subprocess("--smoke", "-v")
    assert result.ret == 1
    result.stdout.fnmatch_lines(
        [
            f"*collected {2 * len(CHECK_IDS)} items",
            "smoke tests only: 1 test files were not collected",
            f"smoke::well::{PASSING} PASSED*",
            f"smoke::well::{WARNING} WARNED*",
            f"smoke::well::{VACUOUS} VACUOUS*",
            f"smoke::sick::{FAILING} FAILED*",
            f"{FAILING}: net.0.weight: no gradient [[]steps=6]",
            "  likeliest cause: detached",
            "  to mend: attach it",
            "*= smoke =*",
            "well: device cpu, steps 6",
            f"    vacuous  {VACUOUS}: no CUDA device",
            "what the runs wrote: *",
        ]
    )
    result.stdout.no_fnmatch_line("*Traceback*")
    result.stdout.fnmatch_lines([f"*1 failed, {2 * len(CHECK_IDS) - 5} passed, 2 warned, 2 vacuous*"])
    assert [run[0] for run in runs(project)] == ["well", "sick"]
    assert result.stdout.str().count("not for training") == 1


def test_other_tests_are_not_even_imported(project: pytest.Pytester) -> None:
    """Neither those that cannot be imported, nor in folders whose conftest has targets of its own."""
    project.makepyfile(
        **{"test_broken": "import nowhere", "deep/er/test_deep": "import nowhere", "deep/er/__init__": ""}
    )
    project.makepyfile(
        **{"deep/er/conftest": CONFTEST + "def pytest_brainbrr_targets(): yield Target('deep', train=train)"}
    )
    result = project.runpytest_subprocess("--smoke", "--collect-only", "-q", "--doctest-modules")
    assert result.ret == 0
    assert {line.split("::")[1] for line in result.outlines if line.startswith("smoke::")} == {"well", "sick", "deep"}
    assert project.runpytest_subprocess("--smoke", "-k", "well").ret == 0
    assert project.runpytest_subprocess("--smoke", "test_other.py", "-k", "well").ret == 0


@pytest.mark.parametrize("arguments", [("-k", "well"), ("smoke::well",)])
def test_one_target_can_be_chosen(project: pytest.Pytester, arguments: tuple[str, ...]) -> None:
    result = project.runpytest_subprocess("--smoke", *arguments)
    assert result.ret == 0
    assert [run[0] for run in runs(project)] == ["well"]
    assert not any("what the runs wrote" in line for line in result.outlines)


def test_one_check_can_be_chosen_by_its_id(project: pytest.Pytester) -> None:
    result = project.runpytest_subprocess("--smoke", f"smoke::sick::{PASSING}")
    result.assert_outcomes(passed=1)
    assert project.runpytest_subprocess("--smoke", "smoke::sick::nonsense").ret == pytest.ExitCode.USAGE_ERROR


def test_steps_and_stop_at_first_failure(project: pytest.Pytester) -> None:
    result = project.runpytest_subprocess("--smoke", "--smoke-steps", "2", "-x", "-k", "sick")
    assert result.ret == 1
    assert runs(project)[0][2] == "2"
    result.stdout.fnmatch_lines(["*stopping after 1 failures*"])


def test_last_failed_runs_the_failed_check_only(project: pytest.Pytester) -> None:
    project.runpytest_subprocess("--smoke")
    result = project.runpytest_subprocess("--smoke", "--lf", "-v")
    result.assert_outcomes(failed=1, deselected=len(CHECK_IDS) * 2 - 1)
    assert [run[0] for run in runs(project)] == ["well", "sick", "sick"]


def test_workers_share_nothing_but_reports(project: pytest.Pytester) -> None:
    result = project.runpytest_subprocess("--smoke", "-n", "2", "--smoke-json", "out/report.json", "-v")
    assert result.ret == 1
    assert sorted(run[0] for run in runs(project)) == ["sick", "well"]
    assert len({run[1] for run in runs(project)}) == 2
    result.stdout.fnmatch_lines(["sick: device cpu, steps 6"])
    written = json.loads((project.path / "out" / "report.json").read_text())
    assert {report["target"] for report in written} == {"well", "sick"}


def test_junit_and_html(project: pytest.Pytester) -> None:
    project.runpytest_subprocess("--smoke", "--junitxml", "junit.xml", "--smoke-html", "report.html")
    suite = ET.parse(project.path / "junit.xml").getroot()[0]
    cases = {(case.get("classname"), case.get("name")): case for case in suite.iter("testcase")}
    assert "no gradient" in cases["smoke.sick", FAILING][0].text
    assert cases["smoke.well", VACUOUS][0].get("message") == "vacuous: no CUDA device"
    page = (project.path / "report.html").read_text()
    assert "net.0.weight" in page
    assert "attach it" in page


def test_expected_failures_are_xfail_and_strict(project: pytest.Pytester) -> None:
    project.makeini(
        f"""
        [pytest]
        smoke_expected_failures =
            sick::{FAILING}: known since spring
            well::{FAILING}: no longer true
        """
    )
    result = project.runpytest_subprocess("--smoke", "-rx")
    result.stdout.fnmatch_lines(["*declared to fail (no longer true) but passed*"])
    result.stdout.fnmatch_lines(["XFAIL smoke::sick::*known since spring*"])
    result.assert_outcomes(failed=1, xfailed=1, passed=2 * len(CHECK_IDS) - 6)


def test_failures_are_expected_by_marks_of_targets_and_items(pytester: pytest.Pytester) -> None:
    pytester.makeconftest(
        CONFTEST
        + f"""
import pytest

def pytest_brainbrr_targets():
    known = pytest.mark.smoke_expected_failure({FAILING!r}, reason="known since spring")
    yield Target("sick", train=train, marks=[known, pytest.mark.night])
    yield Target("well", train=train)

def pytest_configure(config):
    config.addinivalue_line("markers", "night: runs at night")

def pytest_collection_modifyitems(items):
    for item in items:
        if item.nodeid == "smoke::well::{PASSING}":
            item.add_marker(pytest.mark.smoke_expected_failure(reason="no longer true"))
"""
    )
    result = pytester.runpytest_subprocess("--smoke", "--strict-markers", "-rx", "--smoke-json=report.json")
    result.stdout.fnmatch_lines(["*declared to fail (no longer true) but passed*"])
    result.stdout.fnmatch_lines(["XFAIL smoke::sick::*known since spring*"])
    result.assert_outcomes(failed=1, xfailed=1, passed=2 * len(CHECK_IDS) - 6)
    written = json.loads((pytester.path / "report.json").read_text())
    expected = {
        (report["target"], outcome["check"]): outcome["expected_failure"]
        for report in written
        for outcome in report["outcomes"]
        if outcome["expected_failure"]
    }
    assert expected == {("sick", FAILING): "known since spring", ("well", PASSING): "no longer true"}
    result = pytester.runpytest_subprocess("--smoke", "-m", "night")
    assert [run[0] for run in runs(pytester)] == ["sick", "well", "sick"]


@pytest.mark.parametrize(
    "mark",
    [
        "smoke_expected_failure('no-such-check', reason='why')",
        "smoke_expected_failure(reason='why')",
        f"smoke_expected_failure({PASSING!r}, reason=' ')",
        f"smoke_expected_failure({PASSING!r})",
    ],
)
def test_marks_of_targets_must_make_sense(pytester: pytest.Pytester, mark: str) -> None:
    pytester.makeconftest(
        CONFTEST
        + f"import pytest\ndef pytest_brainbrr_targets(): yield Target('a', train=train, marks=[pytest.mark.{mark}])"
    )
    result = pytester.runpytest_subprocess("--smoke", "--collect-only", "-q")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert "Traceback" not in result.stderr.str() + result.stdout.str()


def test_the_mark_is_registered(pytester: pytest.Pytester) -> None:
    result = pytester.runpytest_subprocess("--markers")
    result.stdout.fnmatch_lines(["@pytest.mark.smoke_expected_failure(*"])


@pytest.mark.parametrize("line", ["nonsense", "sick::shapes", "sick::no-such-check: because", "::shapes: because"])
def test_expected_failures_must_make_sense(project: pytest.Pytester, line: str) -> None:
    project.makeini(f"[pytest]\nsmoke_expected_failures = {line}\n")
    result = project.runpytest_subprocess("--smoke")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert "Traceback" not in result.stderr.str() + result.stdout.str()


def test_a_broken_run_fails_every_check_of_its_target_once(pytester: pytest.Pytester) -> None:
    pytester.makeconftest(CONFTEST + "def pytest_brainbrr_targets(): return [Target('broken', train=train)]")
    result = pytester.runpytest_subprocess("--smoke")
    result.assert_outcomes(failed=len(CHECK_IDS))
    assert len(runs(pytester)) == 1


def test_an_error_of_the_runs_is_shown_once(pytester: pytest.Pytester) -> None:
    pytester.makeconftest(CONFTEST + "def pytest_brainbrr_targets(): return [Target('broken', train=train)]")
    shown = pytester.runpytest_subprocess("--smoke").stdout.str()
    assert shown.count("Traceback") == 1
    assert shown.count("see the first check") >= len(CHECK_IDS) - 1


@pytest.mark.parametrize("place", ["test_other.py/x", "/proc/x"])
@pytest.mark.parametrize("option", ["workdir", "json", "html"])
def test_what_cannot_be_written_is_said_before_the_runs(project: pytest.Pytester, option: str, place: str) -> None:
    result = project.runpytest_subprocess("--smoke", f"--smoke-{option}={place}/y")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"*--smoke-{option}: *{place}/y cannot be written (*"])
    assert "Traceback" not in result.stderr.str()
    assert not (project.path / "runs.txt").exists()


def test_another_plugins_time_limit_ends_a_target_once(pytester: pytest.Pytester) -> None:
    pytester.makeconftest(CONFTEST + "def pytest_brainbrr_targets(): return [Target('cut', train=train)]")
    result = pytester.runpytest_subprocess("--smoke")
    result.assert_outcomes(failed=len(CHECK_IDS))
    assert len(runs(pytester)) == 1


def test_a_time_limit_for_tests_is_none_for_runs_unless_given_on_the_command_line(pytester: pytest.Pytester) -> None:
    pytest.importorskip("pytest_timeout")
    pytester.makeconftest(CONFTEST + "def pytest_brainbrr_targets(): return [Target('slow', train=train)]")
    pytester.makeini("[pytest]\ntimeout = 1\n")
    assert pytester.runpytest_subprocess("--smoke", "--strict-markers").ret == 0
    assert pytester.runpytest_subprocess("--smoke", "--timeout", "1").ret == pytest.ExitCode.TESTS_FAILED


def test_the_time_of_a_run_can_be_limited(project: pytest.Pytester) -> None:
    project.runpytest_subprocess("--smoke", "--smoke-timeout", "7.5", "-k", "well")
    assert runs(project)[0][3] == "7.5"


@pytest.mark.parametrize("value", ["0", "-1", "soon", "inf", "nan"])
def test_a_time_limit_that_is_none_is_refused(project: pytest.Pytester, value: str) -> None:
    result = project.runpytest_subprocess("--smoke", f"--smoke-timeout={value}")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"*--smoke-timeout: got '{value}', expected a positive number of seconds*"])


def test_two_targets_of_one_name_are_refused(pytester: pytest.Pytester) -> None:
    pytester.makeconftest(CONFTEST + "def pytest_brainbrr_targets(): return [Target('a', train=train)] * 2")
    result = pytester.runpytest_subprocess("--smoke")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*two smoke targets are named 'a'*"])


def test_a_session_in_which_nothing_was_seen_is_not_green(project: pytest.Pytester) -> None:
    result = project.runpytest_subprocess("--smoke", f"smoke::well::{VACUOUS}")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["*no clean bill*"])


def test_a_program_that_trains_nothing_is_not_green(pytester: pytest.Pytester) -> None:
    pytester.makeconftest(CONFTEST + "def pytest_brainbrr_targets(): return [Target('idle', train=train)]")
    result = pytester.runpytest_subprocess("--smoke")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["*no clean bill*"])
    assert pytester.runpytest_subprocess("--smoke", "-k", "run-finishes").ret == 0


def test_an_empty_directory_gets_the_encoders(pytester: pytest.Pytester) -> None:
    result = pytester.runpytest_subprocess("--smoke", "--collect-only", "-q")
    assert result.ret == 0
    result.stdout.fnmatch_lines([f"smoke::tcn::{PASSING}", f"smoke::unet::{PASSING}"])


def test_a_script_or_a_configuration_replaces_the_targets(project: pytest.Pytester) -> None:
    (project.path / "train.py").touch()
    result = project.runpytest_subprocess(
        "--smoke", "--collect-only", "-q", "--smoke-script", "train.py --epochs 1", "--smoke-config", "wide.yaml"
    )
    names = {line.split("::")[1] for line in result.outlines if line.startswith("smoke::")}
    assert names == {"train", "wide"}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--smoke-script", "train.py", "--smoke-script-seed", "--seed 5"), "*seed_argument: got '--seed 5'*"),
        (("--smoke-script", "train.py", "--smoke-script-resume", "--resume {file}"), "*resume_argument: got*"),
        (("--smoke-script", "train.py", "--smoke-script-steps", "--steps '{steps}"), "*cannot be split*"),
        (("--smoke-script-seed", "--seed {seed}"), "*needs --smoke-script"),
    ],
)
def test_what_a_script_is_told_must_make_sense(project: pytest.Pytester, arguments: tuple[str, ...], said: str) -> None:
    (project.path / "train.py").touch()
    result = project.runpytest_subprocess("--smoke", *arguments)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([said])


def test_the_ini_file_may_say_how_scripts_are_told(project: pytest.Pytester) -> None:
    (project.path / "train.py").touch()
    project.makeini("[pytest]\nsmoke_script_seed = --seed={seed}\nsmoke_script_steps = --steps 1\n")
    result = project.runpytest_subprocess("--smoke", "--smoke-script", "train.py")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*steps_argument*"])
    result = project.runpytest_subprocess(
        "--smoke", "--smoke-script", "train.py", "--smoke-script-steps=-n {steps}", "--collect-only", "-q"
    )
    assert result.ret == 0


def test_cuda_that_is_missing_is_a_usage_error(project: pytest.Pytester) -> None:
    torch = pytest.importorskip("torch")
    if torch.cuda.is_available():
        pytest.skip("this machine has CUDA")
    result = project.runpytest_subprocess("--smoke", "--smoke-device", "cuda")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*--smoke-device cuda: torch * CUDA*"])


def test_the_checks_are_listed(pytester: pytest.Pytester) -> None:
    result = pytester.runpytest_subprocess("--smoke-checks")
    assert result.ret == 0
    for check in CHECK_IDS:
        result.stdout.fnmatch_lines([f"  {check}"])


def test_a_path_taken_for_a_test_folder_is_noticed(
    project: pytest.Pytester, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Before plugins are loaded, pytest takes every existing path for a test path, and may move its root there."""
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "report.html"
    elsewhere.touch()
    result = project.runpytest_subprocess("--smoke", "--smoke-html", str(elsewhere))
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"*write --smoke-html={elsewhere}*"])
    result = project.runpytest_subprocess("--smoke", f"--smoke-html={elsewhere}", "-k", "well")
    assert result.ret == 0
    assert "well" in elsewhere.read_text()
