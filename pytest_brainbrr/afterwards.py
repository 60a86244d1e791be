"""What only the parent can add to a record once a run is over: the console, the files left, how a killed run ended."""

import csv
import json
import os
import re
import signal
import tomllib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any

from pytest_brainbrr.configurations import kind_of, plain_values
from pytest_brainbrr.trace import encode

LAST_LINES = 40
MAX_CONSOLE, KEPT_CONSOLE = 8 << 20, 1 << 20
"""A console longer than the first is cut down to its last part, of the length of the second."""
MAX_BYTES = 1 << 20
MAX_ROWS = 2000
MAX_FILES = 2000
CONFIGURATION = frozenset({".json", ".yaml", ".yml", ".toml"})
MEANINGS = {
    "SIGKILL": "most often the system's answer to a lack of memory",
    "SIGSEGV": "native code read memory that is not its own",
    "SIGABRT": "native code gave up, for instance on an assertion",
    "SIGBUS": "most often shared memory (/dev/shm) that is full",
}
CONTROLS = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b\][^\x07]*\x07|[\x00-\x08\x0b-\x1f\x7f]")
"""What a terminal would obey instead of showing it."""
OUR_FRAMES = re.compile(r'  File ".*(pytest_brainbrr[/\\](child|zygote)\.py|<frozen runpy>)", line \d+ in ')
"""Lines of the stacks of a run that took too long that say nothing about the target."""


def add_parent_events(home: Path, how: Mapping[str, Any]) -> None:
    """Complete the record of the run in ``home`` (folders ``work`` and ``trace``, file ``console.txt``)."""
    trace, lines = home / "trace", _last_lines(home / "console.txt")
    _shorten(home / "console.txt")
    main = _main_file(trace)
    written = main.read_text(encoding="utf-8", errors="replace").splitlines() if main is not None else []
    events = [*_files(home / "work", _logs(written)), *_configurations(written, home / "work")]
    ended = [place for place, line in enumerate(written) if line.startswith('{"kind":"exit"')]
    last = _last(written)
    if ended:
        event = json.loads(written[ended[-1]])
        lingered = [*event.get("lingered", []), *(how.get("left", []) if how.get("idle") else [])]
        if how.get("idle") and not lingered:
            lingered = ["the process itself"]
        written[ended[-1]] = encode({**event, "last_lines": lines, "lingered": lingered})
        assert main is not None
        main.write_text("\n".join(written) + "\n", encoding="utf-8")
    else:
        code = int(how["code"])
        replaced = code >= 0 and how["how"] != "timeout" and _replaced_itself(written)
        events.append(
            {
                "kind": "exit",
                "how": "timeout" if how["how"] == "timeout" else "system_exit" if replaced else "killed",
                "code": code,
                "exception": None,
                "message": str(code) if replaced else how.get("message", _last_words(code, how.get("left", []))),
                "traceback": None,
                "last_lines": lines,
                "steps": last.get("step", 0),
                "seconds": None,
                "observing_seconds": None,
                "result": None,
                "lingered": [],
            }
        )
    with (trace / "trace-parent.jsonl").open("w", encoding="utf-8") as file:
        for place, event in enumerate(events):
            common = {
                "n": int(last.get("n", -1)) + 1 + place,
                "t": last.get("t", 0.0) + 1e-6 * (place + 1),
                "pid": last.get("pid"),
            }
            file.write(encode({"role": "main", "step": last.get("step", 0), "after": False, **common, **event}) + "\n")


def _replaced_itself(lines: list[str]) -> bool:
    """Return whether the process went on as another program (os.execv), for instance to set its hash seed."""
    return any('"kind":"process_started"' in line and '"role":"rank"' in line for line in lines)


def _shorten(console: Path) -> None:
    """Keep the end of a console that nobody would read as a whole."""
    size = console.stat().st_size if console.exists() else 0
    if size <= MAX_CONSOLE:
        return
    with console.open("rb") as file:
        file.seek(-KEPT_CONSOLE, os.SEEK_END)
        kept = file.read()
    console.write_bytes(f"({size - KEPT_CONSOLE} bytes before this are left out)\n".encode() + kept)


def _last_words(code: int, left: Sequence[str] = ()) -> str:
    """Say how a process ended that could not say so itself."""
    if code >= 0:
        text = f"the process ended itself at once with status {code} (os._exit, or a native exit): no clean-up was run"
        return f"{text}; what it had put in the background was ended with it: {', '.join(left[:3])}" if left else text
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    meant = MEANINGS.get(name)
    return f"the process was ended by {name}" + (f": {meant}" if meant else "")


def _main_file(trace: Path) -> Path | None:
    for path in sorted(trace.glob("trace-*.jsonl")):
        with path.open(encoding="utf-8", errors="replace") as file:
            if any(
                '"kind":"process"' in line and '"role":"main"' in line for _, line in zip(range(20), file, strict=False)
            ):
                return path
    return None


def _last(lines: list[str]) -> dict[str, Any]:
    for line in reversed(lines):
        try:
            event: dict[str, Any] = json.loads(line)
        except json.JSONDecodeError:
            continue
        return event
    return {}


