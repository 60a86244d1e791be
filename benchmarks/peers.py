"""What other tools see of the same planted faults: torchtest2, torch-audit, pytest-torch, and Lightning's fast_dev_run.

Each is given what it asks for, taken from the trainer while it runs bare: torch-audit patches the model and optimizer
of the running trainer; torchtest2 and pytest-torch get its model, first batch, loss and optimizer; fast_dev_run is
switched on in the Lightning trainer. A finding that the healthy base gives as well does not count; a crash of the
trainer counts for every tool that runs it. Tools that are not installed are left out. Run it where they are:

    pip install torchtest2 torch-audit pytest-torch
    python benchmarks/peers.py --json peers.json
"""

import argparse
import contextlib
import fnmatch
import importlib.util
import io
import json
import logging
import os
import sys
import tempfile
import warnings
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import lightning  # noqa: E402
import torch  # noqa: E402
import torch.nn.functional as F  # noqa: E402
from torch.nn.modules import module as hooks  # noqa: E402
from torch.optim.optimizer import Optimizer  # noqa: E402
from zoo import FAULTS, HEALTHY  # noqa: E402
from zoo.bare_runs import run_bare  # noqa: E402

BASES = ("bare", "engine", "lit", "accel")
LOSSES = ("binary_cross_entropy_with_logits", "cross_entropy")


class Capture:
    """The model, first batch, loss and optimizer of a trainer, taken while it runs."""

    def __init__(self, *, audit):
        self.audit = audit
        self.auditor = self.model = self.inputs = self.targets = self.loss = self.optimizer = None
        self.depth = 0

    def __enter__(self):
        self.stack = contextlib.ExitStack()
        self.stack.callback(hooks.register_module_forward_pre_hook(self.before).remove)
        self.stack.callback(hooks.register_module_forward_hook(self.after, always_call=True).remove)
        make = Optimizer.__init__

        def init(optimizer, *arguments, **options):
            make(optimizer, *arguments, **options)
            self.optimizer = optimizer

        Optimizer.__init__ = init
        self.stack.callback(setattr, Optimizer, "__init__", make)
        for name in LOSSES:
            original = getattr(F, name)
            setattr(F, name, self.watched(original))
            self.stack.callback(setattr, F, name, original)
        return self

    def __exit__(self, *details):
        if self.auditor is not None:
            self.auditor.unpatch()
        self.stack.close()

    def before(self, module, inputs):
        self.depth += 1
        if self.depth > 1 or self.model is not None or not torch.is_grad_enabled() or not inputs:
            return
        if any(parameter.requires_grad for parameter in module.parameters()) and self.optimizer is not None:
            self.model, self.inputs = module, inputs[0].detach().clone()
            if self.audit:
                from torch_audit import autopatch

                self.auditor = autopatch(module, optimizer=self.optimizer, every_n_steps=1, reporters=[])

    def after(self, *_):
        self.depth -= 1

    def watched(self, original):
        def loss(prediction, target, *arguments, **options):
            if self.model is not None and self.targets is None and torch.is_grad_enabled():
                self.targets = target.detach().clone()
                self.loss = lambda p, t: original(p, t, *arguments, **options).mean()
            return original(prediction, target, *arguments, **options)

        return loss


def torchtest2_sees(capture):
    import torchtest2

    report = torchtest2.check_model(
        capture.model,
        capture.inputs,
        capture.targets,
        loss_fn=capture.loss,
        optimizer=capture.optimizer,
        overfit_steps=50,
    )
    return {result.name for result in (*report.failures, *report.warnings)}


