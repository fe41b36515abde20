"""Makes lstops known to Airflow: the night reports, behind its login.

Airflow loads every file of this folder under its bare name, so the name is one that nothing else has; the code lives in
`lstops.airflow`.
"""

from typing import Any
from urllib.parse import urlsplit

from airflow.configuration import conf
from airflow.plugins_manager import AirflowPlugin

#: Airflow may live below a path of its host
_ROOT = urlsplit(conf.get("api", "base_url", fallback="")).path.rstrip("/")


async def lstops_web(scope: Any, receive: Any, send: Any) -> None:
    """The web application, imported by the first request: scheduler and tasks load plugins too, and never need it."""
    from lstops.airflow.web import app

    await app(scope, receive, send)


class LstopsPlugin(AirflowPlugin):
    """Shown under Admin > Plugins."""

    name = "lstops"
    fastapi_apps = [{"app": lstops_web, "url_prefix": "/lstops", "name": "lstops"}]  # noqa: RUF012 - read from the class
    external_views = [  # noqa: RUF012 - as above
        {"name": "Night reports", "href": f"{_ROOT}/lstops/reports", "destination": "nav", "url_route": "night-reports"}
    ]
