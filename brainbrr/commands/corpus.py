"""``brainbrr corpus``: print what a corpus folder holds."""

import json
from pathlib import Path

import click


@click.command()
@click.argument("directory", type=click.Path(path_type=Path))
@click.option("--corpus", "name", default="auto", show_default=True, help="Reader of the layout.")
@click.option("--montage", type=click.Choice(["referential", "bipolar"]), default="referential", show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def corpus(directory: Path, name: str, montage: str, as_json: bool) -> None:
    """Read every header and label file below DIRECTORY and print recordings, hours, patients, seizures and problems."""
    from brainbrr.recordings.survey import survey

    found = survey(directory, name, montage)
    if as_json:
        click.echo(json.dumps(found.to_dict(), indent=2))
        return
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    console.print(f"{directory}: {found.recordings} recordings in the layout of {found.corpus}", soft_wrap=True)
    table = Table("split", *_COLUMNS)
    for split, tally in found.splits.items():
        table.add_row(
            split, f"{tally.recordings}", f"{tally.patients}", f"{tally.hours:.2f}",
            f"{tally.recordings_with_seizures}", f"{tally.seizures}", f"{tally.seizure_hours:.2f}",
        )  # fmt: skip
    console.print(table)
    lists = {"montages": found.montages, "rates in Hz": found.rates_hz, "interpolated": found.interpolated}
    for title, counts in lists.items():
        text = ", ".join(f"{value} ({count})" for value, count in counts.items())
        console.print(f"{title}: {text or 'none'}", soft_wrap=True)
    console.print(f"problems: {sum(map(len, found.problems.values())) or 'none'}")
    for kind, messages in found.problems.items():
        console.print(f"  {kind} ({len(messages)}), for instance", markup=False, soft_wrap=True)
        console.print(f"    {messages[0]}", markup=False, soft_wrap=True)


_COLUMNS = ("recordings", "patients", "hours", "with seizures", "seizures", "seizure hours")
