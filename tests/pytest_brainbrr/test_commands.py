"""Command lines of scripts: what they may be, and what is said of those that cannot be watched."""

import re
import sys
from pathlib import Path

import pytest

from pytest_brainbrr.commands import Command, parse

PYTHON = Path(sys.executable)
ELSEWHERE = f"python{sys.version_info[0]}.{sys.version_info[1] + 1}"


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with scripts, and commands of this environment, of another one, and of none."""
    monkeypatch.chdir(tmp_path)
    for name in ("train.py", "my träin.py", "package/train.py", "app/__main__.py"):
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).touch()
    Path("train.sh").write_text("#!/bin/sh\npython train.py\n")
    Path("train.yaml").write_text("epochs: 2\n")
    Path("plain").write_text("import torch\n")
    Path("started").write_text("#!/usr/bin/env -S python3 -u\nimport torch\n")
    commands = {
        "entry": f"#!{PYTHON}\nimport torch\n",
        "far-entry": f"#!/bin/sh\n'''exec' \"{PYTHON}\" \"$0\" \"$@\"\n' '''\nimport torch\n",
        "foreign": "#!/opt/other/bin/python3\nimport torch\n",
        "shell": "#!/bin/bash\npython train.py\n",
        "binary": "\x7fELF\0",
    }
    Path("bin").mkdir()
    for name, text in commands.items():
        Path("bin", name).write_text(text)
        Path("bin", name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    return tmp_path


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("train.py --epochs 1", Command("train.py", ("--epochs", "1"))),
        ("./train.py --name 'a b \"c\"'", Command("./train.py", ("--name", 'a b "c"'))),
        ("train.py --only 'a && b'", Command("train.py", ("--only", "a && b"))),
        ("train.py lr=1 +x=[a,b] dir=${now:%Y}", Command("train.py", ("lr=1", "+x=[a,b]", "dir=${now:%Y}"))),
        ("python train.py", Command("train.py")),
        ("python3 -u train.py -u", Command("train.py", ("-u",), environment={"PYTHONUNBUFFERED": "1"})),
        (f"{PYTHON} -O -W error -X dev train.py", None),
        ("-m package.train -m x", Command("package.train", ("-m", "x"), module=True)),
        ("python -m torch.distributed.run train.py", Command("torch.distributed.run", ("train.py",), module=True)),
        ("A=1 B= python train.py", Command("train.py", environment={"A": "1", "B": ""})),
        ("env A=1 train.py C=1", Command("train.py", ("C=1",), environment={"A": "1"})),
        ("app --x", Command("app", ("--x",))),
        ("plain", Command("plain")),
        ("./started", Command("./started")),
        ("python train.yaml", Command("train.yaml")),
    ],
)
def test_what_a_command_line_says(text: str, expected: Command | None) -> None:
    if expected is None:
        set_ = {"PYTHONOPTIMIZE": "1", "PYTHONWARNINGS": "error", "PYTHONDEVMODE": "1"}
        expected = Command("train.py", environment=set_)
    assert parse(text) == expected


@pytest.mark.parametrize("name", ["entry", "far-entry"])
def test_commands_of_installed_packages(name: str, project: Path) -> None:
    assert parse(f"{name} train.py") == Command(str(project / "bin" / name), ("train.py",))
    assert parse(name).name == name


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "names no script"),
        ("python", "names no script"),
        ("A=1", "names no script"),
        ("-m", "names no module"),
        ("-m nothere.train", "no module 'nothere.train'"),
        ("'train.py", "no command line"),
        ("nothere.py --x", "no script 'nothere.py' here"),
        ("python entry", "no script 'entry' here"),
        ("package --x", "a folder without __main__.py"),
        ("train.py && evaluate.py", "needs a shell ('&&')"),
        ("train.py > log.txt", "needs a shell ('>')"),
        ("cd package && train.py", "needs a shell"),
        ("cd package", "needs a shell ('cd')"),
        ("env -u A train.py", "the option '-u' of env"),
        ("python -c 'import torch'", "a program after -c"),
        ("python -I train.py", "the interpreter's option '-I'"),
        ("python -W", "-W lacks its value"),
        (f"{ELSEWHERE} train.py", "pytest's own interpreter"),
        ("/opt/other/bin/python train.py", "/opt/other/bin/python -m pytest"),
        ("./train.sh --x", "it begins with '#!/bin/sh'"),
        ("train.yaml", "it ends in '.yaml'"),
        ("shell train.py", "it begins with '#!/bin/bash'"),
        ("binary train.py", "a binary file"),
        ("foreign train.py", "another environment, that of /opt/other/bin/python3"),
    ],
)
def test_what_cannot_be_watched_is_refused_in_words(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=re.escape(said)):
        parse(text)


def test_a_script_gives_its_target_a_name() -> None:
    assert parse("'my träin.py' --x 1").name == "my-träin"
    assert parse("python -m package.train --x 1").name == "package.train"


def test_a_refused_command_is_a_usage_error_wherever_it_is_named(pytester: pytest.Pytester) -> None:
    result = pytester.runpytest_subprocess("--smoke", "--smoke-script=bash train.sh")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    pytester.makeconftest(
        "import pytest_brainbrr as smoke\ndef pytest_brainbrr_targets(): yield smoke.Target('a', script='nothere.py')"
    )
    result = pytester.runpytest_subprocess("--smoke")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*no script 'nothere.py' here*"])
    assert "Traceback" not in result.stderr.str() + result.stdout.str()


def test_what_stands_before_the_script_reaches_it(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        train="""
        import os, sys
        told = os.environ["LEVEL"] == "7" and not __debug__ and sys.argv[1:] == ["--name", "a b"]
        sys.exit(0 if told else 3)
        """
    )
    result = pytester.runpytest_subprocess(
        "--smoke", "--smoke-script=LEVEL=7 python -O train.py --name 'a b'", "-k", "run-finishes"
    )
    result.assert_outcomes(passed=1)
