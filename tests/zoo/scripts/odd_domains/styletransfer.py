"""Optimize an image against Gram matrices of a frozen random network with LBFGS; the image is the only variable."""

import torch
import torch.nn as nn
import torch.nn.functional as F

torch.manual_seed(0)
cnn = (
    nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.AvgPool2d(2), nn.Conv2d(8, 16, 3, padding=1), nn.ReLU())
    .eval()
    .requires_grad_(False)
)
content = torch.rand(1, 3, 24, 24)
style = torch.sin(torch.linspace(0, 20, 24))[None, None, None].expand(1, 3, 24, 24) * 0.5 + 0.5


def gram(f):
    n, c, h, w = f.shape
    v = f.view(c, h * w)
    return v @ v.t() / (c * h * w)


def feats(x):
    out = []
    for l in cnn:
        x = l(x)
        if isinstance(l, nn.ReLU):
            out.append(x)
    return out


with torch.no_grad():
    target_c = feats(content)[-1]
    target_s = [gram(f) for f in feats(style)]
img = content.clone().requires_grad_(True)
opt = torch.optim.LBFGS([img], max_iter=4)
run = [0]
while run[0] <= 40:

    def closure():
        with torch.no_grad():
            img.clamp_(0, 1)
        opt.zero_grad()
        f = feats(img)
        loss = F.mse_loss(f[-1], target_c) + 1e5 * sum(F.mse_loss(gram(a), b) for a, b in zip(f, target_s))
        loss.backward()
        run[0] += 1
        if run[0] % 10 == 0:
            print("run", run[0], loss.item())
        return loss

    opt.step(closure)
with torch.no_grad():
    img.clamp_(0, 1)
torch.save(img.detach(), "styled.pt")
