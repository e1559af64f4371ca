"""Acting as somebody else: the ``Impersonate-…`` headers of ``kubectl --as``."""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote

from .authentication import ANONYMOUS, AUTHENTICATED
from .authorization import Attributes, Authorizer
from .registry import User

_EXTRA = "impersonate-extra-"
_ACCOUNT = "system:serviceaccount:"


def impersonate(user: User, headers: Any, authorizer: Authorizer) -> User:
    """The user that *user* wants to be. Raises StatusError 403 if it may not.

    *headers* is a multidict, as the group header may come several times.
    """
    name = headers["Impersonate-User"]
    groups = list(headers.getall("Impersonate-Group", ()))
    uid = headers.get("Impersonate-Uid", "")
    extra: dict[str, list[str]] = {}
    for header, value in headers.items():
        if header.lower().startswith(_EXTRA):
            extra.setdefault(unquote(header[len(_EXTRA) :].lower()), []).append(value)
    if name.startswith(_ACCOUNT) and name.count(":") == 3:
        namespace, account = name.removeprefix(_ACCOUNT).split(":")
        authorizer.require(user, Attributes("impersonate", "", "serviceaccounts", "", namespace, account))
        if not groups:
            groups = ["system:serviceaccounts", f"system:serviceaccounts:{namespace}"]
    else:
        authorizer.require(user, Attributes("impersonate", "", "users", name=name))
    for group in headers.getall("Impersonate-Group", ()):
        authorizer.require(user, Attributes("impersonate", "", "groups", name=group))
    if uid:
        authorizer.require(user, Attributes("impersonate", "authentication.k8s.io", "uids", name=uid))
    for key, values in extra.items():
        for value in values:
            authorizer.require(
                user, Attributes("impersonate", "authentication.k8s.io", "userextras", key, name=value)
            )
    if name != ANONYMOUS.name and AUTHENTICATED not in groups:
        groups.append(AUTHENTICATED)
    return User(name, tuple(groups), uid, tuple((key, tuple(values)) for key, values in extra.items()))
