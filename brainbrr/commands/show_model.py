"""``brainbrr show-model``: what the detector of a configuration is made of."""

import json

import click
from rich.console import Console
from rich.tree import Tree

from brainbrr.config import load_config
from brainbrr.models import build_detector
from brainbrr.models.summary import Part, summarize
from brainbrr.montage import N_CHANNELS


@click.command("show-model")
@click.argument("config", type=click.Path())
@click.option("--set", "overrides", multiple=True, metavar="SECTION.KEY=VALUE", help="Override one key.")
@click.option("--depth", type=click.IntRange(min=0), default=3, show_default=True, help="Levels of modules to print.")
@click.option("--batch", type=click.IntRange(min=1), default=1, show_default=True, help="Windows in the batch.")
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
def show_model(config: str, overrides: tuple[str, ...], depth: int, batch: int, as_json: bool) -> None:
    """Print the detector of CONFIG: modules, output shapes, parameters, and FLOPs of one forward pass."""
    settings = load_config(config, overrides)
    samples = round(settings.windows.length_s * settings.preprocessing.rate_hz)
    summary = summarize(build_detector(settings), (batch, N_CHANNELS, samples))
    if as_json:
        click.echo(json.dumps(summary.to_dict(), indent=2))
        return
    tree = Tree(_line(summary))
    _grow(tree, summary, depth)
    console = Console(soft_wrap=True, highlight=False)
    console.print(f"input ({batch}, {N_CHANNELS}, {samples})")
    console.print(tree)
    console.print(
        "FLOPs: products and convolutions of one forward pass. A training step takes about three times as many."
    )


def _grow(tree: Tree, part: Part, depth: int) -> None:
    if depth:
        for child in part.parts:
            _grow(tree.add(_line(child)), child, depth - 1)


def _line(part: Part) -> str:
    shape = "" if part.shape is None else f"  {part.shape}"
    flops = f"  {_short(part.flops)}FLOPs" if part.flops else ""
    count = f"  {_short(part.parameters)}params" if part.parameters else ""
    return f"[bold]{part.name}[/bold] {part.kind}{shape}{count}{flops}"


def _short(number: int) -> str:
    for size, prefix in ((10**9, "G"), (10**6, "M"), (10**3, "k")):
        if number >= size:
            return f"{number / size:.3g} {prefix}"
    return f"{number} "
