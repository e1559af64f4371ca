"""The ServiceAccount."""

from __future__ import annotations

from .kind import AGE_COLUMN, NAME_COLUMN, Column, Kind
from .models import core_v1
from .resource import SERVICE_ACCOUNTS

SERVICE_ACCOUNT = Kind(
    resource=SERVICE_ACCOUNTS,
    model=core_v1.ServiceAccount,
    singular="serviceaccount",
    short_names=("sa",),
    columns=(NAME_COLUMN, Column("Secrets", lambda account: len(account.get("secrets") or ())), AGE_COLUMN),
)
