"""Fixed sparse masks applied to weights after every step and to grads before; lottery ticket rewinding to the initial weights."""

import copy

import torch
from torch import nn

torch.manual_seed(0)
x = torch.randn(300, 10)
y = (x[:, 0] * 2 + x[:, 1]) + 0.05 * torch.randn(300)
net = nn.Sequential(nn.Linear(10, 40), nn.ReLU(), nn.Linear(40, 1))
init = copy.deepcopy(net.state_dict())
masks = {n: torch.ones_like(p) for n, p in net.named_parameters() if p.ndim > 1}


def fit(steps):
    opt = torch.optim.SGD(net.parameters(), 0.02, momentum=0.9)
    for _ in range(steps):
        i = torch.randperm(240)[:40]
        opt.zero_grad()
        loss = ((net(x[i]).squeeze(1) - y[i]) ** 2).mean()
        loss.backward()
        for n, p in net.named_parameters():
            if n in masks:
                p.grad.mul_(masks[n])
        opt.step()
        with torch.no_grad():
            for n, p in net.named_parameters():
                if n in masks:
                    p.mul_(masks[n])
    with torch.no_grad():
        return ((net(x[240:]).squeeze(1) - y[240:]) ** 2).mean().item()


for round_ in range(3):
    print(round_, fit(2), {n: m.mean().item() for n, m in masks.items()})
    for n, p in net.named_parameters():
        if n in masks:
            k = p.detach().abs()[masks[n] > 0].quantile(0.4)
            masks[n] = masks[n] * (p.detach().abs() > k)
    net.load_state_dict(init)
    with torch.no_grad():
        for n, p in net.named_parameters():
            if n in masks:
                p.mul_(masks[n])
torch.save({"init": init, "masks": masks}, "ticket.pt")
