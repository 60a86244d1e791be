"""What a model is made of: modules, output shapes, parameters and floating-point operations, without computing."""

from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode  # torch.utils.flop_counter's own tests count this way
from torch.utils.flop_counter import FlopCounterMode


@dataclass(frozen=True)
class Part:
    """One module and the modules in it."""

    name: str
    """Attribute name in the module above."""
    kind: str
    """Class name."""
    shape: tuple[int, ...] | None
    """Shape of its output; None when its parent does not call it but uses its parameters."""
    parameters: int
    """Numbers in it and below."""
    flops: int
    """Floating-point operations of one forward pass in it and below: two per multiply-add of matrix products and
    convolutions, as ``torch.utils.flop_counter`` counts. 0 for a module that is not called."""
    parts: tuple["Part", ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return asdict(self)


def summarize(model: nn.Module, shape: tuple[int, ...]) -> Part:
    """Send a fake input of ``shape`` through ``model`` and return what was seen; nothing is computed or allocated."""
    shapes: dict[str, tuple[int, ...]] = {}
    hooks = [module.register_forward_hook(_recorder(shapes, name)) for name, module in model.named_modules()]
    counter = FlopCounterMode(display=False)
    training = model.training
    dtype = next((p.dtype for p in model.parameters()), torch.float32)
    try:
        with FakeTensorMode(allow_non_fake_inputs=True), torch.no_grad(), counter:
            model.eval()(torch.empty(shape, dtype=dtype))
    finally:
        model.train(training)
        for hook in hooks:
            hook.remove()
    root = type(model).__name__
    flops = {name: sum(counts.values()) for name, counts in counter.get_flop_counts().items()}

    def part(path: str, module: nn.Module) -> Part:
        children = tuple(
            part(f"{path}.{name}" if path else name, child)
            for name, child in module.named_children()
            if name != "parametrizations"  # a weight's own bookkeeping; its parameters are counted above it
        )
        return Part(
            name=path.rpartition(".")[2] or root,
            kind=type(module).__name__.removeprefix("Parametrized"),
            shape=shapes.get(path),
            parameters=sum(p.numel() for p in module.parameters()),
            flops=flops.get(f"{root}.{path}" if path else root, 0),
            parts=children,
        )

    return part("", model)


def _recorder(shapes: dict[str, tuple[int, ...]], name: str) -> Any:
    def record(_module: nn.Module, _inputs: tuple[Any, ...], output: Any) -> None:
        if isinstance(output, Tensor):
            shapes[name] = tuple(output.shape)

    return record
