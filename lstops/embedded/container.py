"""Entry point of the Airflow image: ``python -m lstops.embedded.container COMPONENT``.

The environment is made by the same code as on a laptop; only the addresses differ, because here each component has a
container of its own.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from lstops.embedded import pool
from lstops.embedded.airflow_env import (
    AirflowFolders,
    airflow_environment,
    ensure_airflow_secrets,
    interpreter_path,
)
from lstops.embedded.airflow_services import COMPONENTS, component_healthy
from lstops.embedded.errors import ServiceError
from lstops.embedded.secretfile import SecretFile
from lstops.errors import LstOpsError

API_PORT = 8080
#: where compose mounts the secret that docker/make-secrets made
MOUNTED_SECRETS = Path("/run/secrets/secrets.env")


def container_environment(folders: AirflowFolders, inherited: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a component in its container.

    Parameters
    ----------
    folders : AirflowFolders
        Where things are in the image.
    inherited : mapping of str to str
        The container's environment. ``LSTOPS_API_URL`` is the address of the API server for the other components
        (default ``http://api-server:8080``), ``LSTOPS_WEB_URL`` its address for people.
    """
    api = inherited.get("LSTOPS_API_URL", f"http://api-server:{API_PORT}")
    extra = {
        "AIRFLOW__API__HOST": inherited.get("LSTOPS_API_LISTEN", "0.0.0.0"),  # noqa: S104  # a container's network
        "AIRFLOW__API__BASE_URL": inherited.get("LSTOPS_WEB_URL", api),
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{api}/execution/",
        "PATH": interpreter_path(inherited, sys.executable),
    }
    port = int(inherited.get("LSTOPS_API_PORT", API_PORT))
    return airflow_environment(folders, port, folders.home / "secrets.env", inherited, extra)


def prepare(folders: AirflowFolders, mounted: Path = MOUNTED_SECRETS) -> SecretFile:
    """Put the mounted secrets where lstops looks for them.

    Raises
    ------
    ServiceError
        If they are not mounted, or belong to another user.
    """
    if not os.access(mounted, os.R_OK):
        raise ServiceError(
            f"{mounted} is missing or user {os.getuid()} may not read it.",
            "Run docker/make-secrets, and start the containers with its docker/.env (LSTOPS_UID is the owner).",
        )
    link = folders.home / "secrets.env"
    if link.resolve() != mounted.resolve():
        link.unlink(missing_ok=True)
        link.symlink_to(mounted)
    return SecretFile(link)


def initialize(folders: AirflowFolders, secrets: SecretFile, env: Mapping[str, str]) -> None:
    """Bring both databases to this version, and make the passwords of the web page's users."""
    from lstops.catalog.database import upgrade

    folders.airflow_home.mkdir(parents=True, exist_ok=True)
    ensure_airflow_secrets(folders, secrets)
    done = subprocess.run([sys.executable, "-m", "airflow", "db", "migrate"], env=dict(env), check=False)
    if done.returncode != 0:
        raise ServiceError(f"airflow db migrate ended with status {done.returncode}.", "See its output above.")
    words = ["pools", "set", pool.NAME, str(pool.slots_for(env)), pool.DESCRIPTION]
    done = subprocess.run([sys.executable, "-m", "airflow", *words], env=dict(env), check=False)
    if done.returncode != 0:
        raise ServiceError(f"airflow pools set ended with status {done.returncode}.", "See its output above.")
    before, after = upgrade(secrets.read()["LSTOPS_DATABASE_URL"])
    print(f"catalogue: {before or 'empty'} -> {after}")


def main(arguments: list[str]) -> int:
    """Run ``init``, one of Airflow's components, or ``healthy COMPONENT``."""
    home = Path(os.environ.get("LSTOPS_HOME", "/var/lib/lstops"))
    known = [["init"], *([name] for name in COMPONENTS), *(["healthy", name] for name in COMPONENTS)]
    if arguments not in known:
        print(f"usage: {' | '.join(' '.join(words) for words in known)}", file=sys.stderr)
        return 64
    if arguments[0] == "healthy":
        api = os.environ.get("LSTOPS_API_URL", f"http://api-server:{API_PORT}")
        return 0 if component_healthy(api, arguments[1]) else 1
    try:
        folders = AirflowFolders.of_repository(home)
        secrets = prepare(folders, Path(os.environ.get("LSTOPS_MOUNTED_SECRETS", MOUNTED_SECRETS)))
        env = container_environment(folders, os.environ)
        if arguments == ["init"]:
            initialize(folders, secrets, env)
            return 0
    except LstOpsError as error:
        print(f"lstops: {error}", file=sys.stderr)
        return error.exit_code
    # take the place of this process: signals reach Airflow itself
    os.execve(sys.executable, [sys.executable, "-m", "airflow", *COMPONENTS[arguments[0]]], env)  # noqa: S606


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
