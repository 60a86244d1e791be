"""Mean teacher: labelled and unlabelled loaders zipped, consistency weight ramped up from zero, EMA teacher is what is evaluated and saved as best."""

import copy
import itertools
import math

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
n = 500
th = torch.rand(n) * math.pi
y = torch.arange(n) % 2
X = torch.stack([th.cos() + (y == 1), th.sin() * (1 - 2 * y.float()) + 0.3 * (y == 1)], 1) + 0.08 * torch.randn(n, 2)
lab, unl, val = TensorDataset(X[:20], y[:20]), TensorDataset(X[20:172]), TensorDataset(X[400:], y[400:])
student = nn.Sequential(nn.Linear(2, 32), nn.ReLU(), nn.Dropout(0.1), nn.Linear(32, 2))
teacher = copy.deepcopy(student)
opt = torch.optim.Adam(student.parameters(), 5e-3)
for p in teacher.parameters():
    p.detach_()
ll, ul, vl = DataLoader(lab, 10, shuffle=True), DataLoader(unl, 38, shuffle=True), DataLoader(val, 50)
step, best = 0, 0.0
for ep in range(4):
    student.train()
    teacher.train()
    for (xl, yl), (xu,) in zip(itertools.cycle(ll), ul):
        w = 5 * math.exp(-5 * (1 - min(1, ep / 3)) ** 2)
        s = student(torch.cat([xl, xu]) + 0.05 * torch.randn(48, 2))
        with torch.no_grad():
            t = teacher(torch.cat([xl, xu]) + 0.05 * torch.randn(48, 2))
        loss = F.cross_entropy(s[:10], yl) + w * F.mse_loss(s.softmax(1), t.softmax(1))
        opt.zero_grad()
        loss.backward()
        opt.step()
        step += 1
        a = min(1 - 1 / (step + 1), 0.97)
        for pt, ps in zip(teacher.parameters(), student.parameters()):
            pt.data.mul_(a).add_(ps.data, alpha=1 - a)
    teacher.eval()
    with torch.no_grad():
        acc = sum((teacher(x).argmax(1) == b).sum().item() for x, b in vl) / 100
    print(ep, acc)
    if acc >= best:
        best = acc
        torch.save({"teacher": teacher.state_dict(), "student": student.state_dict(), "acc": acc}, "mt_best.pt")
