"""Skip-gram with negative sampling, sparse embeddings and SparseAdam, random pairs per step."""

import numpy as np
import torch
from torch import nn

rng = np.random.default_rng(0)
torch.manual_seed(0)
vocab, dim, neg = 60, 16, 5
topics = rng.integers(0, 6, vocab)
corpus = np.concatenate([rng.choice(np.flatnonzero(topics == t), 12) for t in rng.integers(0, 6, 200)])
counts = np.bincount(corpus, minlength=vocab)
noise = torch.tensor((counts**0.75) / (counts**0.75).sum())
pairs = np.array(
    [
        (corpus[i], corpus[j])
        for i in range(len(corpus))
        for j in range(max(0, i - 2), min(len(corpus), i + 3))
        if i != j
    ]
)


class SGNS(nn.Module):
    def __init__(self):
        super().__init__()
        self.u, self.v = nn.Embedding(vocab, dim, sparse=True), nn.Embedding(vocab, dim, sparse=True)
        nn.init.uniform_(self.u.weight, -0.5 / dim, 0.5 / dim)
        nn.init.zeros_(self.v.weight)

    def forward(self, c, o, n):
        e = self.u(c)
        pos = (e * self.v(o)).sum(-1)
        ng = torch.bmm(self.v(n), e.unsqueeze(2)).squeeze(2)
        return -(nn.functional.logsigmoid(pos) + nn.functional.logsigmoid(-ng).sum(1)).mean()


m = SGNS()
opt = torch.optim.SparseAdam(list(m.parameters()), lr=0.02)
for epoch in range(2):
    order = rng.permutation(len(pairs))[:4000]
    run = 0.0
    for k in range(0, len(order), 200):
        b = torch.as_tensor(pairs[order[k : k + 200]])
        n = torch.multinomial(noise, len(b) * neg, replacement=True).view(-1, neg)
        opt.zero_grad()
        loss = m(b[:, 0], b[:, 1], n)
        loss.backward()
        opt.step()
        run += loss.item()
    print(epoch, run / (k // 200 + 1))
np.save("vectors.npy", m.u.weight.detach().numpy())
