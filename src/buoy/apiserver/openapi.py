"""OpenAPI documents, made of the models."""

from __future__ import annotations

from collections.abc import Sequence

from aiohttp import web

from buoy.api.kind import Kind

from .answers import Answer
from .discovery import Discovery
from .rest import generic_not_found


class OpenApi:
    def __init__(self, kinds: Sequence[Kind], discovery: Discovery) -> None:
        self._kinds = kinds

    async def v2(self, accept: str) -> Answer:
        raise generic_not_found()

    async def v3(self, path: str, wanted: str, request: web.BaseRequest) -> Answer:
        raise generic_not_found()
