"""lstchain's commands, run in forked children of a process that has imported lstchain and compiled numba already.

Such a child is made to look like the program that it stands for: its own session, standard input, output, working
directory, variables, arguments, signal handlers and random numbers; it ends as Python ends (threads joined, exit
functions called) with the exit status that the console script would have had.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import importlib.metadata
import io
import os
import random
import runpy
import signal
import sys
import sysconfig
import tempfile
import threading
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TextIO

from lstops.science.warm_up import PRELOAD
from lstops.step.model import Step
from lstops.step.processes import Running, fork, start_command, threads

#: what a warm process may run itself: the console scripts of this distribution
DISTRIBUTION = "lstchain"
#: ... and operations of lstops that begin with the same imports
_MODULE = ("python", "-m")
# with one command alone nothing is shared
_WORTH_IT = 2

Main = Callable[[], object]


def tools_worth_warming(steps: Iterable[Step], scripts: Mapping[str, str]) -> tuple[str, ...]:
    """Names of the console scripts that these steps run, if importing them once for all saves anything.

    Parameters
    ----------
    scripts : mapping
        Name -> "module:function", see `console_scripts`.
    """
    known = {*scripts, *PRELOAD} if scripts else set()
    words = [name for step in steps for argv in step.commands if (name := tool_name(argv)) in known]
    return tuple(sorted(set(words))) if len(words) >= _WORTH_IT else ()


def tool_name(argv: Sequence[str]) -> str:
    """What a command runs: the name of its script, or of its module after `python -m`."""
    return argv[2] if tuple(argv[:2]) == _MODULE and len(argv) > 2 else argv[0]


def console_scripts(distribution: str = DISTRIBUTION) -> dict[str, str]:
    """The console scripts of an installed distribution: name -> "module:function"; empty if it is not installed."""
    try:
        found = importlib.metadata.distribution(distribution).entry_points
    except importlib.metadata.PackageNotFoundError:
        return {}
    return {entry.name: entry.value for entry in found if entry.group == "console_scripts"}


def load_tools(names: Iterable[str], scripts: Mapping[str, str]) -> dict[str, Main]:
    """Import the functions behind console scripts, and what operations of lstops are going to import.

    Raises
    ------
    ImportError, AttributeError
        If a module cannot be imported, or has no such function.
    """
    mains: dict[str, Main] = {}
    for name in names:
        if name in PRELOAD:
            for module in PRELOAD[name]:
                importlib.import_module(module)
            mains[name] = partial(runpy.run_module, name, run_name="__main__", alter_sys=True)
        else:
            mains[name] = importlib.metadata.EntryPoint(name, scripts[name], "console_scripts").load()
    return mains


@dataclass(frozen=True)
class WarmTools:
    """Starts commands (see `lstops.step.processes.Start`): forks for those it knows, starts the others plainly."""

    mains: Mapping[str, Main]

    def __call__(self, argv: Sequence[str], cwd: Path, environ: dict[str, str], log: TextIO) -> Running:
        """Start a command."""
        main = self.mains.get(tool_name(argv))
        # a forked copy of a process with threads may wait for ever for a lock that one of them held
        if main is None or threads() > 1:
            return start_command(argv, cwd, environ, log)
        return Running(fork(lambda: _run_main(main, argv, cwd, environ, log.fileno())))


def freeze() -> None:
    """Spare children the garbage collection of what their parent has loaded (and the copies of pages that it makes)."""
    gc.collect()
    gc.freeze()


def _run_main(main: Main, argv: Sequence[str], cwd: Path, environ: Mapping[str, str], output: int) -> int:
    os.setsid()
    # the worker's own; what it does about an interrupt it has from whoever started it, as a plain command would
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    null = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((null, 0), (output, 1), (output, 2)):
        os.dup2(source, target)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environ)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(line_buffering=True)
    # remembered by the module since its first use
    tempfile.tempdir = None
    name = tool_name(argv)
    sys.argv = [str(Path(sysconfig.get_path("scripts"), name)), *argv[argv.index(name) + 1 :]]
    random.seed()
    if numpy := sys.modules.get("numpy"):
        numpy.random.seed()
    status = _exit_status(main)
    # as a Python process ends (Py_FinalizeEx): threads, exit functions (PyTables closes its files there), cycles
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    gc.collect()
    return status


def _exit_status(main: Main) -> int:
    """What `sys.exit(main())` ends a process with."""
    try:
        try:
            result = main()
            # a module's names, not an exit status
            raise SystemExit(None if isinstance(result, dict) else result)
        except SystemExit as leaving:
            code = leaving.code
            if code is None:
                return 0
            if isinstance(code, int):
                return code & 0xFF
            print(code, file=sys.stderr)
            return 1
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except BaseException:  # noqa: BLE001 - the tool's own; a Python process shows it and ends with 1
        traceback.print_exc()
        return 1
