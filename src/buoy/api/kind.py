"""How a kind is declared: once, in one place, everything the API server needs to serve it."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from . import meta
from .meta import Object
from .resource import Resource
from .schema import Struct, struct_of
from .status import FieldError


@dataclass(frozen=True, slots=True)
class Column:
    """A column of ``kubectl get``: *value* gives the cell. A *wide* one shows with ``-o wide`` only."""

    name: str
    value: Callable[[Object], Any]
    type: Literal["string", "integer", "number", "boolean", "date"] = "string"
    wide: bool = False
    format: str = ""
    description: str = ""


@dataclass(frozen=True, slots=True)
class Scale:
    """Where the ``scale`` subresource finds its numbers and its selector, as JSON paths."""

    spec_replicas: str = ".spec.replicas"
    status_replicas: str = ".status.replicas"
    selector: str = ".spec.selector"


@dataclass(frozen=True, slots=True)
class View:
    """A kind without a store of its own: the objects of another resource, converted on the way in and out."""

    of: Resource
    show: Callable[[Object], Object]
    store: Callable[[Object], Object]


def no_defaults(obj: Object) -> None:
    """Nothing to fill in, or to do."""


def no_errors(new: Object, old: Object | None) -> Sequence[FieldError]:
    """Any object of the right shape will do."""
    return ()


def no_warnings(obj: Object) -> Iterable[str]:
    """Nothing that a user ought to know."""
    return ()


def keep(new: Object, old: Object | None) -> None:
    """Take what the user sends as it is."""


@dataclass(frozen=True)
class Kind:
    """A resource the API server serves.

    *model* is the lightkube-models dataclass that gives shape, documentation and merge keys; the kind of a
    custom resource has its `Struct` there.
    *default* fills unset fields in place. *prepare(new, old)* enforces, in place and before validation, what
    a user may not set (status on create, immutable bookkeeping); old is None on create. *validate(new, old)*
    returns the faults of a defaulted object. *begin_delete* changes one at the first request to delete it.
    *warn* tells the user what is odd about one that is accepted; *deprecated* is told with every answer about
    such objects but a watch. *has_status* gives the kind the ``status`` subresource; *has_generation* makes
    ``metadata.generation`` count changes of anything but metadata and status. *view* says that the objects
    are another resource's; the functions here then see the converted ones.
    """

    resource: Resource
    model: type | Struct
    singular: str
    short_names: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    columns: tuple[Column, ...] = ()
    has_status: bool = False
    has_generation: bool = False
    view: View | None = None
    scale: Scale | None = None
    default: Callable[[Object], None] = no_defaults
    prepare: Callable[[Object, Object | None], None] = keep
    begin_delete: Callable[[Object], None] = no_defaults
    validate: Callable[[Object, Object | None], Sequence[FieldError]] = no_errors
    warn: Callable[[Object], Iterable[str]] = no_warnings
    deprecated: str = ""
    validate_status: Callable[[Object, Object], Sequence[FieldError]] | None = None
    selectable_fields: Mapping[str, Callable[[Object], str]] = field(default_factory=dict)

    list_name: str = ""
    """What a list of them is called, if not the name with ``List``."""

    @property
    def name(self) -> str:
        return self.resource.kind

    @property
    def list_kind(self) -> str:
        return self.list_name or f"{self.resource.kind}List"

    @property
    def custom(self) -> bool:
        """Made from a CustomResourceDefinition."""
        return isinstance(self.model, Struct)

    @functools.cached_property
    def struct(self) -> Struct:
        """The compiled shape of its objects."""
        return self.model if isinstance(self.model, Struct) else struct_of(self.model)


NAME_COLUMN = Column("Name", meta.name, format="name")
AGE_COLUMN = Column("Age", lambda obj: obj["metadata"].get("creationTimestamp", ""), type="date")
