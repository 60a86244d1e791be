"""Does the pipeline learn? A small TCN and a small U-Net on the demo corpus, made large enough.

    python benchmarks/training_learns.py [--steps 120] [--work DIR] [--picture docs/training_learns.png]

Writes a corpus of 24 synthetic patients more than the embedded one, trains both encoders through the command line,
scores them on the patients of ``eval``, which neither training nor the choice of the checkpoint has seen, and draws
loss and AUROC.

What it shows: recordings, labels, windows, sampler, model, loss, optimizer, checkpoint and scores fit together, so
that what can be learned is learned, and generalises to patients with seizures of another form. What it does not show:
anything about real EEG. The seizures are synthetic, rhythmic and loud; a clinical claim needs clinical recordings.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from ruamel.yaml import YAML

from brainbrr.recordings.demo import PLANS, more_plans, write_demo_corpus

ENCODERS = {
    "tcn": {"name": "tcn", "channels": [32], "blocks": 6, "kernel_size": 5, "dropout": 0.1},
    "unet": {"name": "unet", "channels": [16, 24, 32, 32], "dropout": 0.1},
}


def config(encoder: str, steps: int) -> dict:
    return {
        "run": {"name": f"learns-{encoder}", "output_dir": "unset", "seed": 0, "device": "cpu"},
        "preprocessing": {"rate_hz": 64.0, "band_hz": [0.5, 25.0], "notch_hz": None},
        "windows": {"length_s": 32.0, "stride_s": 8.0},
        "model": {"encoder": ENCODERS[encoder], "mamba": {"layers": 1, "d_state": 16, "headdim": 8}},
        "training": {
            "max_steps": steps,
            "batch_size": 8,
            "optimizer": {"learning_rate": 3e-3},
            "validation": {"every_steps": max(1, steps // 12)},
            "log_every_steps": max(1, steps // 12),
        },
    }


def train_and_score(encoder: str, steps: int, work: Path, environment: dict[str, str]) -> dict:
    folder, path = work / encoder, work / f"{encoder}.yaml"
    with path.open("w") as file:
        YAML().dump(config(encoder, steps), file)
    began = time.monotonic()
    call = [sys.executable, "-m", "brainbrr"]
    subprocess.run([*call, "train", path, "--output-dir", folder, "--fresh"], env=environment, check=True)
    seconds = time.monotonic() - began
    best = json.loads((folder / "run.json").read_text())["best"][0]["step"]
    checkpoint = folder / f"checkpoints/step-{best:06d}.pt"
    report = folder / "eval"
    subprocess.run(
        [*call, "evaluate", checkpoint, "--output-dir", report, "--no-plots"],
        env=environment,
        check=True,
        stdout=subprocess.DEVNULL,
    )
    scores = {
        (s["scorer"], s["name"]): s["value"] for s in json.loads((report / "evaluation.json").read_text())["scores"]
    }
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return {"seconds": seconds, "step": best, "scores": scores, "lines": lines}


def draw(results: dict[str, dict], path: Path) -> None:
    figure = Figure(figsize=(8, 3.4), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    for (encoder, result), color in zip(results.items(), ("#2563a8", "#b8432f"), strict=True):
        steps = [line for line in result["lines"] if line["event"] == "step"]
        validations = [line for line in result["lines"] if line["event"] == "validation"]
        left.plot([s["step"] for s in steps], [s["loss"] for s in steps], color=color, lw=0.8, alpha=0.7, label=encoder)
        right.plot(
            [v["step"] for v in validations], [v["auroc"] for v in validations], "o-", color=color, ms=3, label=encoder
        )
        auroc = result["scores"]["scikit-learn", "AUROC"]
        right.plot([result["step"]], [auroc], "*", color=color, ms=12, label=f"{encoder}, unseen patients: {auroc:.3f}")
    left.set_yscale("log")
    left.set(xlabel="optimizer step", ylabel="training loss")
    right.axhline(0.95, color="gray", lw=0.8, ls="--")
    right.set(xlabel="optimizer step", ylabel="AUROC of samples, dev", ylim=(0.4, 1.01))
    right.legend(fontsize=8, loc="lower right")
    figure.suptitle("Synthetic recordings: the pipeline learns; this says nothing about real EEG", fontsize=10)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=120)
    parser.add_argument("--patients", type=int, default=24)
    parser.add_argument("--work", type=Path, help="keep the corpus and the runs here")
    parser.add_argument("--picture", type=Path, default=Path("docs/training_learns.png"))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        work = options.work or Path(temporary)
        work.mkdir(parents=True, exist_ok=True)
        corpus = work / "corpus"
        began = time.monotonic()
        if not corpus.exists():
            write_demo_corpus(corpus, plans=(*PLANS, *more_plans(options.patients, recordings=4, duration_s=240)))
        print(f"corpus: {len(list(corpus.rglob('*.edf')))} recordings, {time.monotonic() - began:.0f} s", flush=True)
        environment = os.environ | {
            "BGB_DATA_DIR": str(corpus), "BGB_CACHE_DIR": str(work / "cache"), "OMP_WAIT_POLICY": "PASSIVE",
        }  # fmt: skip
        for name in ("BGB_SMOKE_TEST", "BGB_LIMIT_FILES"):
            environment.pop(name, None)
        results = {encoder: train_and_score(encoder, options.steps, work, environment) for encoder in ENCODERS}
    for encoder, result in results.items():
        shown = {name: result["scores"]["OVLP", name] for name in ("sensitivity", "precision")}
        print(
            f"{encoder}: AUROC {result['scores']['scikit-learn', 'AUROC']:.4f}, AUPRC "
            f"{result['scores']['scikit-learn', 'AUPRC']:.4f}, OVLP {shown} on unseen patients; "
            f"best step {result['step']} of {options.steps}; training took {result['seconds']:.0f} s"
        )
    draw(results, options.picture)
    failed = [encoder for encoder, result in results.items() if result["scores"]["scikit-learn", "AUROC"] < 0.95]
    if failed:
        sys.exit(f"AUROC below 0.95: {', '.join(failed)}")


if __name__ == "__main__":
    main()
