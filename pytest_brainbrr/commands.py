"""A command line of a training script, taken apart: what is set in the environment, what runs, and its arguments.

No shell is involved, and only Python can be watched: what a shell would do, and what is no Python program, is refused
in words. Programs that start Python themselves (torchrun, accelerate launch) are Python programs.
"""

import ast
import os
import re
import shlex
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.machinery import PathFinder
from pathlib import Path

PYTHON = re.compile(r"python(w|\d+(\.\d+)?t?)?(\.exe)?")
ASSIGNMENT = re.compile(r"[A-Za-z_][A-Za-z0-9_]*=")
SHELL_WORDS = {"&&", "||", "|", "&", ";", ">", ">>", "<", "2>", "&>", "2>&1"}
FLAGS = {
    "-u": ("PYTHONUNBUFFERED", "1"),
    "-O": ("PYTHONOPTIMIZE", "1"),
    "-OO": ("PYTHONOPTIMIZE", "2"),
    "-B": ("PYTHONDONTWRITEBYTECODE", "1"),
    "-s": ("PYTHONNOUSERSITE", "1"),
    "-Xdev": ("PYTHONDEVMODE", "1"),
    "-Xutf8": ("PYTHONUTF8", "1"),
    "-Xfaulthandler": ("PYTHONFAULTHANDLER", "1"),
}
"""Options of the interpreter -> the variable that says the same."""
EXAMPLES = "'train.py --epochs 1', '-m package.train --epochs 1' or 'torchrun --nproc-per-node 2 train.py'"
INSTEAD = f"name the Python command that it starts or that reads it, for instance {EXAMPLES}"


@dataclass(frozen=True)
class Command:
    """What a command line says."""

    program: str
    """Path of a script, or the name of a module."""
    arguments: tuple[str, ...] = ()
    module: bool = False
    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def words(self) -> list[str]:
        """Return it as :class:`~pytest_brainbrr.spec.Spec` holds it."""
        return [*(["-m"] if self.module else []), self.program, *self.arguments]

    @property
    def name(self) -> str:
        """Return what its target is called: spaces and separators become hyphens."""
        text = self.program if self.module else Path(self.program).stem
        return "".join("-" if sign in "[]:/\\ " else sign for sign in text) or "script"


def parse(text: str, folder: Path | None = None) -> Command:
    """Take a command line apart, as it would run in ``folder`` (by default the current one).

    Raises:
        ValueError: it is no command line, needs a shell, or runs something that is no Python program.
    """
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise ValueError(f"{text!r} is no command line: {error}") from error
    folder = folder if folder is not None else Path.cwd()
    _refuse_shell(text, words)
    environment, words = _environment(text, words)
    given: str | None = None
    if words and PYTHON.fullmatch(Path(words[0]).name):
        given, words = words[0], words[1:]
        _refuse_other_interpreter(given)
        flags, words = _flags(text, words)
        environment |= flags
    if words[:1] == ["-m"]:
        if len(words) < 2:
            raise ValueError(f"{text!r} names no module after -m: expected something like {EXAMPLES}")
        if PathFinder.find_spec(words[1].partition(".")[0], [str(folder), *sys.path]) is None:
            raise ValueError(f"there is no module {words[1]!r} here ({folder}), and none of that name is installed")
        return Command(words[1], tuple(words[2:]), module=True, environment=environment)
    if not words or not words[0]:
        raise ValueError(f"{text!r} names no script: expected something like {EXAMPLES}")
    return Command(_program(words[0], folder, python=given is not None), tuple(words[1:]), environment=environment)


def _refuse_shell(text: str, words: list[str]) -> None:
    bare = re.sub(r"'[^']*'|\"(\\.|[^\"\\])*\"|\\.", "_", text).split()
    signs = [word for word in bare if word in SHELL_WORDS or word.endswith((";", "&"))]
    if signs:
        raise ValueError(
            f"{text!r} needs a shell ({signs[0]!r}), and none is involved: name the one Python command to watch, "
            f"for instance {EXAMPLES}; quote {signs[0]!r} if it is an argument"
        )
    if words[:1] in (["cd"], ["source"], ["export"]):
        raise ValueError(
            f"{text!r} needs a shell ({words[0]!r}), and none is involved: start pytest where it should run"
        )


def _environment(text: str, words: list[str]) -> tuple[dict[str, str], list[str]]:
    """Take the assignments off: ``VAR=1 python train.py`` and ``env VAR=1 python train.py``."""
    found: dict[str, str] = {}
    if words and Path(words[0]).name == "env":
        words = words[1:]
        if words and words[0].startswith("-"):
            raise ValueError(f"{text!r}: got the option {words[0]!r} of env, expected assignments such as VAR=1 only")
    while words and ASSIGNMENT.match(words[0]) and not Path(words[0]).exists():
        name, _, value = words[0].partition("=")
        found[name] = value
        words = words[1:]
    return found, words


