"""Write lstchain's Monte Carlo configuration with changes.

`python -m lstops.science.mc_config --update FILE --output CONFIG [--base CONFIG]`

`lstchain_dump_config --mc --update-with` replaces whole sections: a change of one key loses its neighbours.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from lstops.errors import ConfigError
from lstops.science.command import exit_with


def merge_into(config: dict[str, Any], update: dict[str, Any]) -> None:
    """Change `config` by `update`, section by section (lists and numbers are replaced)."""
    for key, value in update.items():
        if isinstance(value, dict) and isinstance(config.get(key), dict):
            merge_into(config[key], value)
        else:
            config[key] = value


def updated_mc_config(update: Path | None, base: Path | None = None) -> dict[str, Any]:
    """The installed lstchain's Monte Carlo configuration, or that of a production (`base`), changed by a JSON file.

    Raises
    ------
    ConfigError
        If the file is no JSON object.
    """
    if base is None:
        from lstchain.io.config import get_mc_config

        config: dict[str, Any] = get_mc_config()
    else:
        config = _read(base)
    if update is not None:
        merge_into(config, _read(update))
    return config


def _read(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_text())
    except ValueError as error:
        raise ConfigError(f"{path} is not JSON: {error}.", "correct the file.") from error
    if not isinstance(document, dict):
        raise ConfigError(f"{path} is no JSON object.", "write sections with keys and values.")
    return document


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Write a Monte Carlo configuration.")
    parser.add_argument("--update", type=Path, help="JSON of changes")
    parser.add_argument("--base", type=Path, help="configuration to change instead of the installed lstchain's")
    parser.add_argument("--output", type=Path, required=True)
    args = parser.parse_args()
    args.output.write_text(json.dumps(updated_mc_config(args.update, args.base), indent=2))


if __name__ == "__main__":
    exit_with(main)
