"""The commands of the catalogue, from the modules that hold them."""

import typer

from . import log_cli, operations_cli, register_cli, search_cli, serve_cli

app = typer.Typer(
    no_args_is_help=True, add_completion=False, help="A catalogue that admits only what verifies."
)
for part in (serve_cli, register_cli, search_cli, operations_cli):
    app.add_typer(part.app)  # without a name: its commands stand at the top
app.add_typer(log_cli.app, name="log")
