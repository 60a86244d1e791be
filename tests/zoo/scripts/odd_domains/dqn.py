"""DQN on a corridor: replay buffer, target network synchronised every C steps, Huber loss, epsilon-greedy."""

import collections
import copy
import random

import numpy as np
import torch
from torch import nn

Transition = collections.namedtuple("Transition", "s a r s2 done")


class Corridor:
    n = 8

    def reset(self):
        self.x, self.t = 0, 0
        return self.obs()

    def obs(self):
        o = np.zeros(self.n, np.float32)
        o[self.x] = 1
        return o

    def step(self, a):
        self.x = min(self.n - 1, max(0, self.x + (1 if a else -1)))
        self.t += 1
        done = self.x == self.n - 1
        return self.obs(), (1.0 if done else -0.01), done, self.t >= 40


class Agent:
    def __init__(self, gamma=0.95):
        self.q = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 2))
        self.target = copy.deepcopy(self.q)
        self.opt = torch.optim.Adam(self.q.parameters(), 5e-3)
        self.gamma = gamma
        self.buf = collections.deque(maxlen=1000)

    def act(self, s, eps):
        if random.random() < eps:
            return random.randrange(2)
        with torch.no_grad():
            return int(self.q(torch.from_numpy(s)[None]).argmax(1))

    def learn(self, bs=32):
        b = Transition(*zip(*random.sample(self.buf, bs)))
        s, s2 = torch.tensor(np.stack(b.s)), torch.tensor(np.stack(b.s2))
        a = torch.tensor(b.a)
        r = torch.tensor(b.r)
        d = torch.tensor(b.done, dtype=torch.float32)
        with torch.no_grad():
            y = r + self.gamma * (1 - d) * self.target(s2).max(1).values
        q = self.q(s).gather(1, a[:, None]).squeeze(1)
        loss = nn.functional.smooth_l1_loss(q, y)
        self.opt.zero_grad()
        loss.backward()
        nn.utils.clip_grad_value_(self.q.parameters(), 1.0)
        self.opt.step()
        return loss.item()


def main():
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)
    env, ag = Corridor(), Agent()
    steps = 0
    for ep in range(12):
        s, total, over = env.reset(), 0.0, False
        while not over:
            a = ag.act(s, max(0.1, 1 - steps / 200))
            s2, r, done, trunc = env.step(a)
            ag.buf.append(Transition(s, a, r, s2, done))
            s = s2
            total += r
            steps += 1
            over = done or trunc
            if len(ag.buf) >= 64 and steps % 4 == 0:
                ag.learn()
            if steps % 50 == 0:
                ag.target.load_state_dict(ag.q.state_dict())
        print(ep, steps, round(total, 2))
    torch.save(ag.q.state_dict(), "dqn.pt")


if __name__ == "__main__":
    main()
