"""LoRA: a base model trained elsewhere is loaded frozen; only A, B train; only adapters are saved."""

import math
import os

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


class LoRALinear(nn.Module):
    def __init__(self, base, r=4, alpha=8):
        super().__init__()
        self.base = base
        self.lora_A = nn.Parameter(torch.empty(r, base.in_features))
        self.lora_B = nn.Parameter(torch.zeros(base.out_features, r))
        self.scale = alpha / r
        nn.init.kaiming_uniform_(self.lora_A, a=math.sqrt(5))

    def forward(self, x):
        return self.base(x) + (x @ self.lora_A.T @ self.lora_B.T) * self.scale


def inject(m):
    for n, c in m.named_children():
        if isinstance(c, nn.Linear):
            setattr(m, n, LoRALinear(c))
        else:
            inject(c)


def base():
    return nn.Sequential(nn.Linear(10, 32), nn.ReLU(), nn.Sequential(nn.Linear(32, 32), nn.ReLU()), nn.Linear(32, 3))


def main():
    torch.manual_seed(21)
    if not os.path.exists("base.pt"):
        torch.save(base().state_dict(), "base.pt")
    net = base()
    net.load_state_dict(torch.load("base.pt", weights_only=True))
    net.requires_grad_(False)
    inject(net)
    trainable = [p for p in net.parameters() if p.requires_grad]
    print(f"trainable {sum(p.numel() for p in trainable)} of {sum(p.numel() for p in net.parameters())}")
    x = torch.randn(256, 10)
    y = (x @ torch.randn(10, 3)).argmax(1)
    tl = DataLoader(TensorDataset(x[:192], y[:192]), 16, shuffle=True)
    opt = torch.optim.AdamW(trainable, 5e-3, weight_decay=0.0)
    for ep in range(3):
        net.train()
        for a, b in tl:
            loss = nn.functional.cross_entropy(net(a), b)
            loss.backward()
            opt.step()
            opt.zero_grad()
        net.eval()
        with torch.no_grad():
            print(ep, (net(x[192:]).argmax(1) == y[192:]).float().mean().item())
        torch.save({k: v for k, v in net.state_dict().items() if "lora_" in k}, "adapter.pt")


main()
