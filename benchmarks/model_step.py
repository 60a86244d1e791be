"""One training step at production width beside the sum of its convolutions and matrix products timed alone.

    python benchmarks/model_step.py                          # both encoders, batch 2
    python benchmarks/model_step.py --encoder tcn --batch 1

The step is forward, loss, backward and AdamW on a window of 19 x 15,360. Every convolution and matrix product in it,
forward and backward, is noted with the shapes and layout of its arguments, then run alone on random numbers; the sum
over the step is the floor. The profile lists what takes the rest.
"""

import argparse
import statistics
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
from torch.nn import functional
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only

from brainbrr.config import config_from_mapping
from brainbrr.models import build_detector, parameter_groups
from brainbrr.models.allocator import keep_freed_memory

aten = torch.ops.aten
PRODUCTS = {
    op.default
    for op in (
        aten.mm, aten.addmm, aten.bmm, aten.baddbmm, aten.baddbmm_, aten.convolution, aten.convolution_backward,
    )
}  # fmt: skip


class Like:
    """The shape and layout of a tensor, to be hashed and made again."""

    def __init__(self, tensor: torch.Tensor) -> None:
        self.key = (tuple(tensor.shape), tensor.stride(), tensor.dtype)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Like) and self.key == other.key

    def __hash__(self) -> int:
        return hash(self.key)

    def make(self) -> torch.Tensor:
        shape, stride, dtype = self.key
        return torch.empty_strided(shape, stride, dtype=dtype).normal_()


class Products(TorchDispatchMode):
    """Note every product of a step."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: Counter[Any] = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func in PRODUCTS:
            noted = tree_map_only(torch.Tensor, Like, args)
            self.seen[func, _frozen(noted)] += 1
        return func(*args, **(kwargs or {}))


def _frozen(value: Any) -> Any:
    return tuple(_frozen(item) for item in value) if isinstance(value, list | tuple) else value


def _made(value: Any) -> Any:
    if isinstance(value, Like):
        return value.make()
    return [_made(item) for item in value] if isinstance(value, tuple) else value


def timed(run: Callable[[], object], repeats: int, clock: Callable[[], float]) -> float:
    run()
    spent = []
    for _ in range(repeats):
        start = clock()
        run()
        spent.append(clock() - start)
    return statistics.median(spent)


def make_step(encoder: str, batch: int) -> Callable[[], object]:
    tree = {"run": {"name": "benchmark", "output_dir": "unused"}, "model": {"encoder": {"name": encoder}}}
    torch.manual_seed(0)
    model = build_detector(config_from_mapping(tree, "benchmark"), seizure_share=0.05)
    optimizer = torch.optim.AdamW(parameter_groups(model, 0.01), lr=1e-4)
    signal = torch.randn(batch, 19, 15360)
    labels = (torch.rand(batch, 15360) < 0.05).float()

    def step() -> None:
        optimizer.zero_grad()
        functional.binary_cross_entropy_with_logits(model(signal), labels).backward()
        optimizer.step()

    return step


def measure(encoder: str, batch: int, repeats: int, clock: Callable[[], float]) -> None:
    step = make_step(encoder, batch)
    with Products() as products:
        step()
    # Side by side: half of the steps before the products, half after.
    before = timed(step, repeats, clock)
    floor = Counter[str]()
    for (func, noted), count in products.seen.items():
        args = _made(noted)
        floor[str(func)] += count * timed(lambda func=func, args=args: func(*args), 2, clock)
    after = timed(step, repeats, clock)
    whole, alone = (before + after) / 2, sum(floor.values())
    print(
        f"\n{encoder}, batch {batch}: step {whole:.2f} s, its products alone {alone:.2f} s: {whole / alone:.2f} times"
    )
    for name, spent in floor.most_common():
        print(f"    {name:34s} {spent:6.2f} s")
    with profile(activities=[ProfilerActivity.CPU]) as profiled:
        step()
    print(profiled.key_averages().table(sort_by="self_cpu_time_total", row_limit=14, max_name_column_width=34))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--encoder", choices=["tcn", "unet"], action="append")
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--clock", choices=["wall", "processor"], default="wall", help="processor: of one thread")
    arguments = parser.parse_args()
    torch.set_num_threads(1 if arguments.clock == "processor" else arguments.threads)
    clock = time.thread_time if arguments.clock == "processor" else time.perf_counter
    print(f"memory kept: {keep_freed_memory()}, threads: {torch.get_num_threads()}")
    for encoder in arguments.encoder or ["tcn", "unet"]:
        measure(encoder, arguments.batch, arguments.repeats, clock)


if __name__ == "__main__":
    main()
