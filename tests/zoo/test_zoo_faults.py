"""Every planted fault really changes something that its base does not do."""

import functools
import gc
import os

import pytest
import torch
from torch.nn.modules.module import register_module_forward_hook
from torch.optim.optimizer import register_optimizer_step_post_hook

from zoo import FAULTS, HEALTHY, families
from zoo.bare_runs import content, differences, last_checkpoint, run_bare
from zoo.diagnoses import DIAGNOSES, KNOWN, right_checks
from zoo.families import machinery, ours
from zoo.trainers.bare_model import Net

INVISIBLE_IN_FILES = {
    "losses-keep-graphs", "activations-cached", "activations-kept", "acc-running-loss-keeps-graph", "missing-no-grad",
    "checkpoint-in-place", "look-ahead-though-causal", "ddp-every-rank-saves",
}  # fmt: skip
"""Faults that leave the same checkpoints behind: tested by what they do, below."""
for family in families.load():
    INVISIBLE_IN_FILES |= getattr(family, "INVISIBLE", frozenset())


def outcome(target, folder):
    """Return what a straight, a resumed, and two runs on useless data leave behind, or the kind of error each ends in."""
    found = {}
    plans = {
        "straight": {},
        "stopped": {"max_steps": 3},
        "no_positives": {"data": "no_positives"},
        "non_finite": {"data": "non_finite"},
    }
    if target.name.startswith(("ddp-", "base-ddp")):
        plans = {"straight": {}}  # each run starts two more interpreters
    for plan, facts in plans.items():
        found.update(result(target, folder / plan, plan, facts))
    if target.resumable:
        try:
            facts = {"resume_from": last_checkpoint(folder / "stopped")}
        except ValueError:
            return found
        found.update(result(target, folder / "resumed", "resumed", facts))
    return found


def result(target, workdir, plan, facts):
    try:
        printed = run_bare(target, workdir, **facts)
    except (Exception, SystemExit) as error:
        return {f"{plan}/error": f"{type(error).__name__}"}
    found = {f"{plan}/printed": printed}
    for path in sorted(workdir.rglob("*")):
        if path.suffix in {".pt", ".ckpt", ".safetensors", ".bin", ".pkl"}:
            found[f"{plan}/{path.relative_to(workdir)}"] = content(path)
        elif path.suffix in {".jsonl", ".csv", ".json"}:
            found[f"{plan}/{path.relative_to(workdir)}"] = path.read_text()
    return found


@functools.cache
def healthy_outcome(base, folder):
    case = next(case for case in HEALTHY if case.name == f"base-{base}")
    return outcome(case.target(), folder / base)


def changed(one, other):
    """Return the first name that differs between two outcomes."""
    for name in sorted(one.keys() | other.keys()):
        a, b = one.get(name), other.get(name)
        if isinstance(a, dict) and isinstance(b, dict):
            if differences(a, b):
                return name
        elif a != b:
            return name
    return None


@pytest.fixture(scope="session")
def healthy_folder(tmp_path_factory):
    return tmp_path_factory.mktemp("healthy")


def visible_in_files():
    """Yield the faults to test: every eighth always, the others and those that start interpreters as slow tests."""
    for number, fault in enumerate(FAULTS):
        if fault.name not in INVISIBLE_IN_FILES:
            slow = number % 8 or fault.base in {"ddp", "script", "eegl", *machinery.BASES, *ours.BASES}
            yield pytest.param(fault, id=fault.name, marks=pytest.mark.slow if slow else ())


@pytest.mark.parametrize("fault", list(visible_in_files()))
def test_fault_changes_what_a_run_leaves_behind(fault, tmp_path, healthy_folder):
    assert changed(outcome(fault.target(), tmp_path), healthy_outcome(fault.base, healthy_folder)) is not None


@pytest.mark.parametrize("base", ["bare", "engine", "lit", "accel"])
def test_base_changes_nothing_by_itself(base, tmp_path, healthy_folder):
    case = next(case for case in HEALTHY if case.name == f"base-{base}")
    assert changed(outcome(case.target(), tmp_path), healthy_outcome(base, healthy_folder)) is None


def named(name):
    return next(fault for fault in FAULTS if fault.name == name)


@pytest.mark.parametrize(
    "name", ["losses-keep-graphs", "activations-cached", "activations-kept", "acc-running-loss-keeps-graph"]
)
def test_graphs_stay_alive(name, tmp_path):
    def growth(target, folder):
        counts = []
        hook = register_optimizer_step_post_hook(lambda *_: counts.append(live_graphs()))
        try:
            run_bare(target, folder)
        finally:
            hook.remove()
        return (1 + counts[-1]) / (1 + counts[0])

    fault = named(name)
    base = next(case for case in HEALTHY if case.name == f"base-{fault.base}")
    assert growth(base.target(), tmp_path / "healthy") < 1.5
    assert growth(fault.target(), tmp_path / "faulty") > 1.75


def live_graphs():
    """Count autograd nodes that some live tensor can reach."""
    gc.collect()
    seen, waiting = (
        set(),
        [thing.grad_fn for thing in gc.get_objects() if isinstance(thing, torch.Tensor) and thing.grad_fn is not None],
    )
    while waiting:
        node = waiting.pop()
        if node is not None and node not in seen:
            seen.add(node)
            waiting += [following for following, _ in node.next_functions]
    return len(seen)


def test_missing_no_grad_builds_graphs_in_eval_mode(tmp_path):
    modes = set()
    hook = register_module_forward_hook(lambda module, *_: modes.add((module.training, torch.is_grad_enabled())))
    try:
        run_bare(named("missing-no-grad").target(), tmp_path)
    finally:
        hook.remove()
    assert modes == {(True, True), (False, True)}


def test_checkpoint_in_place_never_renames(tmp_path, monkeypatch):
    renamed = []
    monkeypatch.setattr(os, "replace", lambda *names: renamed.append(names))
    run_bare(named("checkpoint-in-place").target(), tmp_path)
    assert renamed == []
    assert (tmp_path / "out" / "last.pt").exists()


def test_gradient_nan_to_num_hides_nan():
    net = Net(frozenset({"gradient-nan-to-num"}))
    raw = []
    net.encoder[1].norm.register_full_backward_hook(lambda module, inputs, outputs: raw.append(outputs[0]))
    net(torch.randn(2, 4, 64)).sum().backward()
    assert torch.isnan(raw[0]).any()
    assert all(torch.isfinite(parameter.grad).all() for parameter in net.parameters())


def test_every_fault_has_a_diagnosis_that_some_check_can_give():
    assert set(DIAGNOSES) == {fault.name for fault in FAULTS}
    unknown = {fault.name: sorted(right_checks(fault) - KNOWN) for fault in FAULTS if not right_checks(fault) & KNOWN}
    assert unknown == {}


def test_look_ahead_though_causal_reads_later_samples():
    net = Net(frozenset({"look-ahead-though-causal"})).eval()
    x = torch.randn(1, 4, 64, requires_grad=True)
    net(x)[0, 20].backward()
    assert x.grad[0, :, 21:].abs().sum() > 0
