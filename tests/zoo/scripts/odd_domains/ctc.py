import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset


class Speech(Dataset):
    """Each symbol is a band of the 'spectrogram' lit for 3-5 frames, with silence between."""

    def __init__(self, n, seed):
        self.n, self.seed = n, seed

    def __len__(self):
        return self.n

    def __getitem__(self, i):
        r = np.random.default_rng((self.seed, i))
        k = r.integers(2, 5)
        lab = r.integers(1, 6, k)
        fr = [np.zeros((2, 10))]
        for s in lab:
            f = np.zeros((r.integers(3, 6), 10))
            f[:, 2 * (s - 1) : 2 * s] = 1.0
            fr += [f, np.zeros((r.integers(2, 4), 10))]
        x = np.concatenate(fr)
        x = x + r.normal(0, 0.1, x.shape)
        return torch.tensor(x, dtype=torch.float32), torch.tensor(lab)


def collate(b):
    xs, ys = zip(*b)
    return (
        nn.utils.rnn.pad_sequence(xs, batch_first=True),
        torch.cat(ys),
        torch.tensor([len(x) for x in xs]),
        torch.tensor([len(y) for y in ys]),
    )


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv1d(10, 32, 3, padding=1)
        self.rnn = nn.LSTM(32, 24, bidirectional=True, batch_first=True)
        self.fc = nn.Linear(48, 6)

    def forward(self, x, n):
        h = torch.relu(self.conv(x.transpose(1, 2))).transpose(1, 2)
        p = nn.utils.rnn.pack_padded_sequence(h, n, batch_first=True, enforce_sorted=False)
        h, _ = nn.utils.rnn.pad_packed_sequence(self.rnn(p)[0], batch_first=True)
        return self.fc(h).log_softmax(-1)


def decode(lp, n):
    out = []
    for p, k in zip(lp.argmax(-1), n):
        s = torch.unique_consecutive(p[:k])
        out.append([int(v) for v in s if v])
    return out


def run_epoch(net, loader, opt=None):
    net.train(opt is not None)
    ctc = nn.CTCLoss(zero_infinity=True)
    total, hit, cnt = 0.0, 0, 0
    with torch.set_grad_enabled(opt is not None):
        for x, y, nx, ny in loader:
            lp = net(x, nx)
            loss = ctc(lp.transpose(0, 1), y, nx, ny)
            if opt is not None:
                opt.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(net.parameters(), 5.0)
                opt.step()
            total += loss.item() * len(x)
            ref = [t.tolist() for t in y.split(ny.tolist())]
            hit += sum(a == b for a, b in zip(decode(lp.detach(), nx), ref))
            cnt += len(x)
    return total / cnt, hit / cnt


if __name__ == "__main__":
    torch.manual_seed(0)
    tr, va = (
        DataLoader(Speech(64, 1), 16, shuffle=True, collate_fn=collate, num_workers=0),
        DataLoader(Speech(32, 2), 16, collate_fn=collate),
    )
    net = Net()
    opt = torch.optim.RMSprop(net.parameters(), 2e-3)
    for e in range(3):
        t = run_epoch(net, tr, opt)
        v = run_epoch(net, va)
        print(e, *t, *v)
        torch.save(net.state_dict(), "ctc_last.pth")
