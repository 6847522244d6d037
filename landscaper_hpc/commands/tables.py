"""Tables on the terminal."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table


def show(table: Table, width: int) -> None:
    """Print a table as wide as the terminal, or in a file, where it is read later, as `width`; names that users gave
    are no markup."""
    from rich.console import Console

    Console(width=None if sys.stdout.isatty() else width, markup=False, emoji=False).print(table)
