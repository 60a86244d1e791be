# ruff: noqa: B007, RUF059 (in the style of scripts found elsewhere)
"""A bare script after the manner of small language-model trainers: get_batch, its own schedule, one dictionary on disk."""

import argparse
import math
import os
from dataclasses import asdict, dataclass

import numpy as np
import torch
import torch.nn as nn
from torch.nn import functional as F


@dataclass
class Config:
    vocab: int = 24
    block: int = 16
    layers: int = 2
    heads: int = 2
    width: int = 16
    dropout: float = 0.1


class Attention(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.c_attn = nn.Linear(c.width, 3 * c.width)
        self.c_proj = nn.Linear(c.width, c.width)
        self.heads, self.dropout = c.heads, c.dropout
        self.resid = nn.Dropout(c.dropout)

    def forward(self, x):
        b, t, w = x.shape
        q, k, v = self.c_attn(x).split(w, dim=2)
        q, k, v = (z.view(b, t, self.heads, w // self.heads).transpose(1, 2) for z in (q, k, v))
        y = F.scaled_dot_product_attention(q, k, v, dropout_p=self.dropout if self.training else 0.0, is_causal=True)
        return self.resid(self.c_proj(y.transpose(1, 2).contiguous().view(b, t, w)))


class MLP(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.c_fc = nn.Linear(c.width, 4 * c.width)
        self.c_proj = nn.Linear(4 * c.width, c.width)
        self.dropout = nn.Dropout(c.dropout)

    def forward(self, x):
        return self.dropout(self.c_proj(F.gelu(self.c_fc(x))))


class Layer(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.ln_1, self.ln_2 = nn.LayerNorm(c.width), nn.LayerNorm(c.width)
        self.attn, self.mlp = Attention(c), MLP(c)

    def forward(self, x):
        x = x + self.attn(self.ln_1(x))
        return x + self.mlp(self.ln_2(x))


class GPT(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.c = c
        self.wte = nn.Embedding(c.vocab, c.width)
        self.wpe = nn.Embedding(c.block, c.width)
        self.drop = nn.Dropout(c.dropout)
        self.h = nn.ModuleList([Layer(c) for _ in range(c.layers)])
        self.ln_f = nn.LayerNorm(c.width)
        self.lm_head = nn.Linear(c.width, c.vocab, bias=False)
        self.wte.weight = self.lm_head.weight
        self.apply(self.init_weights)

    def init_weights(self, module):
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=0.02)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Embedding):
            nn.init.normal_(module.weight, std=0.02)

    def forward(self, idx, targets=None):
        pos = torch.arange(idx.shape[1])
        x = self.drop(self.wte(idx) + self.wpe(pos))
        for layer in self.h:
            x = layer(x)
        logits = self.lm_head(self.ln_f(x))
        loss = None
        if targets is not None:
            loss = F.cross_entropy(logits.view(-1, logits.size(-1)), targets.view(-1))
        return logits, loss


def parse():
    p = argparse.ArgumentParser()
    p.add_argument("--out", default="out")
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--max-iters", type=int, default=40)
    p.add_argument("--eval-interval", type=int, default=2)
    p.add_argument("--eval-iters", type=int, default=2)
    p.add_argument("--batch", type=int, default=4)
    p.add_argument("--accum", type=int, default=2)
    p.add_argument("--lr", type=float, default=1e-2)
    p.add_argument("--min-lr", type=float, default=1e-3)
    p.add_argument("--warmup", type=int, default=3)
    p.add_argument("--decay-iters", type=int, default=40)
    p.add_argument("--clip", type=float, default=1.0)
    p.add_argument("--resume", default=None)
    return p


def main(argv=None):
    a = parse().parse_args(argv)
    os.makedirs(a.out, exist_ok=True)
    torch.manual_seed(a.seed)
    rng = np.random.default_rng(1)
    text = np.cumsum(rng.integers(0, 3, size=4000)) % 24
    train_data, val_data = text[:3600], text[3600:]
    draws = torch.Generator().manual_seed(a.seed + 17)
    config = Config()

    def get_batch(split):
        data = train_data if split == "train" else val_data
        ix = torch.randint(len(data) - config.block, (a.batch,), generator=draws)
        x = torch.stack([torch.from_numpy(data[i : i + config.block].astype(np.int64)) for i in ix])
        y = torch.stack([torch.from_numpy(data[i + 1 : i + 1 + config.block].astype(np.int64)) for i in ix])
        return x, y

    def get_lr(it):
        if it < a.warmup:
            return a.lr * (it + 1) / (a.warmup + 1)
        if it > a.decay_iters:
            return a.min_lr
        ratio = (it - a.warmup) / (a.decay_iters - a.warmup)
        return a.min_lr + 0.5 * (1.0 + math.cos(math.pi * ratio)) * (a.lr - a.min_lr)

    model = GPT(config)
    it, best = 0, 1e9
    groups = [
        {"params": [p for p in model.parameters() if p.dim() >= 2], "weight_decay": 0.1},
        {"params": [p for p in model.parameters() if p.dim() < 2], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=a.lr, betas=(0.9, 0.95))
    if a.resume:
        checkpoint = torch.load(a.resume, map_location="cpu", weights_only=False)
        model.load_state_dict(checkpoint["model"])
        optimizer.load_state_dict(checkpoint["optimizer"])
        it, best = checkpoint["iter_num"], checkpoint["best_val_loss"]
        torch.set_rng_state(checkpoint["rng"])
        draws.set_state(checkpoint["draws"])

    @torch.no_grad()
    def estimate_loss():
        out = {}
        model.eval()
        for split in ["train", "val"]:
            losses = torch.zeros(a.eval_iters)
            for k in range(a.eval_iters):
                x, y = get_batch(split)
                _, loss = model(x, y)
                losses[k] = loss.item()
            out[split] = losses.mean().item()
        model.train()
        return out

    def save(name):
        checkpoint = {
            "model": model.state_dict(),
            "optimizer": optimizer.state_dict(),
            "model_args": asdict(config),
            "iter_num": it,
            "best_val_loss": best,
            "rng": torch.get_rng_state(),
            "draws": draws.get_state(),
        }
        torch.save(checkpoint, os.path.join(a.out, name + ".new"))
        os.replace(os.path.join(a.out, name + ".new"), os.path.join(a.out, name))

    model.train()
    while it < a.max_iters:
        lr = get_lr(it)
        for group in optimizer.param_groups:
            group["lr"] = lr
        for micro in range(a.accum):
            x, y = get_batch("train")
            logits, loss = model(x, y)
            loss = loss / a.accum
            loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), a.clip)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        it += 1
        if it % a.eval_interval == 0:
            losses = estimate_loss()
            print(f"iter {it}: loss {loss.item() * a.accum:.4f}, val {losses['val']:.4f}")
            best = min(best, losses["val"])
            save("ckpt.pt")


def train(run):
    arguments = ["--out", str(run.workdir), "--seed", str(run.seed), "--max-iters", str(run.max_steps)]
    if run.resume_from is not None:
        arguments += ["--resume", str(run.resume_from)]
    main(arguments)


if __name__ == "__main__":
    main()
