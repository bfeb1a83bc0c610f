"""The command `eocat`: put together from each room's `cli.py`, which the entry points `eocat.commands` name.

This package, the edge, is the only place that may import both the producer and the catalogue.
"""

from importlib.metadata import entry_points, version
from typing import Annotated

import typer

from eocat.verify.edge.terminal import answer, run

app = typer.Typer(
    name="eocat",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="The embedding catalogue for Earth observation in which a search hit comes with a proof.",
)
ORDER = ("demo", "producer", "catalog", "verify")  # of the rooms in --help: from a scene to its proof


def _show_version(wanted: bool) -> None:
    if wanted:
        answer(f"eocat {version('eocat')}")
        raise typer.Exit


@app.callback()
def options(
    shown: Annotated[bool, typer.Option("--version", callback=_show_version, is_eager=True)] = False,
) -> None:
    """Options before the command."""


def main() -> None:
    found = {point.name: point for point in entry_points(group="eocat.commands")}
    for name in sorted(found, key=lambda name: (ORDER.index(name) if name in ORDER else len(ORDER), name)):
        app.add_typer(found[name].load())  # without a name: its commands stand at the top
    run(app)
