"""One Mamba-2 layer, forward and backward, beside its two projections alone and beside other implementations.

    python benchmarks/model_layer.py                   # ratios to the two projections, interleaved in one run
    python benchmarks/model_layer.py --lengths         # time and memory from 960 to 15,360 steps
    python benchmarks/model_layer.py --memory          # peak memory of one layer, each in a process of its own

Layer: d_model 512, d_state 16, d_conv 4, expand 2, headdim 64; batch 2, 960 steps, float32. "floor" is in_proj and
out_proj alone, forward and backward. "usual" is the chunked scan as most PyTorch ports write it: automatic
differentiation through a decay matrix per head and chunk, chunk 64 or 256. "transformers" is its Mamba2Mixer without
kernels, where transformers is installed. Times are medians of rounds in which every subject runs once. With
``--clock processor`` they are processor time of one thread, which neighbors on the machine disturb less.
"""

import argparse
import importlib.util
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from brainbrr.models import Mamba2
from brainbrr.models.allocator import keep_freed_memory

WIDTH, BATCH, LENGTH = 512, 2, 960
Step = Callable[[], object]


class UsualMamba2(Mamba2):
    """The same layer by automatic differentiation, with decays and products made per head."""

    def forward(self, u: Tensor) -> Tensor:
        zxbcdt = self.in_proj(u)
        heads, n = len(self.D), self.d_state
        z, xbc, dt = zxbcdt.split([self.d_inner, self.conv1d.in_channels, heads], dim=-1)
        xbc = functional.silu(self.conv1d(xbc.mT)[..., : u.shape[1]].mT)
        x, b, c = xbc.split([self.d_inner, n, n], dim=-1)
        dt = functional.softplus(dt + self.dt_bias)
        x = x.reshape(*x.shape[:2], heads, self.headdim)
        pad = -u.shape[1] % self.chunk_size
        b, c = (t[:, :, None].expand(-1, -1, heads, -1) for t in (b, c))
        parts = [functional.pad(t, (0, 0, 0, 0, 0, pad)) for t in (x * dt[..., None], b, c)]
        xs, bs, cs = (t.unflatten(1, (-1, self.chunk_size)) for t in parts)
        steps = functional.pad(-self.A_log.exp() * dt, (0, 0, 0, pad)).unflatten(1, (-1, self.chunk_size))
        steps = steps.permute(0, 3, 1, 2)
        total = steps.cumsum(-1)
        decay = _pairs(steps).exp()
        y = torch.einsum("bclhn,bcshn,bhcls,bcshp->bclhp", cs, bs, decay, xs)
        states = torch.einsum("bclhn,bhcl,bclhp->bchpn", bs, (total[..., -1:] - total).exp(), xs)
        states = torch.cat([torch.zeros_like(states[:, :1]), states], dim=1)
        between = _pairs(functional.pad(total[..., -1], (1, 0))).exp()
        starts = torch.einsum("bhzc,bchpn->bzhpn", between, states)[:, :-1]
        y = y + torch.einsum("bclhn,bchpn,bhcl->bclhp", cs, starts, total.exp())
        y = y.flatten(1, 2)[:, : u.shape[1]] + self.D[:, None] * x
        gated = y.flatten(2) * functional.silu(z)
        return self.out_proj(functional.rms_norm(gated, gated.shape[-1:], self.norm.weight, self.norm.eps))


def _pairs(steps: Tensor) -> Tensor:
    total = steps.cumsum(-1)
    size = steps.shape[-1]
    above = torch.ones(size, size, dtype=torch.bool).triu(1)
    return (total[..., :, None] - total[..., None, :]).masked_fill(above, -torch.inf)


class Projections(nn.Module):
    """The floor: both projections, with nothing between them."""

    def __init__(self, layer: Mamba2, length: int) -> None:
        super().__init__()
        self.layer = layer
        self.inner = torch.randn(BATCH, length, layer.d_inner, requires_grad=True)
        self.gradient = torch.randn(BATCH, length, layer.in_proj.out_features)

    def step(self, u: Tensor, gradient: Tensor) -> None:
        torch.autograd.backward([self.layer.in_proj(u), self.layer.out_proj(self.inner)], [self.gradient, gradient])


