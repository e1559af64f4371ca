"""BGP passwords, from the Secrets that peers name."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping

from buoy.api.meta import Object

_TYPE = "kubernetes.io/basic-auth"


class SecretError(ValueError):
    """The Secret cannot be used; the text says why."""


def password_of(secrets: Mapping[str, Object], name: str) -> str:
    """The password that the Secret *name* holds. Raises SecretError."""
    secret = secrets.get(name)
    if secret is None:
        raise SecretError("there is no Secret of this name in the load balancer's namespace")
    if secret.get("type") != _TYPE:
        raise SecretError(f"the Secret must be of type {_TYPE}")
    try:
        password = base64.b64decode((secret.get("data") or {})["password"], validate=True).decode()
    except KeyError:
        raise SecretError("the Secret has no key password") from None
    except (binascii.Error, UnicodeDecodeError):
        raise SecretError("the password of the Secret is no text") from None
    if not password:
        raise SecretError("the password of the Secret is empty")
    return password
