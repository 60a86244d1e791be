"""Calls of modules: torch's global forward hooks, which return nothing.

Limits: functions, and `.forward` called directly, pass no hook. Inside torch.compile and torch.jit only the outermost
call is seen. Positional inputs are looked at before the call, keyword inputs after it. Calls during a backward
(activation checkpointing) are left out.
"""

import math
import sys
import threading
import time
import weakref
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules import module as registration

from pytest_brainbrr.observers import places
from pytest_brainbrr.observers.core import Watch
from pytest_brainbrr.observers.models import Models
from pytest_brainbrr.observers.tensors import facts, plain, sampled, shape_of, short, tensor_leaves

NUMBERED_CALLS = 2
FOLLOWED_CALLS = 16
OUTPUT = "pytest_brainbrr.output"
"""Key in the metadata of the graph node that made an output of a watched call."""
NUMBERS = ("finite", "min", "max", "mean", "dead")
"""What is known of inner modules in the first calls only."""
LEAST_DEAD = 8
RANDOM = ("Dropout", "RReLU", "DropPath", "StochasticDepth")


class Call:
    """One outermost call in progress."""

    def __init__(self, module: nn.Module, number: int) -> None:
        self.module_id, self.number, self.began = id(module), number, time.perf_counter()
        self.inputs: list[dict[str, Any]] = []
        self.inner: dict[int, dict[str, Any]] = {}
        self.live: dict[int, Any] = {}
        """Per module: which of the features it was given were ever other than zero in this call."""
        self.order: list[dict[str, Any]] = []
        self.numbers = False
        self.event: dict[str, Any] = {}


class Frames(threading.local):
    """The modules being called in this thread, outermost first."""

    def __init__(self) -> None:
        self.stack: list[int] = []
        self.call: Call | None = None
        self.silent = 0


