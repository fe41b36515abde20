"""Where the demo keeps its things, and the environment its processes share."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from lstops.errors import ConfigError

REPOSITORY = Path(__file__).resolve().parents[2]
CLUSTERS = {"local": "local.yaml", "slurm": "slurm-lab.yaml"}


@dataclass(frozen=True)
class Setting:
    """One demo: a folder and a kind of cluster.

    Attributes
    ----------
    home : Path
        Everything the demo makes lies below it.
    cluster : str
        "local" or "slurm".
    """

    home: Path
    cluster: str

    @property
    def base(self) -> Path:
        """The synthetic site."""
        return self.home / "site"

    @property
    def site_file(self) -> Path:
        """The site file in use."""
        return REPOSITORY / "config" / "sites" / CLUSTERS[self.cluster]

    @property
    def science_python(self) -> Path:
        """Interpreter of the science environment."""
        return Path(os.environ.get("LSTOPS_VENV_SCIENCE", REPOSITORY / ".venv-lstchain")) / "bin" / "python"

    def environ(self) -> dict[str, str]:
        """Variables that the site file and the DAGs need; no secrets."""
        return {
            "LSTOPS_HOME": str(self.home),
            "LSTOPS_SITE": str(self.site_file),
            "LSTOPS_VENV_SCIENCE": str(self.science_python.parents[1]),
            # the demo's night is long past: nothing happens by the clock
            "LSTOPS_NIGHTLY_SCHEDULE": "",
        }


def make_setting(cluster: str, home: str | None = None) -> Setting:
    """The demo's setting from the environment.

    Raises
    ------
    ConfigError
        If the cluster is unknown, or the science environment is not there.
    """
    if cluster not in CLUSTERS:
        raise ConfigError(f"CLUSTER={cluster!r} is unknown.", f"use one of {sorted(CLUSTERS)}.")
    folder = Path(home or os.environ.get("LSTOPS_HOME") or REPOSITORY / ".lstops-demo").expanduser().resolve()
    setting = Setting(folder, cluster)
    if not setting.science_python.exists():
        raise ConfigError(f"{setting.science_python} does not exist.", "run `make setup` first.")
    return setting
