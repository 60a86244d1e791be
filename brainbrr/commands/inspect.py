"""``brainbrr inspect``: what a checkpoint holds, after its checksums were verified."""

import json
import sys
from pathlib import Path
from typing import Any

import click


@click.command("inspect")
@click.argument("checkpoint", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print JSON in place of YAML.")
@click.option("--tensors", is_flag=True, help="List every tensor of the weights.")
def inspect(checkpoint: Path, as_json: bool, tensors: bool) -> None:
    """Print what CHECKPOINT holds. Nothing in it is executed; a smoke run's is shown too, with its mark."""
    from brainbrr.training.checkpoints import read_checkpoint

    shown = _describe(read_checkpoint(checkpoint), tensors=tensors)
    if as_json:
        click.echo(json.dumps(shown, indent=2))
        return
    from ruamel.yaml import YAML

    yaml = YAML()
    yaml.default_flow_style = False
    yaml.dump(shown, sys.stdout)


def _describe(content: dict[str, Any], *, tensors: bool) -> dict[str, Any]:
    state = content["state"]
    weights = state["model"]
    shown = {
        "schema": content["schema"],
        "smoke": content["smoke"],
        "step": content["step"],
        "planned_steps": state["n_planned"],
        "epoch": state["sampler"]["epoch"],
        "windows_used_of_epoch": state["sampler"]["position"],
        "progress": {**state["progress"], "best": [list(item) for item in state["progress"]["best"]]},
        "weights": {
            "tensors": len(weights),
            "values": sum(tensor.numel() for tensor in weights.values()),
            "moving_average": state["ema"] is not None,
        },
        "processes": len(state["random"]),
        "code": content["code"],
        "environment": content["environment"],
        "data": content["data"],
        "config": content["config"],
    }
    if tensors:
        shown["tensors"] = {
            name: f"{str(tensor.dtype).removeprefix('torch.')} {list(tensor.shape)}" for name, tensor in weights.items()
        }
    return shown