def _last_lines(console: Path) -> list[str]:
    if not console.exists():
        return []
    with console.open("rb") as file:
        file.seek(-min(65536, file.seek(0, os.SEEK_END)), os.SEEK_END)
        text = file.read().decode("utf-8", errors="replace")
    lines = (line.rstrip("\r").rpartition("\r")[2] for line in text.split("\n"))
    told = (CONTROLS.sub("", line)[:400] for line in lines if line.strip() and not OUR_FRAMES.match(line))
    return list(told)[-LAST_LINES:]


def _logs(written: list[str]) -> set[str]:
    """Return the JSON files that the run itself wrote: what it only read is no log."""
    opened = [json.loads(line) for line in written if line.startswith('{"kind":"file_open"') and ".json" in line]
    renamed = [json.loads(line) for line in written if line.startswith('{"kind":"rename"')]
    found = {str(event["path"]) for event in opened if event["mode"] == "write"}
    return found | {str(event["to"]) for event in renamed if str(event["source"]) in found}


def _files(work: Path, logs: set[str]) -> Iterator[dict[str, Any]]:
    # Code is what the mirror of a script's folder is laid out with, not what a run leaves.
    left = (path for path in work.rglob("*") if path.suffix != ".py" and path.is_file() and not path.is_symlink())
    for count, path in enumerate(sorted(left)):
        if count >= MAX_FILES:
            return
        name, size = str(path.relative_to(work)), path.stat().st_size
        yield {"kind": "file_left", "path": name, "bytes": size}
        if size <= MAX_BYTES and (path.suffix in {".csv", ".jsonl", ".ndjson"} or name in logs):
            rows = _rows(path)
            if rows:
                yield {"kind": "metrics_file", "path": name, "rows": rows}


def _configurations(written: list[str], work: Path) -> Iterator[dict[str, Any]]:
    """Yield what stands in the configuration files that the trainer itself read before its first step.

    What several files of one folder tell is left out: they are choices, and nobody says which of them is in force.
    """
    found: dict[str, dict[str, Any]] = {}
    for line in written:
        if line.startswith('{"kind":"step"'):
            break
        if not line.startswith('{"kind":"file_open"'):
            continue
        event = json.loads(line)
        path = work / event["path"]
        if event["mode"] != "read" or not event.get("own") or path.suffix not in CONFIGURATION or not path.is_file():
            continue
        tree = _parsed(path) if path.stat().st_size <= MAX_BYTES else None
        found[event["path"]] = plain_values(tree) if isinstance(tree, dict) else {}
    told = Counter((PurePath(name).parent, key) for name, values in found.items() for key in values)
    for name, values in found.items():
        sole = {key: value for key, value in values.items() if told[PurePath(name).parent, key] == 1}
        if any(kind_of(key.rpartition(".")[2])[0] for key in sole):
            yield {"kind": "configuration", "source": "file", "name": name, "values": sole, "undeclared": []}


def _parsed(path: Path) -> Any:
    """Return what a file of one of the usual formats says, None if it does not say it in that format."""
    text = path.read_text(encoding="utf-8", errors="replace")
    try:
        if path.suffix == ".json":
            return json.loads(text)
        if path.suffix == ".toml":
            return tomllib.loads(text)
        return _yaml(text)
    except ValueError:
        return None


def _yaml(text: str) -> Any:
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        return YAML(typ="safe", pure=True).load(text)
    except YAMLError:
        return None


def _rows(path: Path) -> list[dict[str, Any]]:
    text = path.read_text(encoding="utf-8", errors="replace")
    rows: list[dict[str, Any]] = []
    if path.suffix == ".csv":
        table = csv.DictReader(text.splitlines())
        rows.extend({str(key): _number(value) for key, value in row.items()} for row in table)
    elif path.suffix == ".json":
        rows.extend(_table(text))
    else:
        for line in text.splitlines():
            try:
                value = json.loads(line)
            except json.JSONDecodeError:
                continue
            if isinstance(value, dict):
                rows.append(value)
    return rows[:MAX_ROWS]


def _table(text: str) -> list[dict[str, Any]]:
    """Return the rows of a history in JSON: a list of mappings, or a mapping of lists that are equally long.

    >>> _table('{"history": {"loss": [2, 1], "auc": [0.5, 0.6]}}')
    [{'loss': 2, 'auc': 0.5}, {'loss': 1, 'auc': 0.6}]
    """
    try:
        value = json.loads(text)
    except json.JSONDecodeError:
        return []
    for tree in (value, *(value.values() if isinstance(value, dict) else ())):
        if isinstance(tree, list) and len(tree) > 1 and all(isinstance(row, dict) for row in tree):
            return [{str(key): one for key, one in row.items() if _plain(one)} for row in tree[:MAX_ROWS]]
        if isinstance(tree, dict):
            series = {str(key): one for key, one in tree.items() if isinstance(one, list) and len(one) > 1}
            series = {key: one for key, one in series.items() if all(map(_plain, one))}
            if series and len({len(one) for one in series.values()}) == 1:
                return [dict(zip(series, row, strict=True)) for row in zip(*series.values(), strict=True)][:MAX_ROWS]
    return []


def _plain(value: Any) -> bool:
    return isinstance(value, bool | int | float)


def _number(value: Any) -> Any:
    try:
        return float(value)
    except (TypeError, ValueError):
        return value
