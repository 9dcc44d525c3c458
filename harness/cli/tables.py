# SPDX-License-Identifier: GPL-2.0-or-later
"""Tables on the terminal; what is in them is text, never markup or a command to the terminal."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.table import Table

from harness.shown import shown


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]], width: int) -> None:
    """Print a table on stdout: as wide as the terminal, or ``width`` if that is none."""
    console = Console(
        width=None if sys.stdout.isatty() else width, highlight=False, markup=False, emoji=False
    )
    table = Table(*columns)
    for row in rows:
        table.add_row(*map(shown, row))
    console.print(table)
