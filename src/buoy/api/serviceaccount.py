"""The ServiceAccount."""

from __future__ import annotations

from . import formats
from .kind import AGE_COLUMN, NAME_COLUMN, Kind
from .metadata import validating
from .models import core_v1
from .resource import SERVICE_ACCOUNTS

SERVICE_ACCOUNT = Kind(
    resource=SERVICE_ACCOUNTS,
    model=core_v1.ServiceAccount,
    singular="serviceaccount",
    short_names=("sa",),
    columns=(NAME_COLUMN, AGE_COLUMN),
    validate=validating(formats.dns_subdomain),
)
