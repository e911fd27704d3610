"""Tables for the console: plain columns, the same on a terminal and in a file."""

import io
import sys
from collections.abc import Collection, Sequence


def columns(rows: Sequence[Sequence[str]], right: Collection[int] = ()) -> str:
    """Rows of cells as lines, columns two spaces apart.

    Args:
      rows: all of one length; a header is a row like the others.
      right: numbers of the columns that are aligned at their right, as numbers are.
    """
    # Only what prints a table pays for the import.
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    grid = Table.grid(padding=(0, 2))
    for number in range(len(rows[0])):
        grid.add_column(justify="right" if number in right else "left", no_wrap=True)
    for row in rows:
        grid.add_row(*map(Text, row))
    out = io.StringIO()
    # Wide enough for every line, whatever the terminal: a table that is read in a file is not cut.
    Console(file=out, width=sys.maxsize, color_system=None).print(grid)
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines())
