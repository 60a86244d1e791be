"""The run ends well, takes steps, and hides neither an exception nor a NaN."""

import math
from collections.abc import Iterator, Mapping

from pytest_brainbrr.checks.base import Check, Vacuous
from pytest_brainbrr.checks.iterations import Event, calls, error, no_steps, places, turns, warning
from pytest_brainbrr.results import Finding
from pytest_brainbrr.targets import Target
from pytest_brainbrr.trace import Trace

IMPORTS = (
    "runs use pytest's interpreter: install there what is missing, run pytest with the interpreter that has it "
    "(path/to/python -m pytest), or start pytest in the folder that the script is started from"
)
HINTS = {
    "timeout": "mend what it waits for (the evidence shows where it was), or give it more time: --smoke-timeout",
    "ModuleNotFoundError": IMPORTS,
    "ImportError": IMPORTS,
}
"""How a run ended -> how to mend it."""
TRACEBACK = "Traceback (most recent call last)"


def finishes(traces: Mapping[str, Trace], target: Target) -> Iterator[Finding]:
    """The target returns, exits with 0, or is stopped by the step limit."""
    end = traces["straight"].exit
    if traces["straight"].finished:
        if end.get("lingered") and end["how"] != "stopped":
            yield warning(
                "run-finishes",
                "<run>",
                "the target returned, but its process did not end: what it had started went on and did nothing",
                cause="a thread, or a process, that waits for a word which never comes",
                hint="stop and join what the script starts, or make it a daemon; run by hand, it hangs at its end",
                lingered=list(end["lingered"])[:8],
            )
        return
    name = end.get("exception") or end["how"]
    message = str(end.get("message") or "").strip()
    if end["how"] == "system_exit" and message.lstrip("-").isdigit():
        message = f"it exited with status {message}; what it said last is in the evidence"
    yield error(
        "run-finishes",
        "<run>",
        f"the run did not end well: {name}",
        cause=message.splitlines()[0][:300] if message else "",
        hint=HINTS.get(name, "run the target by hand; its last lines are in the evidence"),
        how=end["how"],
        code=end.get("code"),
        steps=end.get("steps"),
        last_lines=list(end.get("last_lines") or [])[-8:],
    )


def errors_surface(traces: Mapping[str, Trace], target: Target) -> Iterator[Finding]:
    """No exception is caught and forgotten: neither one that ends training early, nor one per batch."""
    trace = traces["straight"]
    end = trace.exit
    if not trace.finished:
        raise Vacuous("the run did not end well, so nothing was hidden")
    wanted = target.planned_steps or trace.process.get("max_steps")
    early = end["how"] != "stopped" and wanted is not None and (end.get("steps") or 0) < wanted
    if early and any(TRACEBACK in line for line in end.get("last_lines") or []):
        yield error(
            "errors-surface",
            "<run>",
            "training ended early with a traceback on the console, yet the run reports success",
            cause="an `except` around the training loop prints the exception and goes on",
            hint="let the exception end the process, or exit with a status that is not 0",
            steps=end.get("steps"),
            wanted=wanted,
            last_line=next((line for line in reversed(end["last_lines"]) if line.strip()), ""),
        )
        return
    raised = [
        call for call in trace.events("forward") if call.get("raised") and call["training"] and call["grad_enabled"]
    ]
    # One failure may be a probe on purpose (a batch size that is tried out); running out of memory is one for certain.
    raised = [call for call in raised if "OutOfMemory" not in call["raised"]]
    if len(raised) > 1 or (raised and not trace.steps):
        yield error(
            "errors-surface",
            str(raised[0]["class"]),
            "training calls of the model raised, and the run went on as if nothing had happened",
            cause="a `try` around the training step skips every batch that fails",
            hint="let the exception pass, or count the failures, name the batches, and stop when there are too many",
            calls=len(raised),
            exception=raised[0]["raised"],
        )


def steps_taken(traces: Mapping[str, Trace], target: Target) -> Iterator[Finding]:
    """At least one optimizer step is taken; as many as planned, where a plan is declared."""
    trace = traces["straight"]
    if not trace.finished:
        raise Vacuous("the run did not end well")
    attempts = max((step["count"] for step in trace.steps), default=0)
    if trace.steps and not trace.events("backward") and not trace.lost("gradients") and _no_gradients(trace):
        yield error(
            "steps-taken",
            "<run>",
            "steps were taken, and never with a gradient: they changed nothing",
            cause="backward is never called; in Lightning, training_step returns None",
            hint="return the loss from training_step, or call backward before the step",
            steps=attempts,
        )
        return
    if trace.steps:
        if (
            target.planned_steps is not None
            and attempts + trace.skipped_steps != target.planned_steps
            and trace.exit["how"] != "stopped"
        ):
            yield error(
                "steps-taken",
                "<run>",
                "the run took another number of optimizer steps than planned",
                cause="steps per epoch, accumulation or the stopping condition are computed wrongly",
                hint="compare the number of batches, accumulation and epochs with `planned_steps`",
                steps=attempts + trace.skipped_steps,
                planned=target.planned_steps,
            )
        return
    if trace.lost("optimizers", "modules", "gradients"):
        raise Vacuous(no_steps(trace))
    if any(event["moved"] for event in trace.events("weights")):
        raise Vacuous("no torch optimizer was seen, but the weights moved: they are updated by hand")
    if not any(trace.events(kind) for kind in ("model", "optimizer", "loader", "forward", "backward")):
        raise Vacuous("nothing of torch was seen in the watched process: training may run in one that it started")
    if not trace.events("optimizer"):
        raise Vacuous("no torch optimizer was made: weights are updated by other means")
    yield _stepless(trace)


