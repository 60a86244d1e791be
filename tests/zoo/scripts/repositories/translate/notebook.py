# %% [markdown]
# # From French to English
# An exported notebook: one sentence at a time, attention, and now and then the network's own words as its next input.

# %%
import random
from collections import Counter
from pathlib import Path

import torch
from torch import nn, optim

random.seed(1)
torch.manual_seed(1)
START, STOP, LONGEST, FORCED = 0, 1, 8, 0.5

# %%
rows = [line.split("\t") for line in Path("data/eng-fra.txt").read_text(encoding="utf-8").lower().splitlines()]


def vocabulary(sentences):
    counted = Counter(word for sentence in sentences for word in sentence.split())
    return {"<start>": START, "<stop>": STOP} | {word: i + 2 for i, (word, _) in enumerate(counted.most_common())}


english, french = vocabulary(row[0] for row in rows), vocabulary(row[1] for row in rows)
spell = {number: word for word, number in english.items()}
numbers = lambda words, sentence: torch.tensor([words[w] for w in sentence.split()] + [STOP])
print(len(rows), "pairs,", len(french), "and", len(english), "words")


# %%
class Reader(nn.Module):
    def __init__(self, words, width):
        super().__init__()
        self.table, self.cell = nn.Embedding(words, width), nn.GRUCell(width, width)

    def forward(self, word, state):
        return self.cell(self.table(word)[None], state)


class Writer(nn.Module):
    def __init__(self, words, width):
        super().__init__()
        self.table, self.drop, self.cell = nn.Embedding(words, width), nn.Dropout(0.1), nn.GRUCell(2 * width, width)
        self.score, self.out = nn.Linear(2 * width, LONGEST), nn.Linear(width, words)

    def forward(self, word, state, memory):
        x = self.drop(self.table(word)[None])
        look = self.score(torch.cat([x, state], 1)).softmax(1) @ memory
        state = self.cell(torch.cat([x, look], 1), state)
        return self.out(state).log_softmax(1), state


reader, writer = Reader(len(french), 24), Writer(len(english), 24)
opt_r, opt_w = optim.SGD(reader.parameters(), lr=0.03), optim.SGD(writer.parameters(), lr=0.03)
criterion = nn.NLLLoss()


# %%
def read(sentence):
    memory, state = torch.zeros(LONGEST, 24), torch.zeros(1, 24)
    for place, word in enumerate(sentence):
        state = reader(word, state)
        memory[place] = state[0]
    return memory, state


def train_one(source, target):
    opt_r.zero_grad()
    opt_w.zero_grad()
    memory, state = read(source)
    word, loss, forced = torch.tensor(START), 0.0, random.random() < FORCED
    for wanted in target:
        out, state = writer(word, state, memory)
        loss += criterion(out, wanted[None])
        word = wanted if forced else out.argmax(1)[0].detach()
        if not forced and word == STOP:
            break
    loss.backward()
    opt_r.step()
    opt_w.step()
    return float(loss.detach()) / len(target)


def translate(sentence):
    reader.eval()
    writer.eval()
    said, word = [], torch.tensor(START)
    with torch.no_grad():
        memory, state = read(numbers(french, sentence))
        while word != STOP and len(said) < LONGEST:
            out, state = writer(word, state, memory)
            word = out.argmax(1)[0]
            said.append(spell[int(word)])
    reader.train()
    writer.train()
    return " ".join(said)


# %%
losses = []
for i in range(1, 41):
    eng, fra = random.choice(rows)
    losses.append(train_one(numbers(french, fra), numbers(english, eng)))
    if i % 5 == 0:
        print(i, sum(losses[-5:]) / 5)
    if i % 10 == 0:
        eng, fra = random.choice(rows)
        print(">", fra, "=", eng, "<", translate(fra))

# %%
torch.save({"reader": reader.state_dict(), "writer": writer.state_dict()}, "translator.pt")
