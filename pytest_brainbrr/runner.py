"""Run a target under observers, as often as the checks need, and judge: the parent's side. Imports no torch.

Every run happens in a fresh folder and a fresh process. ``straight`` comes first and is the yardstick; the others are
run side by side where the machine has room.
"""

import errno
import os
import shutil
import sys
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pytest_brainbrr.afterwards import add_parent_events
from pytest_brainbrr.checks.base import broke_off
from pytest_brainbrr.checks.catalogue import CHECKS, Check, judge
from pytest_brainbrr.checks.feeds import validation_feeds
from pytest_brainbrr.commands import parse
from pytest_brainbrr.label_places import label_places, padded_places, spaced_out
from pytest_brainbrr.mirror import carry_over, mirror
from pytest_brainbrr.packing import pack
from pytest_brainbrr.passes import begins_with_a_pass, short_passes, shows_more, stopped_early
from pytest_brainbrr.processes import Running, execute, start_early
from pytest_brainbrr.results import Report
from pytest_brainbrr.resuming import choose_checkpoint, counts_passes, reads, steps_behind, where_to_stop
from pytest_brainbrr.spec import Spec
from pytest_brainbrr.targets import TIMEOUT_S, Target
from pytest_brainbrr.touching import held_out
from pytest_brainbrr.trace import Trace

__all__ = ["Runs", "run"]

PLACE = (
    "checkpoints are written only where passes are cut short, and the trainer finds its place by counting steps "
    "(let it be told how many to take: steps_argument, --smoke-script-steps)"
)
SHORT_S = 20.0
"""A run that takes less is made whole again where a part of it might do."""
PATIENCE_S = 20.0
"""How long a run that may hang by its nature is waited for, beyond three times the straight run."""
LEAST_FREE = 1 << 16
"""Bytes that must be left on the disk after a run, else its record may be cut short."""
FRESH = frozenset({"repeat", "unwatched"})
"""Plans whose interpreter is no twin of the straight run's: another hash seed, so an order of sets shows."""


def run(
    target: Target,
    *,
    workdir: str | os.PathLike[str],
    steps: int = 6,
    checks: Iterable[str] | None = None,
    timeout_s: float = TIMEOUT_S,
) -> Report:
    """Run a target, watched, and judge it.

    Args:
        target: What to run.
        workdir: Folder for everything the runs write; made if missing.
        steps: Optimizer steps of the longest run.
        checks: Ids of the checks wanted; all of them by default. Only the runs they need are made.
        timeout_s: How long one run may take, for targets that do not say so themselves.

    Raises:
        KeyError: an unknown check id.
        ValueError: fewer than two steps, a failure expected without a reason, or a script that is none.
    """
    if steps < 2:
        raise ValueError(f"a smoke run needs at least two steps, got {steps}")
    limit = target.timeout_s if target.timeout_s is not None else timeout_s
    target = replace(target, expected_failures=target.declared_failures(), marks=(), timeout_s=limit)
    wanted = _chosen(checks)
    runs = Runs(target, Path(workdir).resolve(), steps)
    runs.make({plan for check in wanted for plan in check.plans})
    return Report(target.name, judge(wanted, runs.traces, target, runs.missing), facts=runs.facts())


def _chosen(checks: Iterable[str] | None) -> tuple[Check, ...]:
    if checks is None:
        return CHECKS
    known = {check.id: check for check in CHECKS}
    return tuple(known[name] for name in checks)


@dataclass(frozen=True)
class Done:
    """One finished run."""

    trace: Trace
    folder: Path
    seconds: float


