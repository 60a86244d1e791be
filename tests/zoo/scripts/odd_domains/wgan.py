import torch
from torch import autograd, nn

torch.manual_seed(1)
LAMBDA, CRITIC, BATCH = 0.1, 5, 64
gen = nn.Sequential(nn.Linear(2, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 2))
critic = nn.Sequential(nn.Linear(2, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 1))
og = torch.optim.Adam(gen.parameters(), lr=1e-4, betas=(0.5, 0.9))
oc = torch.optim.Adam(critic.parameters(), lr=1e-4, betas=(0.5, 0.9))


def real_batches():
    centers = torch.tensor([[1.0, 0], [-1, 0], [0, 1], [0, -1]]) * 2
    while True:
        yield centers[torch.randint(4, (BATCH,))] + torch.randn(BATCH, 2) * 0.05


def gradient_penalty(real, fake):
    alpha = torch.rand(BATCH, 1)
    inter = (alpha * real + (1 - alpha) * fake).requires_grad_(True)
    out = critic(inter)
    (g,) = autograd.grad(out, inter, torch.ones_like(out), create_graph=True, retain_graph=True)
    return ((g.norm(2, dim=1) - 1) ** 2).mean() * LAMBDA


data = real_batches()
for it in range(30):
    for p in critic.parameters():
        p.requires_grad = True
    for _ in range(CRITIC):
        real = next(data)
        critic.zero_grad()
        with torch.no_grad():
            z = torch.randn(BATCH, 2)
            fake = gen(z)
        loss_c = critic(fake).mean() - critic(real).mean() + gradient_penalty(real, fake)
        loss_c.backward()
        oc.step()
    for p in critic.parameters():
        p.requires_grad = False
    gen.zero_grad()
    loss_g = -critic(gen(torch.randn(BATCH, 2))).mean()
    loss_g.backward()
    og.step()
    if it % 10 == 9:
        print(it, loss_c.item(), loss_g.item())
torch.save({"gen": gen.state_dict(), "critic": critic.state_dict()}, "wgan.pt")
