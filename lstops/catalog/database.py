"""Connection to the catalogue and its migrations."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import Engine, create_engine, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, OperationalError, ProgrammingError
from sqlalchemy.orm import Session, sessionmaker

from lstops.errors import ConfigError, TransportError

if TYPE_CHECKING:
    from alembic.config import Config

URL_VARIABLE = "LSTOPS_DATABASE_URL"
HOME_VARIABLE = "LSTOPS_HOME"
# One number for all lstops processes: migrations of two starting services must not run at the same time.
_MIGRATION_LOCK = 7_315_001
# PostgreSQL's codes of undefined_table and undefined_column.
_MISSING_TABLE_OR_COLUMN = ("42P01", "42703")


def catalog_engine(url: str | None = None) -> Engine:
    """Engine of the catalogue.

    Parameters
    ----------
    url : str, optional
        "postgresql://user:password@host:port/database"; default: LSTOPS_DATABASE_URL from the environment, else from
        `secrets.env` in the folder LSTOPS_HOME (mode 0600; batch jobs then do not inherit the password).

    Raises
    ------
    ConfigError
        If there is no address, or it is none of a PostgreSQL database.
    """
    chosen = url or os.environ.get(URL_VARIABLE) or _from_secrets()
    if not chosen:
        raise ConfigError(
            "no address of the catalogue given.",
            f"set {URL_VARIABLE}, or {HOME_VARIABLE} to a folder with secrets.env.",
        )
    try:
        parsed = make_url(chosen)
    except ArgumentError:
        # The address may hold a password: it is not repeated in the message.
        raise ConfigError(
            f"{URL_VARIABLE} is not a database address.", "use postgresql://user@host/database."
        ) from None
    if not parsed.drivername.startswith("postgresql"):
        raise ConfigError(f"{URL_VARIABLE} is {parsed.drivername}, not PostgreSQL.", "use a PostgreSQL database.")
    return create_engine(
        parsed.set(drivername="postgresql+psycopg2"),
        pool_pre_ping=True,
        json_serializer=lambda v: json.dumps(finite(v)),
    )


def finite(value: Any) -> Any:
    """A value as PostgreSQL's JSON can hold it: NaN becomes null, infinity a text that `float` reads again.

    lstchain's configurations hold infinite limits, run-wise quantities are NaN where they are unknown.
    """
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else str(value)
    return value


def _from_secrets() -> str | None:
    home = os.environ.get(HOME_VARIABLE)
    if not home:
        return None
    try:
        lines = (Path(home) / "secrets.env").read_text().splitlines()
    except FileNotFoundError:
        return None
    return next((line.split("=", 1)[1] for line in lines if line.startswith(f"{URL_VARIABLE}=")), None)


@contextmanager
def catalog_sessions(url: str | None = None) -> Iterator[sessionmaker[Session]]:
    """Sessions on one connection, for work in several transactions: `with sessions.begin() as session`.

    Raises
    ------
    TransportError
        If the database cannot be reached.
    ConfigError
        If its tables are older than this lstops.
    """
    engine = catalog_engine(url)
    try:
        yield sessionmaker(engine, expire_on_commit=False)
    except OperationalError as error:
        where = engine.url.render_as_string(hide_password=True)
        raise TransportError(
            f"the catalogue at {where} does not answer: {str(error.orig).strip()}.", "start PostgreSQL, then try again."
        ) from error
    except ProgrammingError as error:
        if getattr(error.orig, "pgcode", None) not in _MISSING_TABLE_OR_COLUMN:
            raise
        first = str(error.orig).partition("\n")[0]
        raise ConfigError(
            f"the tables of the catalogue are not those of this lstops: {first}.", "run `lstops catalog upgrade`."
        ) from error
    finally:
        engine.dispose()


@contextmanager
def catalog_session(url: str | None = None) -> Iterator[Session]:
    """One transaction: committed at the end, rolled back on any error. Rows that were read can be used after it.

    Raises
    ------
    TransportError
        If the database cannot be reached.
    ConfigError
        If its tables are older than this lstops.
    """
    with catalog_sessions(url) as sessions, sessions.begin() as session:
        yield session


def one_at_a_time(session: Session, what: str) -> None:
    """Wait until no other transaction does the same; it holds until this one ends.

    For what two transactions must not decide side by side, each seeing a catalogue without the other's answer.
    """
    session.execute(text("SELECT pg_advisory_xact_lock(hashtext(:what))"), {"what": f"lstops {what}"})


def _alembic() -> Config:
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).with_name("migrations")))
    return config


def upgrade(url: str | None = None) -> tuple[str | None, str]:
    """Bring the catalogue's tables to this version of lstops.

    Returns
    -------
    tuple
        Revision before and after.
    """
    # Alembic takes a quarter of a second to import, which questions to the catalogue do not wait for.
    from alembic import command
    from alembic.migration import MigrationContext
    from alembic.script import ScriptDirectory

    with catalog_session(url) as session:
        connection = session.connection()
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _MIGRATION_LOCK})
        before = MigrationContext.configure(connection).get_current_revision()
        config = _alembic()
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
        after = ScriptDirectory.from_config(config).get_current_head()
    return before, str(after)
