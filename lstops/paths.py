"""Where the configuration that comes with lstops lies (sites, profiles, targets)."""

from __future__ import annotations

import os
from pathlib import Path

from lstops.errors import ConfigError

#: Environment variable that names the configuration directory of an installation.
CONFIG_VARIABLE = "LSTOPS_CONFIG"


def config_dir(explicit: str | os.PathLike[str] | None = None) -> Path:
    """Return the configuration directory.

    Looked for in this order: `explicit`, the environment variable ``LSTOPS_CONFIG``, the ``config`` directory of the
    source tree, the copy inside an installed wheel (``lstops/_config``).

    Parameters
    ----------
    explicit : path, optional
        A directory that a person named; it must exist.

    Raises
    ------
    ConfigError
        If the directory named explicitly or by the variable is none, or nothing is found.
    """
    for where, value in (("the argument", explicit), (f"${CONFIG_VARIABLE}", os.environ.get(CONFIG_VARIABLE))):
        if value:
            path = Path(value).expanduser()
            if path.is_dir():
                return path
            raise ConfigError(
                f"{path}, named by {where} as configuration directory, is not a directory.",
                f"Name an existing directory, or unset {CONFIG_VARIABLE} to use the one that comes with lstops.",
            )
    package = Path(__file__).resolve().parent
    candidates = (package.parent / "config", package / "_config")
    for path in candidates:
        # the profiles tell our directory from any other `config` beside an installed package
        if (path / "profiles").is_dir():
            return path
    raise ConfigError(
        f"No configuration directory found (looked at {' and '.join(map(str, candidates))}).",
        f"Reinstall lstops, or set {CONFIG_VARIABLE} to the directory that holds profiles/ and sites/.",
    )
