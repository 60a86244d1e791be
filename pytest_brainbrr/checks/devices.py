"""On CUDA everything sits there, and memory stays in bounds."""

from collections.abc import Iterator, Mapping

from pytest_brainbrr.checks.base import Check, Vacuous
from pytest_brainbrr.results import Finding
from pytest_brainbrr.targets import Target
from pytest_brainbrr.trace import Trace


def judge_cuda_allocation(traces: Mapping[str, Trace], target: Target) -> Iterator[Finding]:
    """Judge placement, allocation, peak and growth on CUDA."""
    trace = traces["straight"]
    settings = trace.last("settings")
    if settings is None:
        raise Vacuous("no call of a model was seen")
    if not settings["cuda_available"]:
        raise Vacuous("no CUDA device here")
    yield from _placement(trace)
    memory = trace.events("memory")
    sizes = [event["cuda_allocated_mb"] for event in memory if event["cuda_allocated_mb"] is not None]
    if not sizes or max(sizes) <= 0.0:
        yield Finding(
            "cuda-allocation",
            "memory",
            "error",
            "a CUDA device is there, but nothing was allocated on it",
            {"steps": len(memory)},
            cause="a silent fallback to the CPU",
            hint="move model and batches to the device, and fail where it is asked for and missing",
        )
        return
    by_step = {event["step"]: event["cuda_allocated_mb"] for event in memory}
    if by_step.get(2) is not None and by_step.get(3) is not None and by_step[3] > by_step[2]:
        yield Finding(
            "cuda-allocation",
            "memory",
            "error",
            "more memory is held after step 3 than after step 2",
            {"after_step_2_mb": round(by_step[2], 3), "after_step_3_mb": round(by_step[3], 3)},
            cause="losses or outputs are kept with their graphs",
            hint="keep loss.item() or loss.detach(), not the loss",
        )
    peak = max(event["cuda_peak_mb"] or 0.0 for event in memory)
    if target.memory_budget_mb is not None and peak > target.memory_budget_mb:
        yield Finding(
            "cuda-allocation",
            "memory",
            "error",
            "the peak of allocated memory is above the declared budget",
            {"peak_mb": round(peak, 1), "budget_mb": target.memory_budget_mb},
            cause="a larger batch, window or model than the budget was made for",
            hint="lower the batch size, use bfloat16, or raise the budget",
        )


def _placement(trace: Trace) -> Iterator[Finding]:
    trained = {identity for identity in trace.optimized if identity in trace.parameters} or set(trace.parameters)
    stray = [
        trace.parameters[identity]
        for identity in trained
        if not trace.parameters[identity]["device"].startswith("cuda")
    ]
    for fact in sorted(stray, key=lambda fact: str(fact["name"]))[:8]:
        yield Finding(
            "cuda-allocation",
            fact["name"],
            "error",
            "a trained parameter is not on the CUDA device",
            {"device": fact["device"]},
            cause="the model, or this part of it, was not moved, or was made after the move",
            hint="call model.to(device) once the model is complete",
        )
    for call in trace.train_calls:
        wrong = [fact for fact in call["inputs"] if not fact["device"].startswith("cuda") and fact["shape"]]
        if wrong and call["model"]:
            yield Finding(
                "cuda-allocation",
                "batch",
                "error",
                "a batch reached the model on another device",
                {"at": wrong[0]["at"], "device": wrong[0]["device"]},
                cause="the batch was not moved",
                hint="move every tensor of the batch to the model's device",
            )
            return


CHECKS: tuple[Check, ...] = (
    Check(
        id="cuda-allocation",
        title="on CUDA, parameters and batches sit on the device and memory stays in bounds",
        group="device",
        judge=judge_cuda_allocation,
        proves="Allocated memory is above zero, does not grow from step 2 to step 3, and its peak is under the "
        "declared budget.",
        faults=("a silent fallback to the CPU", "losses kept with their graphs", "a part of the model left on the CPU"),
        limits="Vacuous without a CUDA device. The watch itself holds up to 65536 elements per parameter for "
        "the length of a step.",
    ),
)