def _flags(text: str, words: list[str]) -> tuple[dict[str, str], list[str]]:
    """Take the interpreter's options off."""
    found: dict[str, str] = {}
    while words and words[0].startswith("-") and words[0] != "-m":
        word, words = words[0], words[1:]
        if word in {"-W", "-X"}:
            if not words:
                raise ValueError(f"{text!r}: {word} lacks its value")
            word, words = word + words[0], words[1:]
        if word.startswith("-W"):
            found["PYTHONWARNINGS"] = ",".join(filter(None, (found.get("PYTHONWARNINGS"), word[2:])))
        elif word in FLAGS:
            name, value = FLAGS[word]
            found[name] = value
        elif word.startswith("-c"):
            raise ValueError(f"{text!r}: a program after -c cannot be watched: write it to a file and name that")
        else:
            known = ", ".join([*FLAGS, "-W", "-m"])
            raise ValueError(f"{text!r}: got the interpreter's option {word!r}, expected one of {known}")
    return found, words


def _refuse_other_interpreter(word: str) -> None:
    """Scripts run in pytest's interpreter: another one has other packages."""
    own = Path(sys.executable)
    version = re.search(r"\d+(\.\d+)?", Path(word).name)
    same_version = version is None or f"{sys.version_info[0]}.{sys.version_info[1]}.".startswith(f"{version[0]}.")
    elsewhere = Path(word).parent != Path() and _folder_of(Path(word)) != _folder_of(own)
    if elsewhere or not same_version:
        raise ValueError(
            f"a script runs in pytest's own interpreter ({own}): got {word!r}, expected 'python' or that path; "
            f"to use another, run pytest with it: {word} -m pytest"
        )


def _folder_of(path: Path) -> Path:
    return Path(os.path.abspath(path)).parent.resolve()  # noqa: PTH100 (an environment's interpreter is a link)


def _program(word: str, folder: Path, *, python: bool) -> str:
    """Return the script that a word names: a file here, or a command of an installed package."""
    place = folder / word
    if place.is_file() or (place / "__main__.py").is_file():
        problem = None if python or place.is_dir() else _no_python(place)
        if problem is not None:
            raise ValueError(f"{word!r} is no Python script ({problem}), and only Python can be watched: {INSTEAD}")
        return word
    found = None if python or place.is_dir() else shutil.which(word)
    if found is None:
        if place.is_dir():
            raise ValueError(f"{word!r} is a folder without __main__.py: name a script, for instance {EXAMPLES}")
        also = "" if python else ", and no command of that name"
        raise ValueError(f"there is no script {word!r} here ({folder}){also}: expected something like {EXAMPLES}")
    problem = _no_python(Path(found), installed=True)
    if problem is not None:
        raise ValueError(f"{word!r} is no Python program of pytest's environment ({found}: {problem}): {INSTEAD}")
    return found


def _no_python(path: Path, *, installed: bool = False) -> str | None:
    """Return why a file is no Python program, or with ``installed`` none of this environment; None if it is one."""
    if path.suffix in {".py", ".pyw", ".pyz"} and not installed:
        return None
    content = path.read_bytes() if os.access(path, os.R_OK) else b"\0"
    if b"\0" in content[:4096]:
        return "it is a binary file, or one that cannot be read"
    first, second, *_ = [*content[:4096].decode("utf-8", errors="replace").splitlines(), "", ""]
    if first.startswith("#!"):
        return _not_its(first, second, installed=installed)
    if installed or path.suffix:
        return f"it ends in {path.suffix!r}" if path.suffix else "its first line names no interpreter"
    try:
        ast.parse(content)
    except (SyntaxError, ValueError) as error:
        return f"it holds no Python: {error}"
    return None


def _not_its(first: str, second: str, *, installed: bool) -> str | None:
    """Return why the interpreter that a program's first lines name is not the one to run it, None if it is."""
    # pip's launchers name it in the second line where the first cannot hold its path.
    launcher = re.match(r"'''exec' \"?([^\"]+?)\"? \"\$0\"", second)
    words = [launcher[1]] if launcher else first[2:].split()
    python = next((word for word in words if PYTHON.fullmatch(Path(word).name)), None)
    if python is None:
        return f"it begins with {first!r}"
    by_name = Path(python).parent == Path()
    if installed and not by_name and _folder_of(Path(python)) != _folder_of(Path(sys.executable)):
        return f"it runs in another environment, that of {python}"
    return None
