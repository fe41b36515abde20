"""What the modules of this package share: errors on the way out, lstchain's commands in this process."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from lstops.errors import LstOpsError


def exit_with(main: Callable[[], None]) -> None:
    """Run `main`; one of our errors ends the process with its text on stderr and its exit status."""
    try:
        main()
    except LstOpsError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        sys.exit(error.exit_code)


def run_script(module: str, arguments: Sequence[str | Path]) -> None:
    """Run the `main` of one of lstchain's scripts here: importing lstchain takes 4 s, once is enough.

    Raises
    ------
    SystemExit
        If the script ends with another exit status than 0.
    """
    words = [str(a) for a in arguments]
    print("+", module, *words, flush=True)
    before = sys.argv
    sys.argv = [module, *words]
    try:
        importlib.import_module(module).main()
    except SystemExit as ended:
        if ended.code:
            raise
    finally:
        sys.argv = before
