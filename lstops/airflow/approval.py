"""A person's word before something dear is computed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from airflow.providers.standard.operators.hitl import ApprovalOperator

from lstops.airflow.notifier import ApprovalNotifier


class CostApproval(ApprovalOperator):  # type: ignore[misc]
    """Wait for approval on the web page if `needed` says so; what follows is skipped if a person rejects it.

    Parameters
    ----------
    needed : str
        Templated: "yes" asks a person, "no" goes on at once.
    """

    template_fields: Sequence[str] = (*ApprovalOperator.template_fields, "needed")

    def __init__(self, *, needed: str, **kwargs: Any) -> None:
        super().__init__(notifiers=[ApprovalNotifier()], ignore_downstream_trigger_rules=True, **kwargs)
        self.needed = needed

    def execute(self, context: Any) -> Any:
        """Ask, or go on.

        Raises
        ------
        ValueError
            If `needed` is neither "yes" nor "no": what is unclear is never approved.
        """
        if self.needed not in ("yes", "no"):
            raise ValueError(f"approval is neither needed nor not: {self.needed!r}")
        if self.needed == "no":
            self.log.info("%s: below the limit of the site, nobody is asked", self.subject)
            return None
        return super().execute(context)
