"""The front of the API: through which proxies, by which host name, from which web page and how often one may ask."""

from __future__ import annotations

import ipaddress
import logging
import re
from dataclasses import dataclass, field

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dicom_node.api.answers.problems import problem_response
from dicom_node.api.front.proxies import MARKS, see_through
from dicom_node.api.front.rates import Rates, too_often
from dicom_node.config.incoming import ApiSettings
from dicom_node.core.calls.limits import Networks

_HOST = re.compile(r"(\[[0-9a-f:.]+\]|[a-z0-9_.-]+)(?::\d{1,5})?", re.IGNORECASE)
#: For watchdogs and load balancers: they call by address, often, and learn nothing that is anybody's.
_HEALTH = {"/healthz", "/readyz"}
#: The page on which one signs in, which is files; and sign-in, whose own limit those who guess cannot use up for those
#: who know. Whoever asks without end must not keep others at their address from it.
_SIGN_IN = {"/", "/login", "/login/ways"}
_FILES = ("/page/", "/viewer")
#: What follows on the connection may be no request, or one that somebody else does not see.
_CLOSE = {"Connection": "close"}
_DAY_S = 24 * 3600
_SHARED_WITH_PAGES = "X-Request-Id, Retry-After, Location, Link, ETag, Content-Disposition, WWW-Authenticate"
_PREFLIGHT = {
    "Access-Control-Allow-Methods": "GET, HEAD, POST, PUT, PATCH, DELETE",
    "Access-Control-Allow-Headers": (
        "Authorization, Content-Type, Accept, If-Match, If-None-Match, Idempotency-Key, Last-Event-ID"
    ),
    "Access-Control-Max-Age": "600",
}
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class FrontRules:
    """What the settings say of the front. `hosts` are the names the API goes by besides addresses; none: see
    `is_loopback`, where pages of other sites could call it by a name of theirs."""

    trusted_proxies: Networks = field(default_factory=Networks)
    hosts: frozenset[str] = frozenset()
    own_host: str = "localhost"
    is_loopback: bool = True
    origins: frozenset[str] = frozenset()
    hsts_s: int = 0


def rules_of(settings: ApiSettings) -> FrontRules:
    """Return the rules that the settings state."""
    return FrontRules(
        trusted_proxies=Networks(settings.trusted_proxies),
        hosts=frozenset(one.lower() for one in settings.hosts),
        own_host=settings.host.lower(),
        is_loopback=settings.host == "localhost" or settings.host in Networks(("127.0.0.0/8", "::1")),
        origins=frozenset(settings.cors_origins),
        hsts_s=settings.hsts_days * _DAY_S,
    )


class Front:
    """Middleware behind `RequestGuard`: sees through proxies, refuses what may not come in, and lets pages read."""

    def __init__(self, app: ASGIApp, rules: FrontRules, rates: Rates) -> None:
        self.app = app
        self._rules = rules
        self._rates = rates
        self._has_warned = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        see_through(scope, self._rules.trusted_proxies)
        headers = Headers(scope=scope)
        answer = self._refusal(scope, headers) or self._preflight(scope, headers)
        await (answer or self.app)(scope, receive, self._with_headers(scope, headers, send))

    def _refusal(self, scope: Scope, headers: Headers) -> Response | None:
        """Return the answer to what is not let in; health is told to everybody."""
        id_ = scope["state"]["request_id"]
        if not scope["path"].startswith("/") or scope["method"] == "CONNECT":
            return problem_response(400, "This is no proxy: ask for a path, as in GET /api/status.", id_, _CLOSE)
        if "transfer-encoding" in headers and ("content-length" in headers or scope["http_version"] == "1.0"):
            return problem_response(400, "Say once how long the body is (RFC 9112 6.3).", id_, _CLOSE)
        if scope["path"] in _HEALTH:
            return None
        if not self._goes_by(scope, headers):
            text = "The node does not go by this host name. Call it by its address, or list the name in api.hosts."
            return problem_response(421, text, id_)
        return self._asks_too_often(scope, headers, id_)

    def _asks_too_often(self, scope: Scope, headers: Headers, id_: str) -> Response | None:
        """Return the answer to who shows nothing too often; what is shown is judged, and counted, by `Access`."""
        path = scope["path"]
        if path in _SIGN_IN or path.startswith(_FILES) or "authorization" in headers or "cookie" in headers:
            return None
        wait_s = self._rates.stranger_waits_s(scope["client"][0] if scope["client"] else "")
        if wait_s <= 0:
            return None
        detail, waiting = too_often("This address", wait_s)
        return problem_response(429, detail, id_, waiting)

    # --- host names -----------------------------------------------------------------------------------------------

    def _goes_by(self, scope: Scope, headers: Headers) -> bool:
        """Tell whether the node goes by this name, so that no page of another site can make it its own by DNS.

        Addresses cannot be bound to such a page. Where no names are listed, a node that listens beyond loopback goes
        by any; one that does not, by those that a proxy calls it by, as it did before there was a list.
        """
        host = headers.get("host", "")
        if not host:  # allowed in HTTP/1.0 alone (RFC 9112 3.2), which no browser speaks
            return bool(scope["http_version"] == "1.0")
        found = _HOST.fullmatch(host)
        name = found[1].lower().rstrip(".") if found else ""
        if name in {"localhost", self._rules.own_host} or name in self._rules.hosts or _is_address(name):
            return True
        if not name or self._rules.hosts:
            return False
        return not self._rules.is_loopback or self._was_called_by_a_proxy(headers)

    def _was_called_by_a_proxy(self, headers: Headers) -> bool:
        if not any(mark in headers for mark in MARKS):
            return False
        if not self._has_warned:
            self._has_warned = True
            _log.warning("a proxy calls the API by a name that api.hosts does not list; list it there")
        return True

    # --- pages of other sites -------------------------------------------------------------------------------------

    def _preflight(self, scope: Scope, headers: Headers) -> Response | None:
        """Return the answer to a browser that asks, without any credential, what a page may ask (Fetch, 3.2.2)."""
        asks = scope["method"] == "OPTIONS" and "origin" in headers and "access-control-request-method" in headers
        if not asks or not self._rules.origins:
            return None
        if headers["origin"] in self._rules.origins:
            return Response(status_code=204, headers=_PREFLIGHT)
        text = "Pages of this origin may not use the API. api.cors_origins lists those that may."
        return problem_response(403, text, scope["state"]["request_id"])

    def _with_headers(self, scope: Scope, asked: Headers, send: Send) -> Send:
        """Let pages of listed origins read the answer, and browsers remember to come over TLS.

        Credentials are not allowed: such a page shows a key as bearer token, and never a person's session.
        """
        more: dict[str, str] = {}
        if scope["scheme"] == "https" and self._rules.hsts_s:
            more["Strict-Transport-Security"] = f"max-age={self._rules.hsts_s}"
        if asked.get("origin") in self._rules.origins:
            more |= {
                "Access-Control-Allow-Origin": asked["origin"],
                "Access-Control-Expose-Headers": _SHARED_WITH_PAGES,
            }

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(more)
                if self._rules.origins:
                    headers.add_vary_header("Origin")
            await send(message)

        return with_headers


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        return False
    return True
