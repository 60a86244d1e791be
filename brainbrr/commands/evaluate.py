"""``brainbrr evaluate``: score a checkpoint on a split, as a table, as JSON and as pictures."""

import json
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from brainbrr.errors import ConfigError

if TYPE_CHECKING:
    from brainbrr.scoring import Evaluation, OperatingPoints, Trace, Traces
    from brainbrr.training.inference import Trained


@click.command("evaluate")
@click.argument("checkpoint", type=click.Path(path_type=Path))
@click.option("--split", type=click.Choice(["dev", "eval"]), default="eval", show_default=True, help="What to score.")
@click.option("--set", "overrides", multiple=True, metavar="SECTION.KEY=VALUE", help="Override one key of the run's.")
@click.option("--points", type=click.Path(path_type=Path), help="Thresholds from a dev report (evaluation.json).")
@click.option("--weights", type=click.Choice(["auto", "average", "last"]), default="auto", show_default=True)
@click.option("--output-dir", type=click.Path(path_type=Path), help="Default: evaluation-SPLIT-step-N beside the run.")
@click.option("--plots/--no-plots", default=True, show_default=True, help="Draw curve, reliability and timelines.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON in place of the table.")
def evaluate(
    checkpoint: Path,
    split: str,
    overrides: tuple[str, ...],
    points: Path | None,
    weights: str,
    output_dir: Path | None,
    plots: bool,
    as_json: bool,
) -> None:
    """Score CHECKPOINT.

    Thresholds for a budget of false alarms are searched on dev, which is scored first unless --points names an
    earlier report on it. Writes evaluation.json and, below plots, pictures.
    """
    from brainbrr.scoring import Traces, evaluate_traces, search_thresholds
    from brainbrr.scoring.writers import write_json
    from brainbrr.training.console import logging_to_stderr
    from brainbrr.training.inference import load_trained
    from brainbrr.training.overrides import with_overrides

    with logging_to_stderr():
        trained = load_trained(checkpoint, weights, lambda config: with_overrides(config, overrides, checkpoint))  # type: ignore[arg-type] # click checked the choice
        scoring = trained.config.scoring
        known = None if points is None else _read_points(points)
        if known is None and split == "eval":
            known = search_thresholds(Traces("dev", _traces(trained, "dev")), scoring)
        traces = Traces(split, _traces(trained, split))  # type: ignore[arg-type] # as above
        report = evaluate_traces(traces, scoring, known)
        step = f"step-{trained.step:06d}"
        folder = output_dir or checkpoint.resolve().parent.parent / f"evaluation-{split}-{step}"
        plain = {
            "checkpoint": str(checkpoint),
            "step": trained.step,
            "smoke": trained.smoke,
            "weights": trained.weights,
            **report.to_dict(),
        }
        path = write_json(folder / "evaluation.json", plain)
        if plots:
            _draw(folder / "plots", trained, traces, report)
    if as_json:
        click.echo(json.dumps(plain, indent=2))
        return
    from rich.console import Console

    from brainbrr.scoring.tables import score_table

    Console(file=sys.stdout).print(score_table(report.scores, f"{trained.label}: {split}"))
    click.echo(f"{report.n_recordings} recordings, {report.duration_s / 3600:.2f} h; report: {path}")


def _traces(trained: "Trained", split: str) -> tuple["Trace", ...]:
    from brainbrr.training.console import counting
    from brainbrr.training.inference import trace_windows
    from brainbrr.windows import load_split

    windows = load_split(trained.config, split)
    windows.prepare()
    with counting(split, len(windows)) as advance:
        return tuple(trace_windows(trained, windows, annotated=True, advance=advance))


def _read_points(path: Path) -> "OperatingPoints":
    from brainbrr.scoring import OperatingPoints

    try:
        plain = json.loads(path.read_text(encoding="utf-8"))["operating_points"]
        return OperatingPoints.from_dict(plain)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(
            f"no operating points can be read here: {error}",
            where=path,
            expected="the evaluation.json of 'brainbrr evaluate --split dev'",
        ) from error


def _draw(folder: Path, trained: "Trained", traces: "Traces", report: "Evaluation") -> None:
    from brainbrr.scoring.plots import plot_curve, plot_reliability, plot_timeline

    note = trained.label
    plot_curve(folder / "sensitivity.png", report, note)
    plot_reliability(folder / "reliability.png", report, note)
    for trace in traces:
        name = re.sub(r"[^\w.-]+", "_", trace.key)
        plot_timeline(folder / f"{name}.png", trace, report.events[trace.key], trained.config.scoring, note)