class Modules:
    """Writes a `forward` event per outermost call."""

    def __init__(self, watch: Watch, models: Models) -> None:
        self.watch, self.models = watch, models
        self.frames = Frames()
        self.calls = 0
        self.called: set[str | None] = set()
        """Ids of the roots of which any module was called."""
        self.reached: set[int] = set()
        """Forward calls that the backward in progress has reached."""
        self.graphs: list[Any] = []
        self.outputs: list[tuple[int, int, tuple[Any, Any]]] = []
        """Call number, storage address, shape and strides of the latest outputs, to recognise them at the loss."""
        self._looked = 0
        self.paths: dict[str, dict[int, str]] = {}
        self._numbered: dict[tuple[str, bool, bool], int] = {}
        self._last_inner: dict[tuple[str, bool, bool], Any] = {}
        self._eval: dict[str, bool] = {}
        self._scored: set[str] = set()
        """Ids of the roots called without gradients since a call that trains."""
        self._pass_begun = False

    def install(self) -> None:
        """Put the global hooks in place."""
        before = registration.register_module_forward_pre_hook(self._before)
        after = registration.register_module_forward_hook(self._after, with_kwargs=True, always_call=True)
        self.watch.stack.callback(before.remove)
        self.watch.stack.callback(after.remove)
        # torch 2.13 forgets this flag when the handle is removed, and takes it for a hook.
        flags = getattr(registration, "_global_forward_hooks_with_kwargs", {})
        self.watch.stack.callback(lambda: flags.pop(after.id, None))
        self.watch.on_border.append(self.reset)
        self.watch.shared.setdefault("on_epoch", []).append(self._note_pass)

    def _note_pass(self) -> None:
        self._pass_begun = True

    def reset(self) -> None:
        """Forget calls that never ended, at a border where none can be in progress."""
        if not self.watch.shared.get("in_step"):
            self.frames.stack.clear()
            self.frames.call = None

    # ------------------------------------------------------------------ the hooks

    def _before(self, module: nn.Module, args: Any) -> None:
        if torch.compiler.is_compiling():
            return
        watch, frames = self.watch, self.frames
        if watch.busy or not watch.active or torch._C._is_tracing() or torch._C._current_graph_task_id() != -1:
            return
        if frames.stack:
            frames.stack.append(id(module))
            return
        if isinstance(module, nn.modules.loss._Loss) or type(module).__module__.startswith("torchmetrics"):
            return
        if torch.is_grad_enabled() and module.training and next(module.parameters(), None) is not None:
            # May end the run, by an exception: nothing of ours is in progress yet.
            watch.shared["about_to_call"] = weakref.ref(module)
            early = watch.shared.get("too_early")
            if early is None or not early():
                watch.boundary()
        frames.stack.append(id(module))
        with watch.observing("modules"):
            frames.call = self._begin(module, args)

    def _after(self, module: nn.Module, args: Any, *rest: Any) -> None:
        # After an exception torch calls this hook without the keyword arguments it was registered to get.
        kwargs, output = rest if len(rest) > 1 else ({}, *rest)
        if torch.compiler.is_compiling():
            return
        watch, frames = self.watch, self.frames
        if watch.busy or not watch.active or id(module) not in frames.stack:
            return
        while frames.stack.pop() != id(module):
            pass  # inner calls that ended in an exception
        call = frames.call
        if call is None:
            return
        if frames.stack:
            began = time.perf_counter()
            with watch.observing("modules"):
                self._inner(call, module, args, kwargs, output)
            call.began += time.perf_counter() - began
            return
        frames.call = None
        with watch.observing("modules"):
            self._end(call, module, kwargs, output)
            keep = watch.shared.get("keep_input")
            if keep is not None and call.event["grad_enabled"]:
                keep(module, args, kwargs)

    # ------------------------------------------------------------------ outermost calls

    def _begin(self, module: nn.Module, args: Any) -> Call:
        call = Call(module, self.calls)
        self.calls += 1
        watch, grad = self.watch, torch.is_grad_enabled()
        if type(module).__name__ == "OptimizedModule":
            watch.not_observed("compiled_module", "calls inside a compiled module pass no hook", "")
        first = not watch.shared.get("called")
        known = self.models.know(module, "called")
        root = self.models.root_of(module)
        late = known is not None and not first and known not in self.called
        self.called.add(known)
        if known is not None and late:
            # Another stage, a second network: what moves is told from how it stood when it was first called.
            self.models.refresh(known, root)
            self.models.state(known, root, "first_forward")
        if known is not None:
            if first:
                watch.shared["called"] = True
                for callback in watch.shared.get("on_first_forward", []):
                    callback()
                self.models.states("first_forward")
            self._phase(known, root, grad=grad)
        path = self._paths(known or "", root).get(id(module), "")
        key = (known or type(module).__name__, grad, module.training)
        call.numbers = self._numbered.get(key, 0) < NUMBERED_CALLS
        self._numbered[key] = self._numbered.get(key, 0) + 1
        call.inputs = [facts(tensor, at) for at, tensor in tensor_leaves(args)]
        call.event = {
            "call": call.number,
            "model": known,
            "path": path,
            "class": type(module).__name__,
            "training": module.training,
            "mixed_modes": list(_mixed(module)),
            "grad_enabled": grad,
            "inference_mode": torch.is_inference_mode_enabled(),
            "autocast": _autocast(),
            "loader": watch.shared.get("last_batch"),
        }
        watch.shared["inputs"] = {id(tensor) for _, tensor in tensor_leaves(args)}
        call.began = time.perf_counter()
        return call

    def _end(self, call: Call, module: nn.Module, kwargs: Any, output: Any) -> None:
        seconds = time.perf_counter() - call.began
        call.inputs += [facts(tensor, at) for at, tensor in tensor_leaves(kwargs)]
        tensors = tensor_leaves(output)
        for at, tensor in tensors:
            self._follow(call.number, tensor, at)
        key = (call.event["model"] or type(module).__name__, call.event["grad_enabled"], module.training)
        shapes = [{**fact, **dict.fromkeys(NUMBERS)} for fact in call.order]
        same = not call.numbers and self._last_inner.get(key) == shapes
        self._last_inner[key] = shapes
        self.watch.emit(
            "forward",
            **call.event,
            inputs=call.inputs,
            outputs=[facts(tensor, at) for at, tensor in tensors],
            seconds=seconds,
            raised=_raised(output),
            scores=self._scores(tensors) if not call.event["grad_enabled"] else [],
            inner=None if same else call.order,
            inner_numbers=call.numbers,
        )

    def _scores(self, tensors: list[tuple[str, Tensor]]) -> list[dict[str, Any]]:
        labels = self.watch.shared.get("last_labels") or {}
        return [{"output": at, **fact} for at, tensor in tensors[:4] for fact in places.scored(tensor, labels)]

    def _follow(self, number: int, tensor: Tensor, at: str) -> None:
        """Learn by a hook on the graph node (not on the tensor) whether a backward reaches this output, and where."""
        # Ragged tensors have neither strides nor sizes to ask for.
        shape = tuple(tensor.shape) if plain(tensor) else None
        strides = tuple(tensor.stride()) if plain(tensor) else ()
        address = tensor.untyped_storage().data_ptr() if plain(tensor) else 0
        self.outputs.append((number, address, (shape or (), strides)))
        del self.outputs[:-16]
        if tensor.grad_fn is None:
            return
        reached, place = self.reached, tensor.output_nr
        labels = self.watch.shared.get("last_labels") or {}

        def arrived(grads: Any) -> None:
            reached.add(number)
            gradient = grads[place] if place < len(grads) else None
            if shape is None or self._looked >= FOLLOWED_CALLS or not isinstance(gradient, Tensor):
                return
            if not plain(gradient) or gradient.shape != shape:
                return
            self._looked += 1
            if not self.watch.busy and self.watch.active:
                with self.watch.observing("modules"):
                    found = places.of_gradient(gradient)
                    pull = places.pulled(gradient, labels)
                    self.watch.emit("output_grad", call=number, at=at, shape=list(shape), pull=pull, **found)

        node: Any = tensor.grad_fn
        node.metadata[OUTPUT] = number
        node.register_prehook(arrived)
        self.watch.shared.setdefault("graphs", []).append(weakref.ref(tensor))

    def _phase(self, identity: str, root: nn.Module, *, grad: bool) -> None:
        evaluating = not grad or torch.is_inference_mode_enabled()
        # Each root has phases of its own: a teacher that never trains does not end its student's.
        if evaluating != self._eval.get(identity, False):
            self._eval[identity] = evaluating
            self.watch.emit("phase", phase="eval" if evaluating else "train", model=identity, why="grad")
            self.models.states("eval_begin" if evaluating else "eval_end")
            for callback in self.watch.shared.get("on_phase", []):
                callback()
        elif not evaluating and self._pass_begun and self._scored - {identity}:
            # A copy was validated in its place: what that left in the weights is to be seen as well.
            self.models.states("eval_end")
        if evaluating:
            self._scored.add(identity)
        else:
            self._scored.clear()
            self._pass_begun = False

    def _paths(self, identity: str, root: nn.Module) -> dict[int, str]:
        found = self.paths.get(identity)
        if found is None or id(root) not in found:
            found = self.paths[identity] = {id(module): path for path, module in root.named_modules()}
        return found

    # ------------------------------------------------------------------ inner calls

    def _dead(self, call: Call, module: nn.Module, args: Any) -> list[int] | None:
        """Return the stretch of a layer's inputs that was zero in every row so far, where other layers made them."""
        weight = module._parameters.get("weight")
        given = args[0] if args and isinstance(args[0], Tensor) else None
        if weight is None or weight.dim() < 2 or given is None or not given.requires_grad or not plain(given):
            return None
        # What data hold is not judged: empty columns are usual there, and data need no gradient.
        axis = 1 if type(module).__name__.startswith("Conv") else -1
        if given.dim() < 2 or given.shape[axis] < 2 * LEAST_DEAD or given.numel() == 0:
            return None
        rows = given.detach().movedim(axis, -1).reshape(-1, given.shape[axis])
        live = (rows != 0).any(dim=0)
        before = call.live.get(id(module))
        if before is not None and before.shape == live.shape:
            live |= before
        call.live[id(module)] = live
        return _stretch(live.tolist())

    def _inner(self, call: Call, module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        fact = call.inner.get(id(module))
        if fact is not None:
            fact["calls"] += 1
            if fact["dead"] is not None:
                fact["dead"] = self._dead(call, module, args)
            return
        identity = call.event["model"] or ""
        path = self.paths.get(identity, {}).get(id(module))
        if path is None:
            # A module that was put in after the paths were taken, or one that is no child of the root.
            self.paths.pop(identity, None)
            path = f"<{type(module).__name__}>"
        outputs = tensor_leaves(output)
        fact = {
            "path": path,
            "class": type(module).__name__,
            "calls": 1,
            "training": module.training,
            "inputs": [_brief(tensor) for _, tensor in (*tensor_leaves(args), *tensor_leaves(kwargs))],
            "outputs": [_brief(tensor) for _, tensor in outputs],
            "grad_fn": any(tensor.grad_fn is not None for _, tensor in outputs),
            "finite": None,
            "min": None,
            "max": None,
            "mean": None,
            "dead": self._dead(call, module, args) if call.numbers and call.event["grad_enabled"] else None,
        }
        if call.numbers and outputs and _countable(outputs[0][1]):
            value = outputs[0][1].detach()
            low, high = torch.aminmax(value)
            numbers = torch.stack([low.float(), high.float(), sampled(value).mean(dtype=torch.float32)]).tolist()
            fact["min"], fact["max"], fact["mean"] = numbers
            if math.isnan(numbers[0]):
                fact["mean"] = math.nan  # a NaN among the elements that the mean left out
            fact["finite"] = all(-float("inf") < number < float("inf") for number in numbers[:2])
        call.inner[id(module)] = fact
        call.order.append(fact)


def _stretch(live: list[bool]) -> list[int] | None:
    """Return first and following place of a single dead stretch, and how many places there are, if it is a large one.

    >>> _stretch([True] * 8 + [False] * 8), _stretch([True, False] * 8), _stretch([False] * 8)
    ([8, 16, 16], None, None)
    """
    dead = [place for place, moves in enumerate(live) if not moves]
    if not LEAST_DEAD <= len(dead) < len(live) or 4 * len(dead) < len(live) or dead[-1] - dead[0] >= len(dead):
        return None
    return [dead[0], dead[-1] + 1, len(live)]


def _raised(output: Any) -> str | None:
    """Name the exception that ended this call: torch runs the hooks while it is being handled, without an output."""
    error = sys.exc_info()[0]
    return error.__name__ if output is None and error is not None else None


def _brief(tensor: Tensor) -> list[Any]:
    return [shape_of(tensor), short(tensor.dtype), str(tensor.device)]


def _countable(tensor: Tensor) -> bool:
    return plain(tensor) and tensor.is_floating_point() and tensor.numel() > 0


def _mixed(module: nn.Module) -> list[str]:
    """Return paths of modules whose flag differs and whose behaviour depends on it."""
    flag, found = module.training, []
    if all(inner.training is flag for inner in module.modules()):
        return []
    for path, inner in module.named_modules():
        if inner.training is not flag and (
            inner._buffers or inner._parameters or type(inner).__name__.startswith(RANDOM)
        ):
            found.append(path)
    return found[:64]


def _autocast() -> dict[str, str] | None:
    found = {
        device: short(torch.get_autocast_dtype(device))
        for device in ("cpu", "cuda")
        if torch.is_autocast_enabled(device)
    }
    return found or None
