#!/usr/bin/env python
"""Masked autoencoder, then fine-tuning of its encoder with a new head: two stages, two folders, one script. Stage two loads with strict=False."""

import argparse
import math
import sys
from pathlib import Path

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset


class Sines(Dataset):
    def __init__(self, n, offset):
        self.n, self.offset = n, offset

    def __len__(self):
        return self.n

    def __getitem__(self, i):
        g = torch.Generator().manual_seed(self.offset + i)
        label = int(torch.randint(0, 3, (), generator=g))
        t = torch.arange(48) / 48
        phase = torch.rand((), generator=g) * 6.28
        return torch.sin(2 * math.pi * (2 + 3 * label) * t + phase) + 0.1 * torch.randn(48, generator=g), label


class Encoder(nn.Module):
    def __init__(self, dim=24, depth=2):
        super().__init__()
        self.patch_embed = nn.Linear(6, dim)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, dim))
        position = torch.arange(9)[:, None] / 100 ** (torch.arange(dim // 2)[None] / (dim // 2))
        self.pos_embed = nn.Parameter(torch.cat([position.sin(), position.cos()], 1)[None], requires_grad=False)
        self.blocks = nn.ModuleList(
            nn.TransformerEncoderLayer(dim, 3, 48, 0.0, "gelu", batch_first=True, norm_first=True) for _ in range(depth)
        )
        self.norm = nn.LayerNorm(dim)
        nn.init.normal_(self.cls_token, std=0.02)

    def tokens(self, x):
        return self.patch_embed(x.unflatten(1, (8, 6))) + self.pos_embed[:, 1:]

    def run(self, x):
        x = torch.cat([(self.cls_token + self.pos_embed[:, :1]).expand(len(x), -1, -1), x], 1)
        for block in self.blocks:
            x = block(x)
        return self.norm(x)


class MAE(Encoder):
    def __init__(self, dim=24):
        super().__init__(dim)
        self.decoder_embed, self.mask_token = nn.Linear(dim, 12), nn.Parameter(torch.zeros(1, 1, 12))
        self.decoder_pos_embed = nn.Parameter(torch.randn(1, 9, 12) * 0.1, requires_grad=False)
        self.decoder = nn.TransformerEncoderLayer(12, 2, 24, 0.0, "gelu", batch_first=True, norm_first=True)
        self.decoder_pred = nn.Linear(12, 6)

    def forward(self, x, ratio=0.5):
        tokens = self.tokens(x)
        n, length, dim = tokens.shape
        keep = int(length * (1 - ratio))
        noise = torch.rand(n, length)
        order = noise.argsort(1)
        restore = order.argsort(1)
        seen = torch.gather(tokens, 1, order[:, :keep, None].expand(-1, -1, dim))
        mask = torch.ones(n, length)
        mask[:, :keep] = 0
        mask = mask.gather(1, restore)
        y = self.decoder_embed(self.run(seen))
        full = torch.cat([y[:, 1:], self.mask_token.expand(n, length - keep, -1)], 1)
        full = torch.gather(full, 1, restore[:, :, None].expand(-1, -1, 12))
        y = self.decoder_pred(self.decoder(torch.cat([y[:, :1], full], 1) + self.decoder_pos_embed))[:, 1:]
        target = x.unflatten(1, (8, 6))
        target = (target - target.mean(-1, keepdim=True)) / (target.var(-1, keepdim=True) + 1e-6).sqrt()
        return (((y - target) ** 2).mean(-1) * mask).sum() / mask.sum()


class Classifier(Encoder):
    def __init__(self, dim=24):
        super().__init__(dim)
        self.head = nn.Linear(dim, 3)
        nn.init.trunc_normal_(self.head.weight, std=2e-5)

    def forward(self, x):
        return self.head(self.run(self.tokens(x))[:, 1:].mean(1))


def pretrain(args, folder):
    folder.mkdir(parents=True, exist_ok=True)
    model = MAE()
    opt = torch.optim.AdamW(
        [p for p in model.parameters() if p.requires_grad], lr=args.blr * args.batch_size / 16, betas=(0.9, 0.95)
    )
    loader = DataLoader(Sines(48, 0), args.batch_size, shuffle=True, drop_last=True)
    for epoch in range(args.pretrain_epochs):
        for it, (x, _) in enumerate(loader):
            opt.param_groups[0]["lr"] = args.blr * min(1.0, (epoch + it / len(loader)) / 0.5)
            loss = model(x)
            if not math.isfinite(loss.item()):
                print(f"Loss is {loss.item()}, stopping training")
                sys.exit(1)
            opt.zero_grad()
            loss.backward()
            opt.step()
        torch.save(
            {"model": model.state_dict(), "optimizer": opt.state_dict(), "epoch": epoch, "args": args},
            folder / f"checkpoint-{epoch}.pth",
        )
    return folder / f"checkpoint-{args.pretrain_epochs - 1}.pth"


def finetune(args, start, folder):
    folder.mkdir(parents=True, exist_ok=True)
    model = Classifier()
    saved = torch.load(start, weights_only=False)["model"]
    message = model.load_state_dict(saved, strict=False)
    assert set(message.missing_keys) == {"head.weight", "head.bias"}, message
    model.patch_embed.requires_grad_(False)
    opt = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=args.blr)
    loader, val = DataLoader(Sines(48, 0), args.batch_size, shuffle=True), DataLoader(Sines(24, 1000), 24)
    for epoch in range(args.epochs):
        model.train()
        for x, y in loader:
            loss = nn.functional.cross_entropy(model(x), y)
            opt.zero_grad()
            loss.backward()
            opt.step()
        model.eval()
        with torch.no_grad():
            acc = sum((model(x).argmax(1) == y).sum().item() for x, y in val) / 24
        print({"epoch": epoch, "test_acc1": acc})
        torch.save({"model": model.state_dict(), "epoch": epoch, "test_acc1": acc}, folder / "checkpoint-last.pth")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--batch_size", type=int, default=16)
    parser.add_argument("--blr", type=float, default=2e-3)
    parser.add_argument("--pretrain_epochs", type=int, default=1)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--output_dir", type=Path, default=Path("output_dir"))
    args = parser.parse_args()
    torch.manual_seed(0)
    finetune(args, pretrain(args, args.output_dir / "pretrain"), args.output_dir / "finetune")
