"""Denoising diffusion with a trainer class: endless loader, groups of accumulated batches, averaged copy, milestones."""

import copy
import math
from functools import partial
from pathlib import Path

import fire_lite
import numpy as np
import torch
import torch.nn.functional as F
from torch import einsum, nn
from torch.optim import Adam
from torch.utils import data


def cycle(dl):
    while True:
        yield from dl


def exists(x):
    return x is not None


class SinusoidalPosEmb(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.dim = dim

    def forward(self, x):
        freq = torch.exp(torch.arange(self.dim // 2) * -(math.log(10000) / (self.dim // 2 - 1)))
        emb = x[:, None] * freq[None]
        return torch.cat((emb.sin(), emb.cos()), dim=-1)


class Residual(nn.Module):
    def __init__(self, fn):
        super().__init__()
        self.fn = fn

    def forward(self, x, *args):
        return self.fn(x, *args) + x


class ResnetBlock(nn.Module):
    def __init__(self, dim, dim_out, time_dim):
        super().__init__()
        self.mlp = nn.Sequential(nn.SiLU(), nn.Linear(time_dim, 2 * dim_out))
        self.proj, self.norm = nn.Conv2d(dim, dim_out, 3, padding=1), nn.GroupNorm(4, dim_out)
        self.out = nn.Conv2d(dim_out, dim_out, 3, padding=1)
        self.res_conv = nn.Conv2d(dim, dim_out, 1) if dim != dim_out else nn.Identity()

    def forward(self, x, t):
        scale, shift = self.mlp(t)[..., None, None].chunk(2, dim=1)
        h = F.silu(self.norm(self.proj(x)) * (scale + 1) + shift)
        return self.out(h) + self.res_conv(x)


class LinearAttention(nn.Module):
    def __init__(self, dim, heads=2):
        super().__init__()
        self.heads, self.to_qkv, self.to_out = heads, nn.Conv2d(dim, 3 * dim, 1, bias=False), nn.Conv2d(dim, dim, 1)

    def forward(self, x):
        b, c, h, w = x.shape
        q, k, v = self.to_qkv(x).reshape(b, 3, self.heads, c // self.heads, h * w).unbind(1)
        context = einsum("b h d n, b h e n -> b h d e", k.softmax(dim=-1), v)
        return self.to_out(einsum("b h d e, b h d n -> b h e n", context, q.softmax(dim=-2)).reshape(b, c, h, w))


class Unet(nn.Module):
    def __init__(self, dim, channels=1):
        super().__init__()
        self.time_mlp = nn.Sequential(
            SinusoidalPosEmb(dim), nn.Linear(dim, 4 * dim), nn.GELU(), nn.Linear(4 * dim, dim)
        )
        block = partial(ResnetBlock, time_dim=dim)
        self.down1, self.down2 = block(channels, dim), block(dim, 2 * dim)
        self.pool, self.mid, self.attn = (
            nn.Conv2d(dim, dim, 4, 2, 1),
            block(2 * dim, 2 * dim),
            Residual(LinearAttention(2 * dim)),
        )
        self.up, self.up1, self.final = (
            nn.ConvTranspose2d(2 * dim, dim, 4, 2, 1),
            block(2 * dim, dim),
            nn.Conv2d(dim, channels, 1),
        )

    def forward(self, x, time):
        t = self.time_mlp(time.float())
        one = self.down1(x, t)
        h = self.attn(self.mid(self.down2(self.pool(one), t), t))
        return self.final(self.up1(torch.cat((self.up(h), one), dim=1), t))


class GaussianDiffusion(nn.Module):
    def __init__(self, model, timesteps, size):
        super().__init__()
        self.model, self.num_timesteps, self.size = model, timesteps, size
        x = torch.linspace(0, timesteps, timesteps + 1)
        alphas = torch.cos((x / timesteps + 0.008) / 1.008 * math.pi / 2) ** 2
        betas = torch.clip(1 - alphas[1:] / alphas[:-1], 0, 0.999)
        self.register_buffer("betas", betas)
        self.register_buffer("alphas_cumprod", torch.cumprod(1 - betas, 0))

    def forward(self, img):
        t = torch.randint(0, self.num_timesteps, (len(img),)).long()
        noise = torch.randn_like(img)
        a = self.alphas_cumprod[t][:, None, None, None]
        return F.l1_loss(self.model(a.sqrt() * (img * 2 - 1) + (1 - a).sqrt() * noise, t), noise)

    @torch.no_grad()
    def sample(self, batch_size):
        img = torch.randn(batch_size, 1, self.size, self.size)
        for i in reversed(range(self.num_timesteps)):
            eps = self.model(img, torch.full((batch_size,), i))
            img = (img - self.betas[i] / (1 - self.alphas_cumprod[i]).sqrt() * eps) / (1 - self.betas[i]).sqrt()
            img = img + (self.betas[i].sqrt() * torch.randn_like(img) if i else 0)
        return (img.clamp(-1, 1) + 1) / 2


class Blobs(data.Dataset):
    def __init__(self, folder):
        self.paths = sorted(Path(folder).glob("*.npy"))

    def __len__(self):
        return len(self.paths)

    def __getitem__(self, index):
        img = np.load(self.paths[index]).astype(np.float32) / 255
        return torch.from_numpy(img[:, ::-1].copy() if torch.rand(()) < 0.5 else img)[None]


class EMA:
    def __init__(self, beta):
        self.beta = beta

    def update_model_average(self, ma_model, current_model):
        for current, ma in zip(current_model.parameters(), ma_model.parameters(), strict=True):
            ma.data = ma.data * self.beta + (1 - self.beta) * current.data


class Trainer:
    def __init__(self, diffusion, folder, *, batch, lr, steps, accumulate, ema_every, ema_start, milestone, results):
        self.model, self.ema, self.ema_model = diffusion, EMA(0.9), copy.deepcopy(diffusion)
        self.ds = Blobs(folder)
        self.dl = cycle(data.DataLoader(self.ds, batch_size=batch, shuffle=True, drop_last=True))
        self.opt = Adam(diffusion.parameters(), lr=lr)
        self.steps, self.accumulate, self.ema_every, self.ema_start, self.milestone = (
            steps,
            accumulate,
            ema_every,
            ema_start,
            milestone,
        )
        self.step, self.results = 0, Path(results)
        self.results.mkdir(exist_ok=True)
        self.reset_parameters()

    def reset_parameters(self):
        self.ema_model.load_state_dict(self.model.state_dict())

    def step_ema(self):
        if self.step < self.ema_start:
            self.reset_parameters()
            return
        self.ema.update_model_average(self.ema_model, self.model)

    def save(self, milestone):
        torch.save(
            {"step": self.step, "model": self.model.state_dict(), "ema": self.ema_model.state_dict()},
            str(self.results / f"model-{milestone}.pt"),
        )

    def train(self):
        while self.step < self.steps:
            for _ in range(self.accumulate):
                loss = self.model(next(self.dl))
                (loss / self.accumulate).backward()
            self.opt.step()
            self.opt.zero_grad()
            if self.step % self.ema_every == 0:
                self.step_ema()
            if self.step != 0 and self.step % self.milestone == 0:
                number = self.step // self.milestone
                self.ema_model.eval()
                np.save(self.results / f"sample-{number}.npy", self.ema_model.sample(batch_size=4).numpy())
                self.save(number)
            self.step += 1


def main(
    folder="blobs",
    dim=8,
    timesteps=12,
    batch=4,
    lr=1e-3,
    steps=18,
    accumulate=2,
    ema_every=2,
    ema_start=4,
    milestone=4,
    seed=0,
):
    torch.manual_seed(seed)
    if not Path(folder).exists():
        Path(folder).mkdir()
        rng = np.random.default_rng(2)
        yy, xx = np.mgrid[:8, :8]
        for i in range(32):
            y, x = rng.uniform(2, 6, 2)
            np.save(f"{folder}/{i}.npy", (255 * np.exp(-((yy - y) ** 2 + (xx - x) ** 2) / 3)).astype(np.uint8))
    diffusion = GaussianDiffusion(Unet(dim), timesteps, 8)
    Trainer(
        diffusion,
        folder,
        batch=batch,
        lr=lr,
        steps=steps,
        accumulate=accumulate,
        ema_every=ema_every,
        ema_start=ema_start,
        milestone=milestone,
        results="results",
    ).train()


if __name__ == "__main__":
    fire_lite.Fire(main)
