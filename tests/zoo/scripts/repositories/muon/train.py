"""Language model in the manner of speed runs: token shards, Muon for matrices, Adam for the rest, rate and momentum by hand."""

import glob
import os
import time
import uuid
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn


@dataclass
class Hyperparameters:
    input_bin: str = "data/tokens_train_*.bin"
    input_val_bin: str = "data/tokens_val_*.bin"
    batch_size: int = 4
    sequence_length: int = 32
    num_iterations: int = 16
    cooldown_frac: float = 0.4
    val_loss_every: int = 4
    val_tokens: int = 512
    save_every: int = 0


args = Hyperparameters()
VOCAB = 64


def zeropower(G, steps=5):
    a, b, c = (3.4445, -4.7750, 2.0315)
    X = G.bfloat16() / (G.norm() + 1e-7)
    if G.size(0) > G.size(1):
        X = X.T
    for _ in range(steps):
        A = X @ X.T
        X = a * X + (b * A + c * A @ A) @ X
    return (X.T if G.size(0) > G.size(1) else X).to(G.dtype)


class Muon(torch.optim.Optimizer):
    def __init__(self, params, lr=0.02, momentum=0.95, nesterov=True):
        super().__init__(params, dict(lr=lr, momentum=momentum, nesterov=nesterov))

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            for p in group["params"]:
                state = self.state[p]
                if "momentum_buffer" not in state:
                    state["momentum_buffer"] = torch.zeros_like(p.grad)
                buf = state["momentum_buffer"]
                buf.lerp_(p.grad, 1 - group["momentum"])
                g = p.grad.lerp_(buf, group["momentum"]) if group["nesterov"] else buf
                p.add_(zeropower(g), alpha=-group["lr"] * max(1, p.size(-2) / p.size(-1)) ** 0.5)


class Block(nn.Module):
    def __init__(self, dim, heads):
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim, bias=False)
        self.proj = nn.Linear(dim, dim, bias=False)
        self.up, self.down = nn.Linear(dim, 4 * dim, bias=False), nn.Linear(4 * dim, dim, bias=False)
        self.proj.weight.data.zero_()
        self.down.weight.data.zero_()
        self.lambdas = nn.Parameter(torch.tensor([1.0, 0.0]))

    def forward(self, x, x0):
        x = self.lambdas[0] * x + self.lambdas[1] * x0
        B, T, C = x.shape
        q, k, v = (
            F.rms_norm(self.qkv(F.rms_norm(x, (C,))), (3 * C,)).view(B, T, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        )
        x = x + self.proj(F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).reshape(B, T, C))
        return x + self.down(F.relu(self.up(F.rms_norm(x, (C,)))).square())


class GPT(nn.Module):
    def __init__(self, dim=32, layers=4):
        super().__init__()
        self.embed = nn.Embedding(VOCAB, dim)
        self.blocks = nn.ModuleList(Block(dim, 2) for _ in range(layers))
        self.skip_weights = nn.Parameter(torch.ones(layers // 2))
        self.lm_head = nn.Linear(dim, VOCAB, bias=False)
        self.lm_head.weight.data.zero_()

    def forward(self, idx, target):
        x = x0 = F.rms_norm(self.embed(idx), (self.embed.embedding_dim,))
        skips = []
        half = len(self.blocks) // 2
        for i, block in enumerate(self.blocks):
            if i >= half:
                x = x + self.skip_weights[i - half] * skips.pop()
            x = block(x, x0)
            if i < half:
                skips.append(x)
        logits = self.lm_head(F.rms_norm(x, (x.size(-1),))).float()
        logits = 15 * torch.tanh(logits / 15)
        return F.cross_entropy(logits.view(-1, VOCAB), target.view(-1))


class ShardLoader:
    def __init__(self, pattern, B, T):
        self.files, self.B, self.T = sorted(glob.glob(pattern)), B, T
        assert self.files, f"no files for {pattern}"
        self.reset()

    def reset(self):
        self.shard, self.at = 0, 0
        self.tokens = np.memmap(self.files[0], dtype=np.uint16, mode="r")

    def next_batch(self):
        n = self.B * self.T
        buf = torch.from_numpy(self.tokens[self.at : self.at + n + 1].astype(np.int64))
        self.at += n
        if self.at + n + 1 > len(self.tokens):
            self.shard, self.at = (self.shard + 1) % len(self.files), 0
            self.tokens = np.memmap(self.files[self.shard], dtype=np.uint16, mode="r")
        return buf[:-1].view(self.B, self.T), buf[1:].view(self.B, self.T)


def write_tokens():
    os.makedirs("data", exist_ok=True)
    rng = np.random.default_rng(0)
    for name, count in (("train_000", 3000), ("train_001", 3000), ("val_000", 700)):
        walk = np.cumsum(rng.integers(0, 3, count)) % VOCAB
        walk.astype(np.uint16).tofile(f"data/tokens_{name}.bin")


if not glob.glob(args.input_bin):
    write_tokens()
torch.manual_seed(1337)
train_loader = ShardLoader(args.input_bin, args.batch_size, args.sequence_length)
val_loader = ShardLoader(args.input_val_bin, args.batch_size, args.sequence_length)
model = GPT()
matrices = [p for p in model.blocks.parameters() if p.ndim == 2]
scalars = [p for p in model.blocks.parameters() if p.ndim < 2] + [model.skip_weights]
optimizers = [
    torch.optim.Adam(
        [
            dict(params=[model.embed.weight], lr=0.3),
            dict(params=[model.lm_head.weight], lr=0.02),
            dict(params=scalars, lr=0.04),
        ],
        betas=(0.8, 0.95),
        fused=True,
    ),
    Muon(matrices, lr=0.05, momentum=0.95),
]
for opt in optimizers:
    for group in opt.param_groups:
        group["initial_lr"] = group["lr"]
run_id = str(uuid.uuid4())
os.makedirs("logs", exist_ok=True)
logfile = f"logs/{run_id}.txt"


def print0(s):
    with open(logfile, "a") as f:
        print(s)
        print(s, file=f)


training_time, t0 = 0.0, time.perf_counter()
train_loader.reset()
x, y = train_loader.next_batch()
for step in range(args.num_iterations + 1):
    last_step = step == args.num_iterations
    if last_step or (args.val_loss_every > 0 and step % args.val_loss_every == 0):
        training_time += time.perf_counter() - t0
        model.eval()
        val_loader.reset()
        val_loss = 0.0
        val_steps = args.val_tokens // (args.batch_size * args.sequence_length)
        for _ in range(val_steps):
            with torch.no_grad():
                val_loss += model(*val_loader.next_batch())
        val_loss /= val_steps
        print0(f"step:{step}/{args.num_iterations} val_loss:{val_loss:.4f} train_time:{1000 * training_time:.0f}ms")
        t0 = time.perf_counter()
    if last_step:
        torch.save(
            dict(step=step, model=model.state_dict(), optimizers=[o.state_dict() for o in optimizers]),
            f"logs/state_{run_id}.pt",
        )
        break
    model.train()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = model(x, y)
    x, y = train_loader.next_batch()
    loss.backward()
    frac = min(step / 6, 1)
    optimizers[1].param_groups[0]["momentum"] = (1 - frac) * 0.85 + frac * 0.95
    t = 1 - step / args.num_iterations
    for opt in optimizers:
        for group in opt.param_groups:
            group["lr"] = group["initial_lr"] * min(1.0, t / args.cooldown_frac)
        opt.step()
    model.zero_grad(set_to_none=True)
    print0(f"step:{step + 1} train_loss:{loss.item():.4f}")
