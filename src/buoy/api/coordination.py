"""The Lease."""

from __future__ import annotations

from .kind import AGE_COLUMN, NAME_COLUMN, Column, Kind
from .models import coordination_v1
from .resource import LEASES

LEASE = Kind(
    resource=LEASES,
    model=coordination_v1.Lease,
    singular="lease",
    columns=(
        NAME_COLUMN,
        Column("Holder", lambda lease: (lease.get("spec") or {}).get("holderIdentity") or ""),
        AGE_COLUMN,
    ),
)
