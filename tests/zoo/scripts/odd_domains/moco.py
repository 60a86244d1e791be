"""MoCo: momentum encoder, queue buffer, InfoNCE, in the forward of one module."""

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset


class MoCo(nn.Module):
    def __init__(self, dim=16, K=64, m=0.99, T=0.2):
        super().__init__()
        self.K, self.m, self.T = K, m, T
        mk = lambda: nn.Sequential(nn.Linear(20, 32), nn.ReLU(), nn.Linear(32, dim))
        self.encoder_q, self.encoder_k = mk(), mk()
        for q, k in zip(self.encoder_q.parameters(), self.encoder_k.parameters()):
            k.data.copy_(q.data)
            k.requires_grad = False
        self.register_buffer("queue", F.normalize(torch.randn(dim, K), dim=0))
        self.register_buffer("queue_ptr", torch.zeros(1, dtype=torch.long))

    @torch.no_grad()
    def _momentum(self):
        for q, k in zip(self.encoder_q.parameters(), self.encoder_k.parameters()):
            k.data = k.data * self.m + q.data * (1.0 - self.m)

    @torch.no_grad()
    def _enqueue(self, keys):
        b, ptr = keys.shape[0], int(self.queue_ptr)
        assert self.K % b == 0
        self.queue[:, ptr : ptr + b] = keys.T
        self.queue_ptr[0] = (ptr + b) % self.K

    def forward(self, xq, xk):
        q = F.normalize(self.encoder_q(xq), dim=1)
        with torch.no_grad():
            self._momentum()
            k = F.normalize(self.encoder_k(xk), dim=1)
        pos = torch.einsum("nc,nc->n", q, k)[:, None]
        neg = torch.einsum("nc,ck->nk", q, self.queue.clone().detach())
        logits = torch.cat([pos, neg], 1) / self.T
        labels = torch.zeros(len(logits), dtype=torch.long)
        self._enqueue(k)
        return logits, labels


if __name__ == "__main__":
    torch.manual_seed(3)
    data = torch.randn(128, 20)
    loader = DataLoader(TensorDataset(data, torch.arange(128) % 4), 16, shuffle=True, drop_last=True)
    model = MoCo()
    crit = nn.CrossEntropyLoss()
    opt = torch.optim.SGD(model.encoder_q.parameters(), 0.1, momentum=0.9, weight_decay=1e-4)
    for ep in range(3):
        model.train()
        hits = 0
        for x, _ in loader:
            out, tgt = model(x + 0.1 * torch.randn_like(x), x + 0.1 * torch.randn_like(x))
            loss = crit(out, tgt)
            hits += (out.argmax(1) == tgt).sum().item()
            opt.zero_grad()
            loss.backward()
            opt.step()
        print(ep, loss.item(), hits / 128)
        torch.save(
            {"epoch": ep + 1, "state_dict": model.state_dict(), "optimizer": opt.state_dict()},
            f"checkpoint_{ep:04d}.pth.tar",
        )
