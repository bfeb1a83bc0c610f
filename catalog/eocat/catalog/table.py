"""Answers of many rows, as a terminal or a pipe takes them."""

import csv
import sys
from collections.abc import Sequence

from eocat.verify.edge.terminal import printable


def table(columns: Sequence[str], rows: Sequence[Sequence[str]], *, as_csv: bool = False) -> None:
    """A table on a terminal, else one line a row with tabs, without a heading; or CSV, with one."""
    if as_csv:
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerows([columns, *([printable(cell) for cell in row] for row in rows)])
        return
    if not sys.stdout.isatty():
        for row in rows:
            sys.stdout.write("\t".join(map(printable, row)) + "\n")  # a tab within a cell is escaped
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(*columns, box=None, pad_edge=False)
    for row in rows:
        table.add_row(*(Text(printable(cell)) for cell in row))
    Console().print(table)
