"""Truncated BPTT on a long stream: hidden state carried over and detached, contiguous columns as batch, state reset for validation (word_language_model style)."""

import math

import torch
from torch import nn

torch.manual_seed(1111)
V, B, T = 12, 8, 15


def batchify(d, b):
    n = d.size(0) // b
    return d.narrow(0, 0, n * b).view(b, -1).t().contiguous()


def get_batch(s, i):
    k = min(T, len(s) - 1 - i)
    return s[i : i + k], s[i + 1 : i + 1 + k].view(-1)


def repackage(h):
    return tuple(v.detach() for v in h)


class RNNModel(nn.Module):
    def __init__(s, d=24):
        super().__init__()
        s.drop = nn.Dropout(0.2)
        s.encoder = nn.Embedding(V, d)
        s.rnn = nn.LSTM(d, d, 2, dropout=0.2)
        s.decoder = nn.Linear(d, V)
        s.d = d
        nn.init.uniform_(s.encoder.weight, -0.1, 0.1)
        nn.init.zeros_(s.decoder.bias)
        nn.init.uniform_(s.decoder.weight, -0.1, 0.1)

    def forward(s, x, h):
        o, h = s.rnn(s.drop(s.encoder(x)), h)
        return nn.functional.log_softmax(s.decoder(s.drop(o)).view(-1, V), 1), h

    def init_hidden(s, b):
        w = next(s.parameters())
        return w.new_zeros(2, b, s.d), w.new_zeros(2, b, s.d)


P = torch.softmax(torch.randn(V, V) * 2, 1)
seq = [0]
for _ in range(2600):
    seq.append(int(torch.multinomial(P[seq[-1]], 1)))
data = torch.tensor(seq)
tr, va = batchify(data[:2000], B), batchify(data[2000:], 4)
model = RNNModel()
crit = nn.NLLLoss()
lr = 5.0
best = None


def evaluate(s):
    model.eval()
    tot = 0.0
    h = model.init_hidden(4)
    with torch.no_grad():
        for i in range(0, s.size(0) - 1, T):
            x, y = get_batch(s, i)
            o, h = model(x, h)
            h = repackage(h)
            tot += len(x) * crit(o, y).item()
    return tot / (len(s) - 1)


def train():
    model.train()
    h = model.init_hidden(B)
    for i in range(0, tr.size(0) - 1, T):
        x, y = get_batch(tr, i)
        model.zero_grad()
        h = repackage(h)
        o, h = model(x, h)
        loss = crit(o, y)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 0.25)
        for p in model.parameters():
            p.data.add_(p.grad, alpha=-lr)


for ep in range(3):
    train()
    v = evaluate(va)
    print(ep, v, math.exp(v))
    if best is None or v < best:
        best = v
        with open("model.pt", "wb") as f:
            torch.save(model, f)
    else:
        lr /= 4.0
