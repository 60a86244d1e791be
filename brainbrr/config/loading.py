"""Read a YAML file into a :class:`Config`, with errors that name the file, the line, the key and the nearest key."""

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from brainbrr.config.schema import Config
from brainbrr.errors import ConfigError


def load_config(path: str | Path, overrides: Sequence[str] = ()) -> Config:
    """Load and check a configuration file.

    Args:
        path: a YAML 1.2 file (so ``5e-4`` is a number and ``yes`` a string).
        overrides: ``section.key=value`` with the value in YAML; they win over the file.

    Raises:
        ConfigError: the file cannot be read, is no YAML mapping, or holds a wrong key or value.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError("no such configuration file", where=path) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot be read as a configuration file: {error}", where=path) from error
    tree, lines = _parse(text, path)
    for override in overrides:
        apply_override(tree, override)
    return _validate(tree, lines, path)


def config_from_mapping(tree: Mapping[str, Any], where: str | Path) -> Config:
    """Check a configuration that is already a mapping, for instance one stored in a checkpoint at ``where``."""
    return _validate(dict(tree), {}, Path(where))


Lines = dict[tuple[str, ...], int]


def _parse(text: str, path: Path) -> tuple[dict[str, Any], Lines]:
    try:
        tree = YAML(typ="safe", pure=True).load(text)
        nodes = YAML().compose(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = path if mark is None else f"{path}:{mark.line + 1}"
        raise ConfigError(f"no YAML: {error.problem or error.context}", where=place) from None
    except YAMLError as error:
        raise ConfigError(f"no YAML: {' '.join(str(error).split())}", where=path) from None
    if not isinstance(tree, dict):
        kind = "an empty file" if tree is None else type(tree).__name__
        raise ConfigError("not a configuration", where=path, got=kind, expected="a mapping of sections")
    lines: Lines = {}
    _collect_lines(nodes, (), lines)
    return tree, lines


def _collect_lines(node: Any, prefix: tuple[str, ...], lines: Lines) -> None:
    if node.id != "mapping":
        return
    for key, value in node.value:
        place = (*prefix, str(key.value))
        lines[place] = key.start_mark.line + 1
        _collect_lines(value, place, lines)


def apply_override(tree: dict[str, Any], override: str) -> None:
    """Set the key of ``section.key=value`` in ``tree``.

    Raises:
        ConfigError: it has not that form, or its value is no YAML.
    """
    key, equals, text = override.partition("=")
    names = key.strip().split(".")
    if not equals or not all(names):
        raise ConfigError("not an override", where="--set", got=repr(override), expected="section.key=value")
    try:
        value = YAML(typ="safe", pure=True).load(text)
    except YAMLError:
        raise ConfigError("the value is no YAML", where=f"--set {key}", got=repr(text)) from None
    branch = tree
    for name in names[:-1]:
        below = branch.setdefault(name, {})
        if not isinstance(below, dict):
            raise ConfigError("not a section", where=f"--set {key}", got=repr(name))
        branch = below
    branch[names[-1]] = value


def _validate(tree: dict[str, Any], lines: Lines, path: Path) -> Config:
    try:
        return Config.model_validate(tree)
    except ValidationError as invalid:
        problems = [_describe(detail, lines, path) for detail in invalid.errors()]
    except ConfigError as misfit:  # of sections that are right each for itself
        misfit.where = f"{path}: {misfit.where}"
        raise
    first, rest = problems[0], problems[1:]
    if rest:
        first.hint = " ".join(filter(None, [first.hint, "Also:", "; ".join(str(problem) for problem in rest)]))
    raise first


def _describe(detail: ErrorDetails, lines: Lines, path: Path) -> ConfigError:
    keys = tuple(str(part) for part in detail["loc"])
    # The location of an error inside a value (an element, a branch of a union) is longer than that of its key.
    known = next((keys[:n] for n in range(len(keys), 0, -1) if keys[:n] in lines), ())
    place = f"{path}:{lines[known]}" if known else str(path)
    name = ".".join(keys)
    if detail["type"] == "extra_forbidden":
        names = detail.get("ctx", {}).get("known") or _siblings(keys)  # an encoder brings its keys along
        nearest = difflib.get_close_matches(keys[-1], names, n=1, cutoff=0.5)
        hint = f"Did you mean {nearest[0]!r}?" if nearest else f"Known keys: {', '.join(names) or 'none'}"
        return ConfigError(f"unknown key {name!r}", where=place, hint=hint)
    if detail["type"] == "missing":
        return ConfigError(f"missing key {name!r}", where=place, hint=f"Add {name!r}")
    message = detail["msg"].removeprefix("Value error, ")
    return ConfigError(
        f"wrong value of {name!r}", where=place, got=repr(detail["input"]), expected=message[:1].lower() + message[1:]
    )


def _siblings(keys: tuple[str, ...]) -> list[str]:
    section: type[BaseModel] = Config
    for key in keys[:-1]:
        field = section.model_fields.get(key)
        if field is None or not (isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)):
            return []
        section = field.annotation
    return sorted(section.model_fields)
