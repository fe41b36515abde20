"""Airflow's side: hook, operator, trigger, retry policy, notifier. The only package of lstops that imports Airflow."""
