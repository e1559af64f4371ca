"""The Lease."""

from __future__ import annotations

from . import formats
from .kind import AGE_COLUMN, NAME_COLUMN, Column, Kind
from .meta import Object
from .metadata import NEGATIVE, faults, validating
from .models import coordination_v1
from .resource import LEASES
from .status import FieldError, forbidden_field, invalid, not_supported

_STRATEGIES = ("OldestEmulationVersion",)


def _validate(lease: Object, old: Object | None) -> list[FieldError]:
    spec = lease.get("spec") or {}
    errors: list[FieldError] = []
    duration, transitions = spec.get("leaseDurationSeconds"), spec.get("leaseTransitions")
    if duration is not None and duration <= 0:
        errors.append(invalid("spec.leaseDurationSeconds", duration, "must be greater than 0"))
    if transitions is not None and transitions < 0:
        errors.append(invalid("spec.leaseTransitions", transitions, NEGATIVE))
    strategy = spec.get("strategy")
    if strategy is not None:
        if "/" in strategy:
            errors += faults("spec.strategy.strategy", strategy, formats.label_key(strategy))
        elif strategy not in _STRATEGIES:
            errors.append(not_supported("spec.strategy.strategy", strategy, _STRATEGIES))
    if spec.get("preferredHolder") and not strategy:
        errors.append(
            forbidden_field("spec.preferredHolder", "may only be specified if `strategy` is defined")
        )
    return errors


LEASE = Kind(
    resource=LEASES,
    model=coordination_v1.Lease,
    singular="lease",
    columns=(
        NAME_COLUMN,
        Column("Holder", lambda lease: (lease.get("spec") or {}).get("holderIdentity") or ""),
        AGE_COLUMN,
    ),
    validate=validating(formats.dns_subdomain, _validate),
)
