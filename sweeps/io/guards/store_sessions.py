"""Requests to an S3 that go where they were sent: aiobotocore follows redirects to any host, signed headers and all."""

from __future__ import annotations

from functools import partial
from types import SimpleNamespace
from typing import Any

from aiobotocore.httpsession import AIOHTTPSession  # type: ignore[import-untyped]


class UnredirectedSession(AIOHTTPSession):
    """The HTTP session of aiobotocore, in which a redirect is an answer, not a place to go on to.

    So it is in botocore, which asks another region of the same store by itself. A server might otherwise send
    workers to a link-local address, where a cloud hands out their credentials.
    """

    async def _get_session(self, proxy_url: str | None) -> Any:
        session = await super()._get_session(proxy_url)
        return SimpleNamespace(request=partial(session.request, allow_redirects=False))
