"""Learning to learn: an LSTM proposes updates for small quadratic problems; meta-gradients through 10 unrolled inner steps."""

import torch
from torch import nn

torch.manual_seed(0)


class LearnedOptimizer(nn.Module):
    def __init__(s, h=12):
        super().__init__()
        s.cell, s.out, s.h = nn.LSTMCell(2, h), nn.Linear(h, 1), h
        nn.init.zeros_(s.out.bias)
        nn.init.normal_(s.out.weight, std=0.1)

    def start(s, n):
        return torch.zeros(n, s.h), torch.zeros(n, s.h)

    def forward(s, g, st):
        f = torch.stack([g.sign(), torch.log(g.abs() + 1e-8) / 10], 1)
        h, c = s.cell(f, st)
        return 0.1 * s.out(h).squeeze(1), (h, c)


def problem(n=6):
    W = torch.randn(n, n)
    b = torch.randn(n)
    return lambda t: ((W @ t - b) ** 2).mean()


opt_net = LearnedOptimizer()
meta = torch.optim.Adam(opt_net.parameters(), 3e-3)
for it in range(25):
    f = problem()
    theta = torch.randn(6, requires_grad=True)
    st = opt_net.start(6)
    total = 0.0
    for _ in range(10):
        loss = f(theta)
        total = total + loss
        (g,) = torch.autograd.grad(loss, theta, retain_graph=True)
        up, st = opt_net(g.detach(), st)
        theta = theta + up
    meta.zero_grad()
    (total + f(theta)).backward()
    nn.utils.clip_grad_norm_(opt_net.parameters(), 1.0)
    meta.step()
    if it % 8 == 0:
        print(it, total.item() / 10)
torch.save(opt_net.state_dict(), "l2l.pt")
