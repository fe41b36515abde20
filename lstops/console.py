"""Tables with paths on the command line: a path that is cut cannot be copied."""

from __future__ import annotations

import sys

from rich.console import Console

#: width of lines that are not fitted to the terminal
WIDE = 4000


def path_console() -> Console:
    """A console for tables with paths: as wide as the terminal, or as the longest line where there is none."""
    return Console(width=None if sys.stdout.isatty() else WIDE)
