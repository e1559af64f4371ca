"""Acting as somebody else: the ``Impersonate-…`` headers of ``kubectl --as``."""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote

from buoy.api.status import StatusError

from .attributes import Attributes
from .authentication import ANONYMOUS, AUTHENTICATED
from .authorization import Authorizer
from .registry import User

_EXTRA = "impersonate-extra-"
_ACCOUNT = "system:serviceaccount:"
_AUTHENTICATION = "authentication.k8s.io"


async def impersonate(user: User, headers: Any, authorizer: Authorizer) -> User:
    """The user that *user* wants to be: itself, without such headers. Raises StatusError 403 if it may not.

    *headers* is a multidict, as the group header may come several times.
    """
    name = headers.get("Impersonate-User", "")
    groups = list(headers.getall("Impersonate-Group", ()))
    uid = headers.get("Impersonate-Uid", "")
    extra: dict[str, list[str]] = {}
    for header, value in headers.items():
        if header.lower().startswith(_EXTRA):
            extra.setdefault(unquote(header[len(_EXTRA) :].lower()), []).append(value)
    if not name:
        if groups or uid or extra:
            # To go on as oneself would be to do it with rights that were not meant.
            fault = f"requested groups {groups}, uid {uid!r}, extra {extra} without impersonating a user"
            raise StatusError(500, "InternalError", f"Internal error occurred: {fault}")
        return user

    async def require(resource: str, name: str, group: str = "", more: str = "", namespace: str = "") -> None:
        await authorizer.require(user, Attributes("impersonate", group, resource, more, namespace, name))

    if name.startswith(_ACCOUNT) and name.count(":") == 3:
        namespace, account = name.removeprefix(_ACCOUNT).split(":")
        await require("serviceaccounts", account, namespace=namespace)
    else:
        namespace = ""
        await require("users", name)
    for group in groups:
        await require("groups", group)
    if uid:
        await require("uids", uid, _AUTHENTICATION)
    for key, values in extra.items():
        for value in values:
            await require("userextras", value, _AUTHENTICATION, key)
    if namespace and not groups:
        groups = ["system:serviceaccounts", f"system:serviceaccounts:{namespace}"]
    every = ANONYMOUS.groups[0] if name == ANONYMOUS.name else AUTHENTICATED
    if every not in groups:
        groups.append(every)
    return User(name, tuple(groups), uid, tuple((key, tuple(values)) for key, values in extra.items()))
