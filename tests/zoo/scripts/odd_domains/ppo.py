"""PPO, cleanRL style, vector env by hand, GAE, minibatch epochs, clipped surrogate, annealed lr."""

import argparse

import numpy as np
import torch
import torch.nn as nn
from torch.distributions.categorical import Categorical


class VecPole:
    def __init__(s, n, seed):
        s.n, s.rng = n, np.random.default_rng(seed)
        s.state = s.rng.normal(0, 0.1, (n, 2)).astype(np.float32)

    def reset(s):
        return s.state.copy()

    def step(s, a):
        s.state[:, 1] += 0.1 * s.state[:, 0] + (a * 2 - 1) * 0.05
        s.state[:, 0] += s.state[:, 1] * 0.2
        done = np.abs(s.state[:, 0]) > 1
        if done.any():
            s.state[done] = s.rng.normal(0, 0.1, (done.sum(), 2))
        return s.state.copy(), np.where(done, -1.0, 0.1).astype(np.float32), done.astype(np.float32)


def layer_init(l, std=np.sqrt(2), bias=0.0):
    nn.init.orthogonal_(l.weight, std)
    nn.init.constant_(l.bias, bias)
    return l


class Agent(nn.Module):
    def __init__(s):
        super().__init__()
        s.critic = nn.Sequential(layer_init(nn.Linear(2, 32)), nn.Tanh(), layer_init(nn.Linear(32, 1), std=1.0))
        s.actor = nn.Sequential(layer_init(nn.Linear(2, 32)), nn.Tanh(), layer_init(nn.Linear(32, 2), std=0.01))

    def get_value(s, x):
        return s.critic(x)

    def get_action_and_value(s, x, action=None):
        p = Categorical(logits=s.actor(x))
        action = p.sample() if action is None else action
        return action, p.log_prob(action), p.entropy(), s.critic(x)


if __name__ == "__main__":
    ap = argparse.ArgumentParser()
    ap.add_argument("--seed", type=int, default=1)
    ap.add_argument("--num-envs", type=int, default=4)
    ap.add_argument("--num-steps", type=int, default=32)
    ap.add_argument("--updates", type=int, default=4)
    ap.add_argument("--anneal-lr", action="store_true", default=True)
    args = ap.parse_args()
    np.random.seed(args.seed)
    torch.manual_seed(args.seed)
    env = VecPole(args.num_envs, args.seed)
    agent = Agent()
    opt = torch.optim.Adam(agent.parameters(), lr=2.5e-3, eps=1e-5)
    N, E = args.num_steps, args.num_envs
    obs = torch.zeros(N, E, 2)
    actions = torch.zeros(N, E)
    logp = torch.zeros(N, E)
    rew = torch.zeros(N, E)
    dones = torch.zeros(N, E)
    vals = torch.zeros(N, E)
    no = torch.tensor(env.reset())
    nd = torch.zeros(E)
    for up in range(1, args.updates + 1):
        if args.anneal_lr:
            opt.param_groups[0]["lr"] = (1 - (up - 1) / args.updates) * 2.5e-3
        for t in range(N):
            obs[t], dones[t] = no, nd
            with torch.no_grad():
                a, lp, _, v = agent.get_action_and_value(no)
                vals[t] = v.flatten()
            actions[t], logp[t] = a, lp
            o, r, d = env.step(a.numpy())
            rew[t] = torch.tensor(r)
            no, nd = torch.tensor(o), torch.tensor(d)
        with torch.no_grad():
            nv = agent.get_value(no).reshape(1, -1)
            adv = torch.zeros_like(rew)
            last = 0
            for t in reversed(range(N)):
                nnt, nxt = (1 - nd, nv) if t == N - 1 else (1 - dones[t + 1], vals[t + 1])
                delta = rew[t] + 0.99 * nxt * nnt - vals[t]
                adv[t] = last = delta + 0.99 * 0.95 * nnt * last
            ret = adv + vals
        bo, bl, ba, bad, br, bv = (
            obs.reshape(-1, 2),
            logp.reshape(-1),
            actions.reshape(-1),
            adv.reshape(-1),
            ret.reshape(-1),
            vals.reshape(-1),
        )
        idx = np.arange(N * E)
        for _ in range(3):
            np.random.shuffle(idx)
            for s in range(0, N * E, 32):
                mb = idx[s : s + 32]
                _, nl, ent, v = agent.get_action_and_value(bo[mb], ba.long()[mb])
                lr_ = nl - bl[mb]
                ratio = lr_.exp()
                A = bad[mb]
                A = (A - A.mean()) / (A.std() + 1e-8)
                pg = torch.max(-A * ratio, -A * ratio.clamp(0.8, 1.2)).mean()
                v = v.view(-1)
                vc = bv[mb] + (v - bv[mb]).clamp(-0.2, 0.2)
                vl = 0.5 * torch.max((v - br[mb]) ** 2, (vc - br[mb]) ** 2).mean()
                loss = pg - 0.01 * ent.mean() + 0.5 * vl
                opt.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(agent.parameters(), 0.5)
                opt.step()
        print(up, rew.mean().item(), vl.item())
    torch.save(agent.state_dict(), "ppo.cleanrl_model")