class Runs:
    """The runs of one target: which were made, and why the others were not."""

    def __init__(self, target: Target, folder: Path, steps: int) -> None:
        self.target, self.folder, self.steps = target, folder, steps
        self._script = parse(target.script) if target.script is not None else None
        self._running = Running()
        self.done: dict[str, Done] = {}
        self.missing: dict[str, str] = {}
        self._checkpoint: Path | None = None
        self._pickle: Path | None = None

    @property
    def traces(self) -> dict[str, Trace]:
        """Plan -> trace of the runs that were made."""
        return {plan: done.trace for plan, done in self.done.items()}

    # ------------------------------------------------------------------ what to run

    def make(self, plans: set[str]) -> None:
        """Make the runs of these plans that can be made."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self._pickle = pack(self.target, self.folder / "target.pkl")
        straight = self._spec("straight")
        if plans & FRESH:
            start_early(straight)
        self.done["straight"] = self._execute(straight)
        if "cut" in plans:
            self._cut()
        self._execute_all(self._first(plans))
        if "stopped" in self.done:
            self.done["probe"] = self.done["stopped"]
        self._resume(plans)

    def _cut(self) -> None:
        """Make the run with passes cut short, and keep it if it shows what the straight run did not come to."""
        straight = self.done["straight"].trace
        if not straight.finished or not stopped_early(straight):
            self.missing["cut"] = "the straight run came to the end of a pass, or uses no loader of torch"
            return
        # A thread that feeds from one pass leaves its consumer waiting when that pass ends: not for long.
        longest = PATIENCE_S + 3 * self.done["straight"].seconds
        done = self._execute(self._spec("cut", cut=short_passes(straight)), longest)
        if done.trace.finished and shows_more(done.trace, straight):
            self.done["cut"] = done
        else:
            self.missing["cut"] = "where passes end early, no validation and no checkpoint follow"

    def _first(self, plans: set[str]) -> list[Spec]:
        """Return the runs that need no other than the straight one."""
        first: list[Spec] = []
        if "repeat" in plans:
            self._plan(first, "repeat", None if self.target.seeded else "the target is declared not to honor seeds")
        if "reseeded" in plans:
            reason = None if self.target.seeded else "the target is declared not to honor seeds"
            if reason is None and self.target.script is not None and self.target.seed_argument is None:
                reason = "the script is not told a seed (seed_argument, --smoke-script-seed)"
            self._plan(first, "reseeded", reason, seed=1, limit=min(2, self.steps))
        for variant in ("no_positives", "non_finite", "canary"):
            if variant in plans:
                reason = (
                    None
                    if variant in self.target.variants
                    else f"the target does not declare the data variant {variant!r}"
                )
                limited = {"limit": 2} if variant == "canary" else {}
                self._plan(first, variant, reason, data=variant, **limited)
        if "touched" in plans:
            files = held_out(self.done["straight"].trace) if self.target.prepare is not None else []
            reason = None if files else "no held-out file that could be changed was laid out by prepare and read"
            self._plan(first, "touched", reason, touch=files)
        self._other_labels(plans, first)
        if "unwatched" in plans:
            self._plan(first, "unwatched", None, watched=False)
        first += self._halfway(plans & {"stopped", "resumed", "reload", "probe"})
        return first

    def _halfway(self, plans: set[str]) -> list[Spec]:
        """Return the run that is stopped, or say why there is none."""
        straight = self.done["straight"].trace
        late = "the straight run did not end in time" if straight.exit["how"] == "timeout" else None
        reason = broke_off(straight) or late
        if plans and reason is not None:
            self.missing.update(dict.fromkeys(plans, reason))
            return []
        return [self._stopped()] if plans else []

    def _other_labels(self, plans: set[str], first: list[Spec]) -> None:
        trace = self.done["straight"].trace
        if "relabeled" in plans:
            places = spaced_out(trace, label_places(trace))
            reason = None if places else "no label of two values or more was seen in the batches of a torch loader"
            self._plan(first, "relabeled", reason, relabel=places, **self._validated())
        if "padded" in plans:
            places = padded_places(trace)
            reason = None if places else "no batch with a label per sample beside a mask or lengths was seen"
            self._plan(first, "padded", reason, relabel=places, limit=min(2, self.steps))

    def _validated(self) -> dict[str, int]:
        """Return after how many steps, at least four, the first validation has been; no limit to a short run."""
        straight = self.done["straight"]
        if straight.seconds < SHORT_S:
            return {}  # what it says of its validation at the end counts, too
        steps = [feed.call["step"] for feed in validation_feeds(straight.trace) if feed.call["step"]]
        return {"limit": min(self.steps, max(4, min(steps, default=4)))}

    def _plan(self, specs: list[Spec], plan: str, reason: str | None, **changes: Any) -> None:
        straight = self.done["straight"].trace
        if reason is None and plan not in {"no_positives", "non_finite"} and not straight.finished:
            reason = f"the straight run did not end well ({straight.exit['how']})"
        if reason is not None:
            self.missing[plan] = reason
        else:
            specs.append(self._spec(plan, **changes))

    def _stopped(self) -> Spec:
        """Return the run that stops: after a step at which the trainer itself writes a checkpoint, if there is one."""
        at, written = where_to_stop(self.traces["cut" if self._saved_when_cut else "straight"], self.steps)
        keep = str(self.folder / "probe_input.pt")
        if written or self._stopped_outside:
            return self._spec("stopped", limit=at, probes=True, probe_input=keep, cut=self._lengths)
        # No checkpoint before the end: the trainer is told to do fewer steps, so its horizon is shorter too.
        return self._spec("stopped", max_steps=at, probes=True, probe_input=keep)

    def _resume(self, plans: set[str]) -> None:
        wanted = plans & {"resumed", "reload"}
        if not wanted:
            return
        reason = self._why_not_resumed()
        if reason is not None:
            self.missing.update(dict.fromkeys(wanted, reason))
            return
        assert self._checkpoint is not None
        self._execute_all([self._next(plan) for plan in sorted(wanted)])
        for plan in sorted(wanted):
            if self.target.resumable is None and not reads(self.traces[plan], self._checkpoint):
                self._drop(plan, "the target does not open run.resume_from: it cannot be resumed")
            elif plan == "resumed" and self._saved_when_cut and not self._goes_on_with_a_pass():
                self._drop(plan, PLACE)

    def _next(self, plan: str) -> Spec:
        """Return the run that resumes: to the same number of steps, or (`reload`) without any."""
        changes: dict[str, Any] = {"resume_from": str(self._resumed_from(plan))}
        if plan == "reload":
            return self._spec(plan, limit=0, probes=True, probe_input=str(self.folder / "probe_input.pt"), **changes)
        if self._stopped_outside:
            assert self._checkpoint is not None
            stopped = self.done["stopped"]
            taken = steps_behind(self._checkpoint, stopped.trace, stopped.folder)
            changes["limit"] = max(1, self.steps - taken)
        return self._spec(plan, cut=self._lengths, **changes)

    def _goes_on_with_a_pass(self) -> bool:
        """Return whether the trainer counts passes: its place in one may follow from how many samples there are."""
        assert self._checkpoint is not None
        stopped = self.done["stopped"]
        counted = counts_passes(self._checkpoint, stopped.trace, stopped.folder)
        return counted and begins_with_a_pass(self.traces["resumed"])

    def _drop(self, plan: str, reason: str) -> None:
        del self.done[plan]
        self.missing[plan] = reason

    @property
    def _saved_when_cut(self) -> bool:
        """Whether checkpoints were written only where passes were cut short."""
        return (
            "cut" in self.done and not self.done["straight"].trace.checkpoints and bool(self.traces["cut"].checkpoints)
        )

    @property
    def _lengths(self) -> dict[str, int] | None:
        """Return how long loaders are where checkpoints are written only if they are short."""
        return short_passes(self.done["straight"].trace) if self._saved_when_cut else None

    @property
    def _stopped_outside(self) -> bool:
        """Whether nobody tells the target how many steps to take."""
        return self.target.script is not None and self.target.steps_argument is None

    def _resumed_from(self, plan: str) -> Path:
        """Return the checkpoint as a run is told it: a script is told one in its own folder."""
        assert self._checkpoint is not None
        folder = self.done["stopped"].folder
        if self.target.script is None or not self._checkpoint.is_relative_to(folder):
            return self._checkpoint
        return self.folder / plan / "work" / self._checkpoint.relative_to(folder)

    def _why_not_resumed(self) -> str | None:
        if self.target.script is not None and self.target.resume_argument is None:
            return "the script is not told what to resume from (resume_argument, --smoke-script-resume)"
        if self.target.resumable is False:
            return "the target is declared not resumable"
        if "stopped" not in self.done:
            return self.missing.get("stopped", "there is no stopped run")
        stopped = self.done["stopped"]
        if not stopped.trace.finished:
            return (
                f"the stopped run did not end well ({stopped.trace.exit['how']}: {stopped.trace.exit['message'][:120]})"
            )
        self._checkpoint = choose_checkpoint(stopped.trace, stopped.folder)
        return None if self._checkpoint is not None else "the stopped run left no checkpoint"

    # ------------------------------------------------------------------ how to run

    def _spec(self, plan: str, **changes: Any) -> Spec:
        home = self.folder / plan
        spec = replace(
            Spec(
                name=self.target.name,
                plan=plan,
                workdir=str(home / "work"),
                trace=str(home / "trace"),
                pickle=str(self._pickle) if self._pickle is not None else None,
                script=None,
                max_steps=self.steps,
                # Those who are told may round up to whole epochs.
                limit=self.steps if self._stopped_outside else self.steps + 2,
                environment=self._script.environment if self._script is not None else {},
                causal=self.target.causal,
                sys_path=[self._seen_from(home / "work", path or str(Path.cwd())) for path in sys.path],
                cwd=str(Path.cwd()) if self.target.script is None else str(home / "work"),
            ),
            **changes,
        )
        return replace(spec, script=self._command(spec))

    def _seen_from(self, work: Path, path: str) -> str:
        """Return where a folder of modules lies for a run: a script imports the mirror's, not the original ones."""
        own = self.target.script is not None and "site-packages" not in path
        if not own or not Path(path).is_relative_to(Path.cwd()) or Path(path).is_relative_to(sys.prefix):
            return path
        return str(work / Path(path).relative_to(Path.cwd()))

    def _command(self, spec: Spec) -> list[str] | None:
        if self._script is None:
            return None
        command = [
            *self._script.words,
            *self.target.told(seed=spec.seed, max_steps=spec.max_steps, resume_from=spec.resume_from),
        ]
        if not self._script.module and not Path(command[0]).resolve().is_relative_to(Path.cwd()):
            command[0] = str(Path(command[0]).resolve())  # else it runs from the mirror, relative as it was given
        return command

    def _execute_all(self, specs: list[Spec]) -> None:
        together = self._room()
        with ThreadPoolExecutor(max_workers=together) as pool:
            try:
                for spec, done in zip(specs, pool.map(self._execute, specs), strict=True):
                    self.done[spec.plan] = done
            except BaseException:  # Ctrl-C, or somebody's time limit: nobody waits for the runs under way
                pool.shutdown(wait=False, cancel_futures=True)
                self._running.end()
                raise

    def _room(self) -> int:
        """Return how many runs fit side by side: two of them where the memory of three is free."""
        peaks = [event["rss_mb"] or 0 for event in self.done["straight"].trace.events("memory")]
        needed = max(peaks, default=2000.0)
        return 2 if _available_mb() > 3 * needed and (os.cpu_count() or 1) > 1 else 1

    def _execute(self, spec: Spec, longest: float = float("inf")) -> Done:
        home = self.folder / spec.plan
        if home.exists():
            names = {path.name for path in home.iterdir()}
            if "spec.json" not in names and not names <= {"work", "trace"}:
                raise FileExistsError(f"{home} is no folder of a smoke run: choose another workdir")
            shutil.rmtree(home)
        (home / "work").mkdir(parents=True)
        (home / "trace").mkdir()
        if self.target.script is not None:
            mirror(Path.cwd(), home / "work", skip=self.folder)
            if spec.resume_from is not None:
                carry_over(self.done["stopped"].folder, home / "work")
        spec.write(home / "spec.json")
        began = time.monotonic()
        how = execute(
            spec,
            home,
            timeout_s=min(self.target.timeout_s or TIMEOUT_S, longest),
            fresh=spec.plan in FRESH,
            running=self._running,
        )
        seconds = time.monotonic() - began
        if shutil.disk_usage(home).free < LEAST_FREE:
            raise OSError(errno.ENOSPC, "the disk is full, and the record cut short: name another place", str(home))
        add_parent_events(home, how)
        return Done(Trace.read(home / "trace"), home / "work", seconds)

    # ------------------------------------------------------------------ what the summary shows

    def facts(self) -> dict[str, Any]:
        """Return what the report says of the runs."""
        done = self.done["straight"]
        trace = done.trace
        devices: dict[str, int] = {}
        for event in trace.events("weights"):
            devices.update(event["devices"])
        found: dict[str, Any] = {
            "device": ", ".join(sorted(devices)) or "unknown",
            "steps": int(trace.exit["steps"]),
            "seconds": round(sum(run.seconds for plan, run in self.done.items() if plan != "probe"), 2),
            "straight_seconds": round(done.seconds, 2),
            "runs": {
                plan: {"seconds": round(run.seconds, 2), "how": run.trace.exit["how"]}
                for plan, run in self.done.items()
            },
            "exit": {key: trace.exit.get(key) for key in ("how", "code", "exception", "message", "last_lines")},
            "versions": trace.process.get("versions", {}),
        }
        broken = broke_off(trace)
        if broken is not None:
            found["broke_off"] = broken
        if self.target.facts is not None:
            found.update(self.target.facts(done.folder))
        return found


def _available_mb() -> float:
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) / 1024
    except OSError:
        pass  # not Linux: one run at a time needs no figure
    return 0.0
