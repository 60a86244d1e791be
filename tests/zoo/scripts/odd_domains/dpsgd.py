"""DP-SGD by hand with torch.func per-sample gradients, clipping to C, Gaussian noise, grads written into .grad."""

import torch
from torch import nn
from torch.func import functional_call, grad, vmap

torch.manual_seed(0)
X = torch.randn(512, 6)
y = (X[:, 0] - X[:, 1] > 0).float()
Xt, yt, Xv, yv = X[:400], y[:400], X[400:], y[400:]
net = nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 1))
opt = torch.optim.SGD(net.parameters(), 0.5)
C, sigma, B = 1.0, 0.8, 64


def loss_one(params, x, t):
    return nn.functional.binary_cross_entropy_with_logits(functional_call(net, params, (x[None],)).squeeze(), t)


per_sample = vmap(grad(loss_one), in_dims=(None, 0, 0))
for step in range(30):
    pick = torch.rand(400) < B / 400
    params = {k: v.detach() for k, v in net.named_parameters()}
    g = per_sample(params, Xt[pick], yt[pick])
    norms = torch.stack([v.flatten(1).norm(dim=1) for v in g.values()]).norm(dim=0)
    scale = (C / (norms + 1e-6)).clamp(max=1.0)
    opt.zero_grad()
    for name, p in net.named_parameters():
        s = torch.einsum("n,n...->...", scale, g[name])
        p.grad = (s + sigma * C * torch.randn_like(s)) / B
    opt.step()
    if step % 10 == 9:
        with torch.no_grad():
            print(step, ((net(Xv).squeeze(1) > 0).float() == yv).float().mean().item())
