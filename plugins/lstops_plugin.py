"""Makes lstops known to Airflow.

Airflow loads every file of this folder under its bare name, so the name is one that nothing else has; the code lives in
`lstops.airflow`.
"""

from airflow.plugins_manager import AirflowPlugin


class LstopsPlugin(AirflowPlugin):
    """Shown under Admin > Plugins."""

    name = "lstops"
