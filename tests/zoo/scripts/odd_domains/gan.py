"""DCGAN-like: two optimizers, real/fake labels, fixed noise samples, saves each epoch."""

import argparse
import os

import torch
from torch import nn, optim
from torch.utils.data import DataLoader, TensorDataset


def weights_init(m):
    name = m.__class__.__name__
    if "Conv" in name:
        nn.init.normal_(m.weight, 0.0, 0.02)
    elif "BatchNorm" in name:
        nn.init.normal_(m.weight, 1.0, 0.02)
        nn.init.zeros_(m.bias)


class G(nn.Module):
    def __init__(s, nz=8, f=8):
        super().__init__()
        s.main = nn.Sequential(
            nn.ConvTranspose2d(nz, 2 * f, 4, 1, 0, bias=False),
            nn.BatchNorm2d(2 * f),
            nn.ReLU(True),
            nn.ConvTranspose2d(2 * f, f, 4, 2, 1, bias=False),
            nn.BatchNorm2d(f),
            nn.ReLU(True),
            nn.ConvTranspose2d(f, 1, 4, 2, 1, bias=False),
            nn.Tanh(),
        )

    def forward(s, z):
        return s.main(z)


class D(nn.Module):
    def __init__(s, f=8):
        super().__init__()
        s.main = nn.Sequential(
            nn.Conv2d(1, f, 4, 2, 1, bias=False),
            nn.LeakyReLU(0.2, True),
            nn.Conv2d(f, 2 * f, 4, 2, 1, bias=False),
            nn.BatchNorm2d(2 * f),
            nn.LeakyReLU(0.2, True),
            nn.Conv2d(2 * f, 1, 4, 1, 0, bias=False),
            nn.Sigmoid(),
        )

    def forward(s, x):
        return s.main(x).view(-1)


if __name__ == "__main__":
    p = argparse.ArgumentParser()
    p.add_argument("--niter", type=int, default=2)
    p.add_argument("--outf", default=".")
    p.add_argument("--manualSeed", type=int, default=999)
    opt = p.parse_args()
    torch.manual_seed(opt.manualSeed)
    os.makedirs(opt.outf, exist_ok=True)
    t = torch.linspace(-1, 1, 16)
    data = torch.stack([torch.outer(torch.cos(t * a), torch.sin(t * b + 1)) for a, b in torch.rand(128, 2) * 6])[
        :, None
    ]
    loader = DataLoader(TensorDataset(data, torch.zeros(128)), 16, shuffle=True)
    netG, netD = G(), D()
    netG.apply(weights_init)
    netD.apply(weights_init)
    criterion = nn.BCELoss()
    fixed = torch.randn(16, 8, 1, 1)
    oD, oG = optim.Adam(netD.parameters(), 2e-4, (0.5, 0.999)), optim.Adam(netG.parameters(), 2e-4, (0.5, 0.999))
    for epoch in range(opt.niter):
        for i, (real, _) in enumerate(loader):
            netD.zero_grad()
            b = real.size(0)
            label = torch.full((b,), 1.0)
            errD_real = criterion(netD(real), label)
            errD_real.backward()
            fake = netG(torch.randn(b, 8, 1, 1))
            label.fill_(0.0)
            errD_fake = criterion(netD(fake.detach()), label)
            errD_fake.backward()
            oD.step()
            netG.zero_grad()
            label.fill_(1.0)
            errG = criterion(netD(fake), label)
            errG.backward()
            oG.step()
            if i % 4 == 0:
                print(f"[{epoch}/{opt.niter}][{i}] D {(errD_real + errD_fake).item():.3f} G {errG.item():.3f}")
        netG.eval()
        with torch.no_grad():
            sample = netG(fixed)
        netG.train()
        torch.save(sample, f"{opt.outf}/fake_{epoch}.pt")
        torch.save(netG.state_dict(), f"{opt.outf}/netG_epoch_{epoch}.pth")
        torch.save(netD.state_dict(), f"{opt.outf}/netD_epoch_{epoch}.pth")