def pytest_torch_sees(capture):
    from pytest_torch import training, training_loop
    from pytest_torch.contract import check_inference_contract

    def loss(output):
        return capture.loss(output, capture.targets)

    calls = {
        "inference contract": lambda: check_inference_contract(capture.model.eval(), capture.inputs),
        "gradients finite": lambda: training.assert_gradients_finite(capture.model, capture.inputs, loss),
        "parameters receive gradients": lambda: training.assert_all_params_receive_grad(
            capture.model, capture.inputs, loss
        ),
        "optimizer coverage": lambda: training_loop.assert_optimizer_coverage(capture.model, capture.optimizer),
        "loss decreases": lambda: training.assert_loss_decreases(capture.model, capture.inputs, loss),
    }
    seen = set()
    for name, call in calls.items():
        try:
            call()
            capture.model.train()
        except Exception:  # noqa: BLE001 (whatever it raises is what it says)
            seen.add(name)
    return seen


def run_quietly(case, folder, *, audit=False, capture=True):
    """Run a trainer bare; return the capture and the error it ended in, if any."""
    with Capture(audit=audit) if capture else contextlib.nullcontext() as caught:
        try:
            run_bare(case.target(), Path(tempfile.mkdtemp(dir=folder)))
        except (Exception, SystemExit) as error:  # noqa: BLE001 (a crash is a result)
            return caught, f"{type(error).__name__}: {error}"[:200]
    return caught, None


def examine(case, base, folder, tools):
    """Return, by tool, what it says of one case; None where it does not apply."""
    seen = dict.fromkeys(tools)
    capture, crash = run_quietly(case, folder)
    for tool, sees in (("torchtest2", torchtest2_sees), ("pytest-torch", pytest_torch_sees)):
        if tool in tools:
            try:
                seen[tool] = {"crash"} if crash else sees(capture) if capture.loss else set()
            except Exception as error:  # noqa: BLE001 (it could not be applied)
                seen[tool] = {f"raised {type(error).__name__}"}
    if "torch-audit" in tools:
        capture, crash = run_quietly(case, folder, audit=True)
        found = capture.auditor.finish().findings if capture.auditor is not None else ()
        seen["torch-audit"] = {f"{f.rule_id}" for f in found if f.severity.name != "INFO"} | (
            {"crash"} if crash else set()
        )
    if base == "lit":
        trainer = lightning.Trainer
        lightning.Trainer = lambda **options: trainer(**{**options, "fast_dev_run": True})
        try:
            _, crash = run_quietly(case, folder, capture=False)
        finally:
            lightning.Trainer = trainer
        seen["fast_dev_run"] = {"crash"} if crash else set()
    return seen


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", action="append", default=[], metavar="PATTERN")
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    modules = {"torchtest2": "torchtest2", "torch-audit": "torch_audit", "pytest-torch": "pytest_torch"}
    tools = [tool for tool, name in modules.items() if importlib.util.find_spec(name)] + ["fast_dev_run"]
    faults = [
        f
        for f in FAULTS
        if f.base in BASES and (not options.only or any(fnmatch.fnmatch(f.name, p) for p in options.only))
    ]
    rows = {}
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        healthy = {}
        for base in BASES:
            case = next(case for case in HEALTHY if case.name == f"base-{base}")
            with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
                healthy[base] = examine(case, base, folder, tools)
            print(f"base-{base}", {tool: sorted(seen or ()) for tool, seen in healthy[base].items()}, flush=True)
        for fault in faults:
            with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
                seen = examine(fault, fault.base, folder, tools)
            rows[fault.name] = {
                t: sorted(s - (healthy[fault.base][t] or set())) for t, s in seen.items() if s is not None
            }
            print(f"{fault.name:<46}", {tool: found for tool, found in rows[fault.name].items() if found}, flush=True)
            if options.json:
                options.json.write_text(json.dumps(rows, indent=1))
    for tool in tools:
        judged = [row[tool] for row in rows.values() if tool in row]
        print(f"{tool}: something new on {sum(bool(found) for found in judged)} of {len(judged)} faults")
    for tool in sorted(set(modules) - set(tools)):
        print(f"{tool}: not installed")


if __name__ == "__main__":
    main()
