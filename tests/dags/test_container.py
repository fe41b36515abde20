"""What the Airflow image runs, run here: the same entry point, against a PostgreSQL server and on free ports."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import psycopg2
import pytest

from lstops.embedded.airflow_env import read_passwords
from lstops.embedded.ports import free_ports
from lstops.embedded.postgres import EmbeddedPostgres
from lstops.embedded.rest import AirflowClient
from lstops.embedded.secretfile import SecretFile

pytestmark = pytest.mark.timeout(600)


def test_init_and_api_server_of_the_image(tmp_path: Path, repository: Path) -> None:
    shutil.copy(repository / "docker" / "make-secrets", tmp_path)
    subprocess.run([tmp_path / "make-secrets"], check=True, capture_output=True)
    mounted = tmp_path / "secrets" / "secrets.env"
    postgres = EmbeddedPostgres(tmp_path / "server")
    home = tmp_path / "home"
    home.mkdir()
    (port,) = free_ports(1)
    env = {
        **os.environ,
        "LSTOPS_HOME": str(home),
        "LSTOPS_MOUNTED_SECRETS": str(mounted),
        "LSTOPS_API_URL": f"http://127.0.0.1:{port}",
        "LSTOPS_API_PORT": str(port),
        "LSTOPS_API_LISTEN": "127.0.0.1",
    }
    entry = [sys.executable, "-m", "lstops.embedded.container"]
    server: subprocess.Popen[bytes] | None = None
    try:
        postgres.start()
        # in the containers the host is called postgres; here it is the server just started
        SecretFile(mounted).update(
            {"AIRFLOW_DATABASE_URL": postgres.url("airflow"), "LSTOPS_DATABASE_URL": postgres.url("lstops")}
        )
        done = subprocess.run([*entry, "init"], env=env, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        for database in ("airflow", "lstops"):
            url = postgres.url(database, driver="postgresql")
            with closing(psycopg2.connect(url)) as connection, connection.cursor() as cursor:
                cursor.execute("SELECT count(*) FROM information_schema.tables WHERE table_schema = 'public'")
                row = cursor.fetchone()
                assert row is not None
                assert row[0] > 3, database
        assert subprocess.run([*entry, "healthy", "api-server"], env=env).returncode == 1, "it does not run yet"
        with (tmp_path / "api.log").open("wb") as log:
            server = subprocess.Popen([*entry, "api-server"], env=env, stdout=log, stderr=subprocess.STDOUT)
        deadline = time.monotonic() + 240
        while subprocess.run([*entry, "healthy", "api-server"], env=env).returncode != 0:
            assert server.poll() is None, (tmp_path / "api.log").read_text()
            assert time.monotonic() < deadline, (tmp_path / "api.log").read_text()
            time.sleep(1)
        assert subprocess.run([*entry, "healthy", "scheduler"], env=env).returncode == 1, "nobody started one"
        password = read_passwords(home / "airflow" / "passwords.json")["viewer"]
        with AirflowClient(env["LSTOPS_API_URL"], "viewer", password) as client:
            assert client.import_errors() == {}
        server.terminate()
        assert server.wait(30) in (0, -15)
    finally:
        if server is not None:
            server.kill()
            server.wait()
        postgres.stop()
