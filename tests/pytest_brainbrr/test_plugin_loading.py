"""Loading the plugin stays cheap: nothing heavy is imported, with or without tests to run."""

import subprocess
import sys

import pytest

HEAVY = ("torch", "mne", "numpy", "scipy", "cloudpickle", "pydantic", "jinja2", "pytest_brainbrr.session")


def test_starting_pytest_imports_nothing_heavy(tmp_path) -> None:
    (tmp_path / "test_loaded.py").write_text(
        f"import sys\n\ndef test_loaded():\n    assert [name for name in {HEAVY!r} if name in sys.modules] == []\n"
    )
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_the_plugin_can_be_turned_off(pytester: pytest.Pytester) -> None:
    result = pytester.runpytest_subprocess("-p", "no:brainbrr", "--smoke")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*unrecognized arguments: --smoke*"])


def test_the_public_api_is_what_all_names() -> None:
    import pytest_brainbrr

    assert sorted(pytest_brainbrr.__all__) == pytest_brainbrr.__all__
    for name in pytest_brainbrr.__all__:
        assert getattr(pytest_brainbrr, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = pytest_brainbrr.nonsense


def test_smoke_belongs_to_pytest_smoke_where_that_is_installed(pytester: pytest.Pytester) -> None:
    """A distribution named pytest-smoke that owns ``--smoke``: both start, and the long name is ours."""
    info = pytester.mkdir("pytest_smoke-0.11.0.dist-info")
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: pytest-smoke\nVersion: 0.11.0\n")
    (info / "entry_points.txt").write_text("[pytest11]\nsmoke = pytest_smoke_stand_in\n")
    pytester.makepyfile(
        pytest_smoke_stand_in="""
        def pytest_addoption(parser):
            parser.addoption("--smoke", action="store_true")
        """,
        test_one="def test_one(): pass",
    )
    pytester.syspathinsert()
    result = pytester.runpytest_subprocess("--smoke")
    result.assert_outcomes(passed=1)
    result = pytester.runpytest_subprocess("--help")
    result.stdout.fnmatch_lines(["*--brainbrr-smoke *"])
    assert "--brainbrr-smoke, --smoke" not in result.stdout.str()
