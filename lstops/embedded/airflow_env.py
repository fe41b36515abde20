"""The environment that turns the repository's airflow.cfg into this machine's configuration.

``airflow.cfg`` holds what is the same everywhere. Ports, folders and secrets come from here, as Airflow's
``AIRFLOW__SECTION__KEY`` variables. Secrets are given as ``..._CMD``, a command that reads them from the secrets file,
so that the environment of the services and of every task they start contains none.
"""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from lstops.embedded import pool
from lstops.embedded.errors import ServiceError
from lstops.embedded.ports import LOOPBACK
from lstops.embedded.secretfile import SecretFile, new_fernet_key, new_password, write_private

#: users of Airflow's simple auth manager and their roles
USERS = {"admin": "admin", "op": "op", "viewer": "viewer"}

#: configuration option -> key in the secrets file
SECRET_OPTIONS = {
    "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": "AIRFLOW_DATABASE_URL",
    "AIRFLOW__CORE__FERNET_KEY": "AIRFLOW_FERNET_KEY",
    "AIRFLOW__API__SECRET_KEY": "AIRFLOW_API_SECRET",
    "AIRFLOW__API_AUTH__JWT_SECRET": "AIRFLOW_JWT_SECRET",
}

SECRET_GENERATORS = {
    "AIRFLOW_FERNET_KEY": new_fernet_key,
    # Airflow warns when the key of HS512 is shorter than 64 bytes
    "AIRFLOW_JWT_SECRET": lambda: new_password() + new_password(),
    "AIRFLOW_API_SECRET": new_password,
}


@dataclass(frozen=True)
class AirflowFolders:
    """Where Airflow reads and writes.

    Parameters
    ----------
    home : pathlib.Path
        Home folder of the installation.
    config : pathlib.Path
        The configuration file, used as it is.
    dags, plugins : pathlib.Path
        Folders of the DAG files and of the plugin entry files.
    """

    home: Path
    config: Path
    dags: Path
    plugins: Path

    @classmethod
    def of_repository(cls, home: Path, repository: Path | None = None) -> AirflowFolders:
        """Return the folders for a checkout of lstops; by default the one this module is in."""
        root = repository or Path(__file__).resolve().parents[2]
        folders = cls(home, root / "airflow.cfg", root / "dags", root / "plugins")
        if not folders.config.is_file():
            raise ServiceError(
                f"{folders.config} is missing: the embedded Airflow runs from a checkout of lstops.",
                "Clone the repository and install it editable (pip install -e), or give the folder of a checkout.",
            )
        return folders

    @property
    def airflow_home(self) -> Path:
        """AIRFLOW_HOME: logs, pid files, passwords."""
        return self.home / "airflow"

    @property
    def passwords(self) -> Path:
        """JSON file with the passwords of the web page's users."""
        return self.airflow_home / "passwords.json"


def airflow_environment(
    folders: AirflowFolders,
    api_port: int,
    secrets: Path,
    inherited: Mapping[str, str],
    extra: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """Return the whole environment of the Airflow processes.

    Parameters
    ----------
    folders : AirflowFolders
        Where things are.
    api_port : int
        Loopback port of the API server.
    secrets : pathlib.Path
        The secrets file.
    inherited : mapping of str to str
        The caller's environment; its Airflow settings are dropped, its ``AIRFLOW_CONN_*`` and the rest are kept.
    extra : mapping of str to str, optional
        More variables, which win.
    """
    env = {k: v for k, v in inherited.items() if not k.startswith("AIRFLOW__") and k != "AIRFLOW_HOME"}
    url = f"http://{LOOPBACK}:{api_port}"
    env |= {
        "AIRFLOW_HOME": str(folders.airflow_home),
        "AIRFLOW_CONFIG": str(folders.config),
        "AIRFLOW__CORE__DAGS_FOLDER": str(folders.dags),
        "AIRFLOW__CORE__PLUGINS_FOLDER": str(folders.plugins),
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{url}/execution/",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": ",".join(f"{user}:{role}" for user, role in USERS.items()),
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(folders.passwords),
        "AIRFLOW__API__HOST": LOOPBACK,
        "AIRFLOW__API__PORT": str(api_port),
        "AIRFLOW__API__BASE_URL": url,
        "AIRFLOW__LOGGING__BASE_LOG_FOLDER": str(folders.airflow_home / "logs"),
        "AIRFLOW__LOGGING__DAG_PROCESSOR_CHILD_PROCESS_LOG_DIRECTORY": str(folders.airflow_home / "logs/dag_processor"),
        "LSTOPS_HOME": str(folders.home),
        "LSTOPS_SUBMIT_POOL": pool.NAME,
        # tasks talk to the API server on this machine, also where the web is behind a proxy
        "NO_PROXY": _without_proxy(inherited),
        "no_proxy": _without_proxy(inherited),
        # numerical libraries would start a thread per core in each of fifteen processes
        "OMP_NUM_THREADS": inherited.get("OMP_NUM_THREADS", "1"),
        "PYTHONUNBUFFERED": "1",
    }
    for option, key in SECRET_OPTIONS.items():
        # Airflow runs this without a shell and keeps a final newline, so none may be printed
        env[f"{option}_CMD"] = shlex.join(["awk", "-v", "ORS=", f'sub(/^{key}=/, "")', str(secrets)])
    return env | dict(extra or {})


def ensure_airflow_secrets(folders: AirflowFolders, secrets: SecretFile) -> None:
    """Generate the keys and the users' passwords that are missing."""
    secrets.ensure(SECRET_GENERATORS)
    known = read_passwords(folders.passwords) if folders.passwords.exists() else {}
    missing = {user: new_password() for user in USERS if user not in known}
    if missing:
        write_private(folders.passwords, json.dumps({**known, **missing}) + "\n")


def read_passwords(path: Path) -> dict[str, str]:
    """Return the passwords of the web page's users by name.

    Raises
    ------
    ServiceError
        If the file is missing or is not JSON.
    """
    try:
        return {str(user): str(password) for user, password in json.loads(path.read_text()).items()}
    except (OSError, ValueError, AttributeError) as error:
        raise ServiceError(
            f"The passwords of Airflow's users cannot be read from {path}: {error}.",
            "Start the services once (lstops services start); delete a damaged file, new passwords are made.",
        ) from error


def _without_proxy(env: Mapping[str, str]) -> str:
    names = [name for name in (env.get("no_proxy") or env.get("NO_PROXY") or "").split(",") if name]
    return ",".join(dict.fromkeys([*names, LOOPBACK, "localhost"]))


def interpreter_path(env: Mapping[str, str], python: str) -> str:
    """Return PATH with the interpreter's folder first, so that tasks find the tools of the same environment."""
    return os.pathsep.join([str(Path(python).parent), env.get("PATH", os.defpath)])
