"""A critic that takes three steps for each of the generator's, weights clipped, generator averaged for samples."""

import os

import torch
from torch import nn

torch.manual_seed(11)
real = torch.sin(torch.arange(32) * 0.4 + torch.rand(256, 1) * 6).unsqueeze(1) + 0.05 * torch.randn(256, 1, 32)
generator = nn.Sequential(nn.Linear(8, 32), nn.LeakyReLU(0.2), nn.Linear(32, 32), nn.Unflatten(1, (1, 32)))
critic = nn.Sequential(nn.Conv1d(1, 8, 5, stride=2), nn.LeakyReLU(0.2), nn.Flatten(), nn.Linear(8 * 14, 1))
average = torch.optim.swa_utils.AveragedModel(generator, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.9))
g = torch.optim.RMSprop(generator.parameters(), lr=5e-5)
c = torch.optim.RMSprop(critic.parameters(), lr=5e-5)
for _ in range(5):
    for _ in range(3):
        batch = real[torch.randint(256, (16,))]
        with torch.no_grad():
            fake = generator(torch.randn(16, 8))
        c.zero_grad()
        (critic(fake).mean() - critic(batch).mean()).backward()
        c.step()
        with torch.no_grad():
            for p in critic.parameters():
                p.clamp_(-0.02, 0.02)
    critic.requires_grad_(False)
    g.zero_grad()
    (-critic(generator(torch.randn(16, 8))).mean()).backward()
    g.step()
    critic.requires_grad_(True)
    average.update_parameters(generator)
average.eval()
with torch.no_grad():
    samples = average(torch.randn(64, 8))
print(float(samples.mean()), float(samples.std()))
torch.save(
    {"generator": generator.state_dict(), "average": average.state_dict(), "critic": critic.state_dict()}, "gan.tmp"
)
os.replace("gan.tmp", "gan.pt")
