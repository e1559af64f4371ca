"""The patch types: what each does to an object."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jsonpatch
import jsonpointer

from buoy.api import strategic
from buoy.api.meta import Object
from buoy.api.schema import Struct
from buoy.api.status import StatusError, bad_request

from .encoding import to_json

JSON_PATCH = "application/json-patch+json"
MERGE_PATCH = "application/merge-patch+json"
STRATEGIC_PATCH = "application/strategic-merge-patch+json"
APPLY_PATCH = "application/apply-patch+yaml"
PATCH_TYPES = (JSON_PATCH, MERGE_PATCH, STRATEGIC_PATCH, APPLY_PATCH)
PATCH_TYPES_OF_CUSTOM = (JSON_PATCH, MERGE_PATCH, APPLY_PATCH)

_MOST_OPERATIONS = 10_000
_MOST_COPIED = 3 << 20


def compile_patch(content_type: str, patch: Any, struct: Struct) -> Callable[[Object], Object]:
    """The function that applies *patch* (decoded JSON) to an object, which it may change.

    Raises StatusError 400 for a malformed patch; so may the function; 422 if it does not fit.
    """
    if content_type == JSON_PATCH:
        return _json_patch(patch)
    if not isinstance(patch, dict):
        raise bad_request(
            f"json: cannot unmarshal {_word(patch)} into Go value of type map[string]interface {{}}"
        )
    if content_type == MERGE_PATCH:
        return lambda obj: merge_patch(obj, patch)

    def apply(obj: Object) -> Object:
        try:
            return strategic.merge(obj, patch, struct)
        except strategic.BadPatch as error:
            raise bad_request(str(error)) from None

    return apply


def merge_patch(target: Any, patch: Any) -> Any:
    """RFC 7386, section 2."""
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = merge_patch(result.get(name), value)
    return result


def _json_patch(operations: Any) -> Callable[[Object], Object]:
    if not isinstance(operations, list):
        raise bad_request(f"json: cannot unmarshal {_word(operations)} into Go value of type jsonpatch.Patch")
    if len(operations) > _MOST_OPERATIONS:
        raise StatusError(
            413,
            "RequestEntityTooLarge",
            f"The allowed maximum operations in a JSON patch is {_MOST_OPERATIONS}, got {len(operations)}",
        )
    try:
        compiled = jsonpatch.JsonPatch(operations)
    except (jsonpatch.InvalidJsonPatch, jsonpointer.JsonPointerException, TypeError, KeyError) as error:
        raise bad_request(f"error decoding patch: {error}") from None

    copies = any(operation.get("op") == "copy" for operation in operations)
    steps = [jsonpatch.JsonPatch([operation]) for operation in operations] if copies else [compiled]

    def apply(obj: Object) -> Object:
        copied = 0
        try:
            patched = obj
            for step in steps:
                if copies:
                    copied = _copied(patched, step.patch[0], copied)
                patched = step.apply(patched, in_place=True)
        except jsonpatch.JsonPatchTestFailed as error:
            raise StatusError(
                422,
                "Invalid",
                f"the server rejected our request due to an error in our request: "
                f"testing value failed: {error}",
            ) from None
        except (jsonpatch.JsonPatchException, jsonpointer.JsonPointerException, TypeError, KeyError) as error:
            raise StatusError(
                422, "Invalid", f"the server rejected our request due to an error in our request: {error}"
            ) from None
        if not isinstance(patched, dict):
            raise bad_request("the patch does not leave an object")
        return patched

    return apply


def _copied(obj: Object, operation: Object, before: int) -> int:
    """Bytes copied so far. Raises StatusError 422 if they are many: each copy could be twice the last one."""
    if operation["op"] != "copy":
        return before
    size = before + len(to_json(jsonpointer.resolve_pointer(obj, operation["from"])))
    if size > _MOST_COPIED:
        raise StatusError(
            422,
            "Invalid",
            "Unable to complete the copy, the accumulated size increase of copy is "
            f"{size}, exceeding the limit {_MOST_COPIED}",
        )
    return size


def _word(value: Any) -> str:
    if isinstance(value, list):
        return "array"
    if isinstance(value, dict):
        return "object"
    if isinstance(value, str):
        return "string"
    return "bool" if isinstance(value, bool) else "number"


def unsupported(content_type: str, supported: Sequence[str]) -> StatusError:
    return StatusError(
        415,
        "UnsupportedMediaType",
        "the body of the request was in an unknown format - accepted media types include: "
        + ", ".join(supported),
    )