def _stepless(trace: Trace) -> Finding:
    """Say how far a run without steps came."""
    backwards, batches = trace.events("backward"), trace.events("batch")
    if trace.skipped_steps:
        return warning(
            "steps-taken",
            "<run>",
            "the gradient scaler skipped every step of this run",
            cause="the initial loss scale is too large, or every gradient overflows",
            hint="run more steps, or lower the scaler's init_scale",
            skipped=trace.skipped_steps,
        )
    if backwards:
        message, cause = (
            "gradients were computed, but no optimizer step was ever taken",
            "the condition around optimizer.step() is never true",
        )
    elif trace.events("forward"):
        message, cause = (
            "the model was called, but no gradient was computed and no step taken",
            "loss.backward() is never reached",
        )
    elif batches:
        message, cause = (
            "batches were loaded, but the model was never called",
            "every batch is skipped before it reaches the model",
        )
    else:
        message, cause = (
            "the run did nothing: no batch, no model call, no step",
            "the training loader is empty (drop_last with fewer samples than a batch), or the loop's range is",
        )
    return error(
        "steps-taken",
        "<run>",
        message,
        cause=cause,
        hint="count iterations and steps, and refuse to report success without a step",
        batches=len(batches),
        calls=len(trace.events("forward")),
        backwards=len(backwards),
    )


def _no_gradients(trace: Trace) -> bool:
    return all(fact["grad"] == "none" and not fact["moved"] for step in trace.steps for fact in step["parameters"])


def steps_finite(traces: Mapping[str, Trace], target: Target) -> Iterator[Finding]:
    """No step leaves a weight that is NaN or infinite, not even on data with NaN."""
    seen = {plan: trace for plan, trace in traces.items() if trace.steps}
    if not seen:
        raise Vacuous(no_steps(traces["straight"]))
    for plan, trace in seen.items():
        broken = {
            fact["id"]: step["step"]
            for step in reversed(trace.steps)
            for fact in step["parameters"]
            if fact["finite"] is False
        }
        initial = {fact["id"] for fact in trace.parameters.values() if fact.get("finite") is False}
        broken = {identity: step for identity, step in broken.items() if identity not in initial}
        if not broken:
            continue
        on = "on data with NaN in the signal " if plan == "non_finite" else ""
        hidden = [call for call in trace.train_calls if _nan_inside(call) and _finite_outside(call)]
        yield error(
            "steps-finite",
            places(trace, broken),
            f"{on}an optimizer step made weights NaN or infinite",
            cause="NaN is painted over on its way through the model (nan_to_num), so the loss looks fine while its "
            "gradients are not"
            if hidden
            else "a loss or gradient that is not finite reached the optimizer",
            hint="stop before the step when the loss or the norm of the gradients is not finite",
            run=plan,
            first_step=min(broken.values()) + 1,
            parameters=len(broken),
        )
        return


def nan_surfaces(traces: Mapping[str, Trace], target: Target) -> Iterator[Finding]:
    """No NaN is painted over between input and step: what is not finite stays visible or stops the run."""
    seen = {plan: trace for plan, trace in traces.items() if trace.steps}
    if not seen:
        raise Vacuous(no_steps(traces["straight"]))
    repaired = [
        identity
        for identity, fact in traces["straight"].trainable.items()
        if any("nan_to_num" in hook for hook in fact.get("hooks") or [])
    ]
    if repaired:
        yield error(
            "nan-surfaces",
            places(traces["straight"], repaired),
            "gradients pass through nan_to_num on their way to the parameter: what is not finite is never seen",
            cause="parameter.register_hook(torch.nan_to_num)",
            hint="remove the hook; stop, or skip the step and count it, when a gradient is not finite",
            parameters=len(repaired),
        )
        return
    for plan, trace in seen.items():
        found = next(_cleaned_gradients(trace), None)
        if found is not None:
            where, evidence = found
            yield error(
                "nan-surfaces",
                where,
                "gradients were NaN or infinite when they arrived, and finite when the optimizer used them",
                cause="a nan_to_num, a hook or an assignment repairs gradients between backward and step",
                hint="remove the repair; stop, or skip the step and count it, when a gradient is not finite",
                run=plan,
                **evidence,
            )
            return
        by_call = calls(trace)
        stepped = {number for found_turns in turns(trace).values() for turn in found_turns for number in turn.forwards}
        for number in sorted(stepped):
            call = by_call.get(number)
            if call is None or not (_nan_inside(call) and _finite_outside(call)):
                continue
            first = next(fact for fact in call["inner"] if _is_nan(fact["mean"]))
            report = error if plan == "non_finite" else warning
            yield report(
                "nan-surfaces",
                first["path"],
                "a module inside the model gave NaN, the model's output was finite, and a step was taken on it",
                cause="nan_to_num, clamp or masking inside forward paints the NaN over",
                hint="check inputs at the door, and let what is not finite reach the loss",
                run=plan,
            )
            return


