"""``brainbrr show-config``: the configuration as the run would see it."""

import sys

import click
from ruamel.yaml import YAML

from brainbrr.config import load_config


@click.command("show-config")
@click.argument("config", type=click.Path())
@click.option("--set", "overrides", multiple=True, metavar="SECTION.KEY=VALUE", help="Override one key.")
def show_config(config: str, overrides: tuple[str, ...]) -> None:
    """Print CONFIG with every default filled in, as YAML."""
    yaml = YAML()
    yaml.default_flow_style = False
    yaml.dump(load_config(config, overrides).model_dump(mode="json"), sys.stdout)
