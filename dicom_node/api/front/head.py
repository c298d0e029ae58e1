"""HEAD wherever GET is (RFC 9110, 9.3.2): the same request by the same rules, of whose answer only the head is sent."""

from __future__ import annotations

from starlette.types import Message, Scope, Send


def as_get(scope: Scope) -> Scope:
    """Return a request for the head of an answer as one for the answer.

    Ranges are for GET alone (RFC 9110, 14.2). A file that nobody will see is named (ASGI extension
    `http.response.pathsend`) and not read.
    """
    headers = [(name, value) for name, value in scope["headers"] if name != b"range"]
    extensions = {**(scope.get("extensions") or {}), "http.response.pathsend": {}}
    return {**scope, "method": "GET", "headers": headers, "extensions": extensions}


def head_of(send: Send) -> Send:
    """Return a way out for an answer that ends behind its head; whoever streams one hears that the client has gone."""
    is_over = False

    async def send_head(message: Message) -> None:
        nonlocal is_over
        if is_over:
            return
        is_over = True  # first: a stream goes on while the head is on its way
        await send(message)
        await send({"type": "http.response.body"})

    return send_head