def subjects(length: int) -> dict[str, Callable[[], Step]]:
    """Return what builds each subject's step."""

    def layer_step(make: Callable[[], nn.Module]) -> Step:
        torch.manual_seed(0)
        layer = make()
        u, gradient = torch.randn(BATCH, length, WIDTH, requires_grad=True), torch.randn(BATCH, length, WIDTH)

        def step() -> None:
            layer.zero_grad()
            u.grad = None
            layer(u).backward(gradient)

        return step

    def floor() -> Step:
        projections = Projections(Mamba2(WIDTH), length)
        u, gradient = torch.randn(BATCH, length, WIDTH, requires_grad=True), torch.randn(BATCH, length, WIDTH)

        def step() -> None:
            projections.zero_grad()
            u.grad = projections.inner.grad = None
            projections.step(u, gradient)

        return step

    def layers(kind: type[Mamba2], chunk: int) -> Callable[[], Step]:
        return lambda: layer_step(lambda: kind(WIDTH, chunk_size=chunk, kernel="torch"))

    found: dict[str, Callable[[], Step]] = {"floor": floor}
    found |= {f"ours, chunk {chunk}": layers(Mamba2, chunk) for chunk in (32, 64)}
    found |= {f"usual, chunk {chunk}": layers(UsualMamba2, chunk) for chunk in (64, 256)}
    if importlib.util.find_spec("transformers"):
        found |= {
            f"transformers, chunk {chunk}": lambda chunk=chunk: layer_step(lambda: _transformers(chunk))
            for chunk in (32, 64, 256)
        }
    return found


def _transformers(chunk: int) -> nn.Module:
    from transformers import Mamba2Config
    from transformers.models.mamba2.modeling_mamba2 import Mamba2Mixer

    config = Mamba2Config(
        hidden_size=WIDTH, state_size=16, conv_kernel=4, expand=2, head_dim=64, num_heads=16, n_groups=1,
        chunk_size=chunk, use_bias=False, num_hidden_layers=1,
    )  # fmt: skip
    mixer = Mamba2Mixer(config, 0)
    mixer.load_state_dict(Mamba2(WIDTH).state_dict(), strict=True)
    return mixer


def compare(rounds: int, clock: Callable[[], float]) -> None:
    """Print each subject's median time, and the median over rounds of its ratio to the floor of that round."""
    steps = {name: make() for name, make in subjects(LENGTH).items()}
    times: dict[str, list[float]] = {name: [] for name in steps}
    for turn in range(rounds + 2):
        for name, step in steps.items():
            start = clock()
            step()
            if turn >= 2:
                times[name].append(clock() - start)
    for name, spent in times.items():
        ratios = [one / floor for one, floor in zip(spent, times["floor"], strict=True)]
        print(
            f"{name:24s} {statistics.median(spent) * 1e3:8.1f} ms   x floor: median {statistics.median(ratios):.2f}, "
            f"least {min(spent) / min(times['floor']):.2f}"
        )


def lengths(rounds: int, clock: Callable[[], float]) -> None:
    """Print time per step and growth of the peak as the sequence grows."""
    first = 0.0
    for length in (960, 1920, 3840, 7680, 15360):
        step = subjects(length)["ours, chunk 32"]()
        spent = []
        for _ in range(rounds):
            start = clock()
            step()
            spent.append(clock() - start)
        per_step = statistics.median(spent[1:] or spent) / length * 1e6
        first = first or per_step
        print(f"L {length:6d}: {per_step:7.1f} us per step, {per_step / first:.2f} times that of 960")


def memory() -> None:
    """Print the growth of the peak resident size over one step, each subject in a fresh process."""
    peaks = {}
    for name in subjects(LENGTH):
        run = [sys.executable, __file__, "--peak-of", name]
        done = subprocess.run(run, capture_output=True, text=True, check=True)
        peaks[name] = json.loads(done.stdout.splitlines()[-1])
        print(f"{name:24s} {peaks[name]:7.1f} MB, {peaks[name] / peaks['floor']:.2f} x floor")
    for chunk in (64, 256):
        share = peaks["ours, chunk 32"] / peaks[f"usual, chunk {chunk}"]
        print(f"ours takes {share:.2f} of the usual at chunk {chunk}")


def peak_of(name: str) -> None:
    """Print by how much one step raises the peak, in MB, the libraries' own buffers left out."""
    subjects(32)[name]()()
    step = subjects(LENGTH)[name]()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    step()
    print(json.dumps((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--clock", choices=["wall", "processor"], default="wall")
    parser.add_argument("--lengths", action="store_true")
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--peak-of", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(1 if arguments.clock == "processor" else arguments.threads)
    clock = time.thread_time if arguments.clock == "processor" else time.perf_counter
    if arguments.peak_of:
        peak_of(arguments.peak_of)
        return
    if arguments.memory:
        memory()
        return
    print(f"memory kept: {keep_freed_memory()}, threads: {torch.get_num_threads()}, clock: {arguments.clock}")
    (lengths if arguments.lengths else compare)(arguments.rounds, clock)


if __name__ == "__main__":
    main()
