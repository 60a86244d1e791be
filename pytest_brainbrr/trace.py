"""The record of one watched run: events in order, and questions to ask of them. Neither torch nor pytest.

The vocabulary (every kind of event, its fields, its limits) is in :mod:`pytest_brainbrr.vocabulary`. On disk a trace is
a folder of JSON-lines files, one per process (``trace-<pid>.jsonl``), merged by time when read. Unless they ask for
more, queries answer for the main process and leave out what happened after the step limit (``after``).

    >>> trace = Trace([{"kind": "exit", "n": 0, "how": "returned", "code": 0}])
    >>> trace.exit["how"], trace.finished, trace.events("step")
    ('returned', True, [])
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from pathlib import Path, PurePath
from typing import Any

from pytest_brainbrr.origins import forget_stale_batches
from pytest_brainbrr.vocabulary import VOCABULARY, Kind

__all__ = ["SCHEMA", "VOCABULARY", "Event", "Kind", "Trace", "decode", "encode"]

SCHEMA = 1
"""Version of the vocabulary, in every ``process`` event."""

Event = Mapping[str, Any]


def encode(event: Event) -> str:
    """Return one line of JSON, with Python's extension for NaN and infinities.

    >>> encode({"kind": "x", "mean": float("nan"), "shape": (2, 3)})
    '{"kind":"x","mean":NaN,"shape":[2,3]}'
    """
    return json.dumps(event, separators=(",", ":"), default=_plain)


def decode(line: str) -> dict[str, Any]:
    """Return the event of one line.

    >>> decode('{"kind":"x","mean":-Infinity}')
    {'kind': 'x', 'mean': -inf}
    """
    event: dict[str, Any] = json.loads(line)
    return event


class Trace:
    """Events of one run, in order, and questions to ask of them.

    Args:
        events: Events of all processes. Order is kept; :meth:`read` sorts them by time.
        directory: Folder they were read from.
    """

    def __init__(self, events: Iterable[Event], *, directory: Path | None = None) -> None:
        self.all: list[dict[str, Any]] = [dict(event) for event in events]
        self.directory = directory
        self._find_main()
        self._mark_phases()
        forget_stale_batches(self.all)
        self._follow_renames()

    @classmethod
    def read(cls, directory: Path) -> "Trace":
        """Read and merge the files of one run. A torn last line (a process that was killed) is left out."""
        events: list[dict[str, Any]] = []
        for path in sorted(directory.glob("trace-*.jsonl")):
            for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
                try:
                    events.append(decode(line))
                except json.JSONDecodeError:
                    continue
        events.sort(key=lambda event: event.get("t", 0.0))
        return cls(events, directory=directory)

    # ------------------------------------------------------------------ asking for events

    def events(
        self, kind: str, *, role: str | None = "main", after: bool = False, **fields: Any
    ) -> list[dict[str, Any]]:
        """Return the events of one kind whose fields have the given values.

        Args:
            kind: Kind of event; an unknown one is an error, so that a misspelt check cannot pass.
            role: ``main``, ``worker``, ``rank``, or None for all.
            after: Whether to include what happened after the step limit.
            fields: Values that fields must have.

        Raises:
            KeyError: no such kind, or no such field in it.
        """
        known = VOCABULARY[kind].fields
        for name in fields:
            if name not in known and name not in {"n", "t", "pid", "step"}:
                raise KeyError(f"{kind}.{name}")
        return [
            event
            for event in self._by_kind.get(kind, [])
            if (role is None or event.get("role", "main") == role)
            and (after or not event.get("after", False))
            and all(event.get(name) == value for name, value in fields.items())
        ]

    def first(self, kind: str, **fields: Any) -> dict[str, Any] | None:
        """Return the first such event, or None."""
        found = self.events(kind, **fields)
        return found[0] if found else None

    def last(self, kind: str, **fields: Any) -> dict[str, Any] | None:
        """Return the last such event, or None."""
        found = self.events(kind, **fields)
        return found[-1] if found else None

    def between(self, first: Event, last: Event, *kinds: str) -> list[dict[str, Any]]:
        """Return the events of the main process strictly between two events, of the given kinds (all if none)."""
        return [
            event
            for event in self.all
            if event.get("role", "main") == "main"
            and first["n"] < event["n"] < last["n"]
            and (not kinds or event["kind"] in kinds)
        ]

    @cached_property
    def _by_kind(self) -> dict[str, list[dict[str, Any]]]:
        kinds: dict[str, list[dict[str, Any]]] = {}
        for event in self.all:
            kinds.setdefault(event["kind"], []).append(event)
        return kinds

    # ------------------------------------------------------------------ the run as a whole

    @cached_property
    def exit(self) -> dict[str, Any]:
        """How the target ended; ``how`` is ``killed`` when the process left no word."""
        found = self.events("exit", after=True)
        return (
            found[-1]
            if found
            else {
                "kind": "exit",
                "how": "killed",
                "code": -9,
                "steps": 0,
                "exception": None,
                "message": "",
                "last_lines": [],
            }
        )

    @property
    def finished(self) -> bool:
        """Whether the target returned, or was stopped by the step limit."""
        return self.exit["how"] in {"returned", "stopped"} or (
            self.exit["how"] == "system_exit" and self.exit["code"] == 0
        )

    @property
    def process(self) -> dict[str, Any]:
        """Return the ``process`` event of the main process (empty if it never came)."""
        return self.first("process") or {}

    def lost(self, *observers: str) -> str | None:
        """Say which of these observers failed during the run, or None: what they record is then incomplete."""
        for event in self.events("observer_error", role=None, after=True):
            if not observers or event["observer"] in observers:
                return f"observer {event['observer']} failed: {event['error']}"
        return None

    # ------------------------------------------------------------------ parameters

    @cached_property
    def models(self) -> dict[str, dict[str, Any]]:
        """Root modules by id, as last recorded, wrappers left out where the root they wrap is known too."""
        latest = {event["id"]: event for event in self.events("model")}
        inner = {name: event for name, event in latest.items() if not event.get("wrapper")} or latest
        owned = {name: {fact["id"] for fact in event["parameters"]} for name, event in inner.items()}
        # A part that was called before its owner was known is no model of its own.
        return {
            name: event
            for name, event in inner.items()
            if not owned[name] or not any(owned[name] < other for other in owned.values())
        }

    @cached_property
    def parameters(self) -> dict[str, dict[str, Any]]:
        """Parameter facts by id, of all roots, as last recorded; with several roots names begin with the label."""
        return self._members("parameters")

    @cached_property
    def buffers(self) -> dict[str, dict[str, Any]]:
        """Buffer facts by id, like :attr:`parameters`."""
        return self._members("buffers")

    def _members(self, field: str) -> dict[str, dict[str, Any]]:
        found: dict[str, dict[str, Any]] = {}
        several = len([model for model in self.models.values() if model.get("parameters")]) > 1
        for model in self.models.values():
            for fact in model.get(field, []):
                name = f"{model['label']}/{fact['name']}" if several else fact["name"]
                found.setdefault(fact["id"], {**fact, "name": name, "model": model["id"]})
        return found

    def name(self, identity: str) -> str:
        """Return the name of a parameter, buffer, model or other thing by its id."""
        for table in (self.parameters, self.buffers):
            if identity in table:
                return str(table[identity]["name"])
        if identity in self.models:
            return str(self.models[identity]["label"])
        for step in self.events("step"):
            for fact in step["parameters"]:
                if fact["id"] == identity:
                    return str(fact["name"])
        return f"<unknown {identity[:1]}>"

    @cached_property
    def trainable(self) -> dict[str, dict[str, Any]]:
        """Parameters of roots that required a gradient at some time, by id."""
        ever = {
            fact["id"]
            for model in self.events("model")
            for fact in model.get("parameters", [])
            if fact.get("requires_grad")
        }
        return {identity: fact for identity, fact in self.parameters.items() if identity in ever}

    @cached_property
    def optimized(self) -> dict[str, str]:
        """Parameter id -> id of the optimizer that holds it."""
        return {
            identity: optimizer["id"]
            for optimizer in self.events("optimizer")
            for group in optimizer["groups"]
            for identity in group["parameters"]
        }

    def foreign(self) -> dict[str, str]:
        """Return tensors in optimizers that belong to no root module of the whole run: id -> optimizer."""
        return {
            identity: optimizer for identity, optimizer in self.optimized.items() if identity not in self.parameters
        }

    # ------------------------------------------------------------------ steps and calls

    @cached_property
    def steps(self) -> list[dict[str, Any]]:
        """Every ``step`` event, in order."""
        return self.events("step")

    def steps_of(self, parameter: str) -> Iterator[dict[str, Any]]:
        """Yield the facts of one parameter at every step of its optimizer."""
        for step in self.steps:
            for fact in step["parameters"]:
                if fact["id"] == parameter:
                    yield {**fact, "step": step["step"], "options": step["groups"][fact["group"]]}

    @property
    def skipped_steps(self) -> int:
        """How often a gradient scaler left a step out on purpose."""
        return len(self.events("scaler", action="step", skipped=True))

    @cached_property
    def train_calls(self) -> list[dict[str, Any]]:
        """Forward calls whose output a backward reached."""
        return self.events("forward", phase="train")

    @cached_property
    def eval_calls(self) -> list[dict[str, Any]]:
        """Forward calls of validation: outputs no backward reached, gradients off or module in eval mode."""
        return self.events("forward", phase="eval")

    def batches(self, phase: str) -> list[dict[str, Any]]:
        """Return the loader batches that fed forward calls of one phase (train, eval)."""
        wanted = {tuple(call["loader"]) for call in self.events("forward", phase=phase) if call.get("loader")}
        return [batch for batch in self.events("batch") if (batch["epoch"], batch["position"]) in wanted]

    def loaders(self, phase: str) -> list[dict[str, Any]]:
        """Return the loaders that fed forward calls of one phase."""
        wanted = {batch["loader"] for batch in self.batches(phase)}
        return [loader for loader in self.events("loader") if loader["id"] in wanted]

    def attribute(self, path: str, name: str) -> Any:
        """Return a recorded attribute of the module at ``path`` (of any root), or None."""
        for model in self.models.values():
            for module in model["modules"]:
                if module["path"] == path:
                    return module["attributes"].get(name)
        return None

    # ------------------------------------------------------------------ checkpoints

    @cached_property
    def checkpoints(self) -> list[dict[str, Any]]:
        """Writes that hold tensors and went to a file, in order."""
        return [event for event in self.events("checkpoint_write") if event["tensors"] and event["path"]]

    def snapshot_of(self, checkpoint: Event) -> dict[str, Any] | None:
        """Return the ``snapshot`` taken right before this write."""
        before = [event for event in self.events("snapshot", when="save", after=True) if event["n"] < checkpoint["n"]]
        return before[-1] if before else None

    # ------------------------------------------------------------------ what is only known later

    def _find_main(self) -> None:
        """Where the process that was started only launches others, let rank 0 stand for the run."""
        calling = {event.get("role", "main") for event in self.all if event["kind"] in {"forward", "backward"}}
        if "main" in calling or "rank" not in calling:
            return
        first = [event["pid"] for event in self.all if event["kind"] == "distributed" and event["rank"] == 0]
        first += [event["pid"] for event in self.all if event["kind"] == "forward" and event.get("role") == "rank"]
        kept = {"process", "exit", "file_left", "metrics_file"}
        for event in self.all:
            if event.get("role", "main") == "main" and event["kind"] not in kept:
                event["role"] = "launcher"
            elif event.get("pid") == first[0]:
                event["role"] = "main"
        taken = max((int(event["step"]) for event in self.all if event.get("pid") == first[0]), default=0)
        for event in self.all:
            if event["kind"] == "exit":
                event["steps"] = max(taken, int(event["steps"] or 0))

    def _mark_phases(self) -> None:
        reached = {
            (event.get("pid"), call) for event in self.all if event["kind"] == "backward" for call in event["forwards"]
        }
        for event in self.all:
            if event["kind"] != "forward":
                continue
            if (event.get("pid"), event["call"]) in reached:
                event["phase"] = "train"
            elif not event["grad_enabled"] or event["inference_mode"] or not event["training"]:
                event["phase"] = "eval"
            else:
                event["phase"] = "unused"

    def _after_buffer(self, place: int) -> str | None:
        """Return the file that was opened for writing right after something was saved into a buffer."""
        for event in self.all[place + 1 : place + 8]:
            if event["kind"] == "checkpoint_write":
                break
            if event["kind"] == "file_open" and event["mode"] == "write":
                return str(event["path"])
        return None

    def _follow_renames(self) -> None:
        renames = [event for event in self.all if event["kind"] == "rename"]
        for place, event in enumerate(self.all):
            if event["kind"] != "checkpoint_write":
                continue
            if event["path"] is None:
                event["path"] = self._after_buffer(place)
            final, atomic = event["path"], None if event["path"] is None else False
            for rename in renames:
                if rename["n"] > event["n"] and rename.get("pid") == event.get("pid") and final is not None:
                    moved = _renamed(str(final), rename["source"], rename["to"])
                    if moved is not None:
                        final, atomic = moved, True
            event["final"], event["atomic"] = final, atomic


def _renamed(path: str, source: str, to: str) -> str | None:
    """Return where ``path`` is after ``source`` was renamed ``to`` (a file, or a folder above it), or None."""
    if PurePath(path) == PurePath(source):
        return to
    if PurePath(path).is_relative_to(source):
        return str(PurePath(to) / PurePath(path).relative_to(source))
    return None


def _plain(value: Any) -> Any:
    return sorted(value) if isinstance(value, set | frozenset) else str(value)