def _cleaned_gradients(trace: Trace) -> Iterator[tuple[str, dict[str, object]]]:
    bad_losses = {event["call"] for event in trace.events("loss_grad", finite=False)}
    for found in turns(trace).values():
        for turn in found:
            grads = {fact["id"]: fact["grad"] for fact in turn.step["parameters"]}
            last: dict[str, Event] = {}
            for backward in turn.backwards:
                if backward["function"] == "backward":
                    last.update(dict.fromkeys(backward["touched"], backward))
            cleaned = [
                identity
                for identity, backward in last.items()
                if identity in backward["raw_nonfinite"] and _repaired(grads, identity, backward)
            ]
            if cleaned:
                yield places(trace, cleaned), {"parameters": len(cleaned)}
            for backward in turn.backwards:
                used = [grads.get(identity) for identity in backward["touched"] if last.get(identity) is backward]
                if (
                    backward["scale"] is None
                    and bad_losses & set(backward["losses"])
                    and used
                    and "nonfinite" not in used
                    and "finite" in used
                ):
                    yield "<loss>", {"loss_gradients": "not finite"}


def _repaired(grads: Mapping[str, str], identity: str, backward: Event) -> bool:
    """Return whether a gradient that was not finite is so at the step, or is zero beside others that are not."""
    others = {grads.get(other) for other in backward["touched"] if other not in backward["raw_nonfinite"]}
    repaired = grads.get(identity) == "finite" and backward["scale"] is None
    return repaired or (grads.get(identity) == "zero" and "finite" in others)


def _nan_inside(call: Event) -> bool:
    return any(_is_nan(fact["mean"]) for fact in call.get("inner") or [])


def _finite_outside(call: Event) -> bool:
    return bool(call["outputs"]) and all(fact["finite"] is not False for fact in call["outputs"])


def _is_nan(value: object) -> bool:
    return isinstance(value, float) and math.isnan(value)


CHECKS: tuple[Check, ...] = (
    Check(
        "run-finishes",
        "The run ends by itself, with success.",
        "progress",
        finishes,
        proves="The target returned, exited with status 0, or was stopped by the step limit. "
        "Warns when its process did not end after that.",
        faults=("any exception in the training path", "exit status other than 0", "a hang"),
        limits="An exception that the trainer catches itself is the business of `errors-surface`.",
    ),
    Check(
        "errors-surface",
        "No exception is caught and forgotten.",
        "progress",
        errors_surface,
        proves="No traceback was printed by a run that stopped early and reports success, and no training call of "
        "the model raised unnoticed.",
        faults=(
            "`except Exception: traceback.print_exc()` around the loop",
            "`except: continue` around the training step",
        ),
        limits="Exceptions caught outside the model that leave no traceback on the console are not seen.",
    ),
    Check(
        "steps-taken",
        "The optimizer takes steps.",
        "progress",
        steps_taken,
        proves="At least one step was attempted; exactly `Target.planned_steps` where declared.",
        faults=(
            "the wrong variable in `if i % k == 0`",
            "an empty training loader",
            "every batch skipped",
            "a wrong number of planned steps",
        ),
        limits="Weights updated without a torch optimizer are vacuous.",
    ),
    Check(
        "steps-finite",
        "No step makes a weight NaN or infinite.",
        "progress",
        steps_finite,
        wants=("non_finite",),
        proves="After every step all weights are finite, on normal data and on data with NaN.",
        faults=("nan_to_num on the logits", "no check of the loss before the step", "exploding updates"),
        limits="Runs on data with NaN need a target that can prepare them.",
    ),
    Check(
        "nan-surfaces",
        "No NaN is painted over on its way.",
        "progress",
        nan_surfaces,
        wants=("non_finite",),
        proves="Gradients that were not finite on arrival did not become finite before the step, and no model turned "
        "inner NaN into finite output.",
        faults=("gradients passed through nan_to_num", "nan_to_num or clamp in forward"),
        limits="Numbers of inner modules are taken in the first two calls only; a hook on the parameter itself runs "
        "before gradients are looked at, and is known by its name.",
    ),
)
