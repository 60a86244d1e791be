"""Learning from a stream, test then train: partial_fit on each chunk, no epochs, a scaler that keeps learning, joblib at the end."""

import csv
import json
import sys

import joblib
import numpy as np
import torch
from online_net import OnlineClassifier

np.random.seed(0)
torch.manual_seed(0)
options = json.load(open("options.json", encoding="utf-8"))


def chunks():
    rng = np.random.default_rng(12)
    for k in range(options["chunks"]):
        X = rng.normal(3.0, 5.0, (options["size"], 6))
        angle = k / options["chunks"]
        y = np.where((X[:, 0] - 3) * np.cos(angle) + (X[:, 1] - 3) * np.sin(angle) > 0, "up", "down")
        yield X, y


clf = OnlineClassifier(hidden=options["hidden"], passes=options["passes"])
with open("prequential.csv", "w", newline="") as f:
    table = csv.writer(f)
    for k, (X, y) in enumerate(chunks()):
        if k:
            score = (clf.predict(X) == y).mean()
            table.writerow([k, score])
            print(f"chunk {k}: {score:.3f}", file=sys.stderr)
        clf.partial_fit(X, y, classes=["down", "up"])
joblib.dump(clf, "clf.joblib")
