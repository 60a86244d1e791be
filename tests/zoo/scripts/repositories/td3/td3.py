"""Twin delayed policy gradients, one file: numpy replay, targets moved softly, the actor steps every second time."""

import argparse
import copy
import os

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F


class Pendulum:
    """A damped pendulum to hold upright."""

    def __init__(self, seed):
        self.rng = np.random.RandomState(seed)

    def reset(self):
        self.th, self.speed, self.t = self.rng.uniform(-np.pi, np.pi), self.rng.uniform(-1, 1), 0
        return self.observe()

    def observe(self):
        return np.array([np.cos(self.th), np.sin(self.th), self.speed])

    def step(self, action):
        cost = ((self.th + np.pi) % (2 * np.pi) - np.pi) ** 2 + 0.1 * self.speed**2 + 0.001 * float(action[0]) ** 2
        self.speed = np.clip(self.speed + (15 * np.sin(self.th) + 3 * float(action[0])) * 0.05, -8, 8)
        self.th, self.t = self.th + self.speed * 0.05, self.t + 1
        return self.observe(), -cost, self.t >= 25


class Actor(nn.Module):
    def __init__(self, state_dim, action_dim, max_action):
        super().__init__()
        self.l1, self.l2, self.l3, self.max_action = (
            nn.Linear(state_dim, 32),
            nn.Linear(32, 32),
            nn.Linear(32, action_dim),
            max_action,
        )

    def forward(self, state):
        return self.max_action * torch.tanh(self.l3(F.relu(self.l2(F.relu(self.l1(state))))))


class Critic(nn.Module):
    def __init__(self, state_dim, action_dim):
        super().__init__()
        self.q1 = nn.Sequential(nn.Linear(state_dim + action_dim, 32), nn.ReLU(), nn.Linear(32, 1))
        self.q2 = nn.Sequential(nn.Linear(state_dim + action_dim, 32), nn.ReLU(), nn.Linear(32, 1))

    def forward(self, state, action):
        sa = torch.cat([state, action], 1)
        return self.q1(sa), self.q2(sa)

    def first(self, state, action):
        return self.q1(torch.cat([state, action], 1))


class Memory:
    def __init__(self, state_dim, action_dim, max_size=1000):
        self.max_size, self.ptr, self.size = max_size, 0, 0
        self.parts = [np.zeros((max_size, n)) for n in (state_dim, action_dim, state_dim, 1, 1)]

    def add(self, *values):
        for part, value in zip(self.parts, values, strict=True):
            part[self.ptr] = value
        self.ptr, self.size = (self.ptr + 1) % self.max_size, min(self.size + 1, self.max_size)

    def sample(self, batch_size):
        ind = np.random.randint(0, self.size, size=batch_size)
        return tuple(torch.FloatTensor(part[ind]) for part in self.parts)


class TD3:
    def __init__(self, state_dim, action_dim, max_action, discount=0.99, tau=0.005, policy_freq=2):
        self.actor, self.critic = Actor(state_dim, action_dim, max_action), Critic(state_dim, action_dim)
        self.actor_target, self.critic_target = copy.deepcopy(self.actor), copy.deepcopy(self.critic)
        self.actor_optimizer = torch.optim.Adam(self.actor.parameters(), lr=3e-4)
        self.critic_optimizer = torch.optim.Adam(self.critic.parameters(), lr=3e-4)
        self.max_action, self.discount, self.tau, self.policy_freq, self.turns = (
            max_action,
            discount,
            tau,
            policy_freq,
            0,
        )

    def act(self, state):
        return self.actor(torch.FloatTensor(state.reshape(1, -1))).cpu().data.numpy().flatten()

    def train(self, memory, batch_size):
        self.turns += 1
        state, action, next_state, reward, alive = memory.sample(batch_size)
        with torch.no_grad():
            noise = (torch.randn_like(action) * 0.2 * self.max_action).clamp(-0.5, 0.5)
            next_action = (self.actor_target(next_state) + noise).clamp(-self.max_action, self.max_action)
            wanted = reward + alive * self.discount * torch.min(*self.critic_target(next_state, next_action))
        one, two = self.critic(state, action)
        error = F.mse_loss(one, wanted) + F.mse_loss(two, wanted)
        self.critic_optimizer.zero_grad()
        error.backward()
        self.critic_optimizer.step()
        if self.turns % self.policy_freq == 0:
            regret = -self.critic.first(state, self.actor(state)).mean()
            self.actor_optimizer.zero_grad()
            regret.backward()
            self.actor_optimizer.step()
            for net, target in ((self.critic, self.critic_target), (self.actor, self.actor_target)):
                for fast, slow in zip(net.parameters(), target.parameters(), strict=True):
                    slow.data.copy_(self.tau * fast.data + (1 - self.tau) * slow.data)

    def save(self, filename):
        for name in ("critic", "critic_optimizer", "actor", "actor_optimizer"):
            torch.save(getattr(self, name).state_dict(), f"{filename}_{name}")


def rollouts(policy, seed, episodes=2):
    env, total = Pendulum(seed + 100), 0.0
    for _ in range(episodes):
        state, done = env.reset(), False
        while not done:
            state, reward, done = env.step(policy.act(state))
            total += reward
    return total / episodes


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--seed", default=0, type=int)
    parser.add_argument("--warmup", default=60, type=int)
    parser.add_argument("--every", default=20, type=int)
    parser.add_argument("--total", default=110, type=int)
    parser.add_argument("--batch_size", default=32, type=int)
    parser.add_argument("--save_model", action="store_true")
    args = parser.parse_args()
    os.makedirs("./results", exist_ok=True)
    os.makedirs("./models", exist_ok=True)
    env = Pendulum(args.seed)
    torch.manual_seed(args.seed)
    np.random.seed(args.seed)
    policy, memory = TD3(3, 1, 2.0), Memory(3, 1)
    evaluations = [rollouts(policy, args.seed)]
    state, done = env.reset(), False
    for t in range(args.total):
        if t < args.warmup:
            action = np.random.uniform(-2, 2, 1)
        else:
            action = (policy.act(state) + np.random.normal(0, 0.2, size=1)).clip(-2, 2)
        next_state, reward, done = env.step(action)
        memory.add(state, action, next_state, reward, 1.0)
        state = next_state
        if t >= args.warmup:
            policy.train(memory, args.batch_size)
        if done:
            state = env.reset()
        if (t + 1) % args.every == 0:
            evaluations.append(rollouts(policy, args.seed))
            np.save("./results/td3_pendulum", evaluations)
            if args.save_model:
                policy.save("./models/td3_pendulum")
