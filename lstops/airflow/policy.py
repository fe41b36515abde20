"""Which errors are worth another try of an Airflow task, and after how long."""

from __future__ import annotations

import os
from datetime import timedelta

from airflow.sdk import ExceptionRetryPolicy, RetryAction, RetryRule

from lstops.errors import ConfigError, DataError, JobFailure, ProductInvalid, StorageError, SubmitError, TransportError

#: at least one everywhere: an event that comes right after a deferral can make the scheduler fail a task that is well
MIN_RETRIES = 1
RETRIES = 3
RETRY_DELAY = timedelta(minutes=1)
_STORAGE_DELAY = timedelta(minutes=15)


def submission_pool() -> str:
    """Airflow pool of tasks that log in to the cluster (LSTOPS_SUBMIT_POOL); who starts Airflow makes the pool too."""
    return os.environ.get("LSTOPS_SUBMIT_POOL", "default_pool")


def stage_retry_policy() -> ExceptionRetryPolicy:
    """Retry what may pass by itself, fail at once what a person has to correct."""
    return ExceptionRetryPolicy(
        rules=[
            RetryRule(TransportError, RetryAction.RETRY, RETRY_DELAY, "the cluster could not be reached"),
            RetryRule(StorageError, RetryAction.RETRY, _STORAGE_DELAY, "a file system is full or not writable"),
            RetryRule(
                [ConfigError, SubmitError, DataError, JobFailure, ProductInvalid],
                RetryAction.FAIL,
                reason="trying again does not help; see the remedy in the log",
            ),
        ],
        default=RetryAction.DEFAULT,
    )
