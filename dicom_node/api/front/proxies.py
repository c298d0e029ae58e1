"""Who asks, when proxies stand between: what they say of the client is believed of those that are trusted, only.

X-Forwarded-For, -Proto and -Host are what proxies write by custom, Forwarded is RFC 7239. Anybody can write them; each
proxy adds the address it was called from at the right, so that what stands right of the first stranger is true.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from starlette.datastructures import Headers
from starlette.types import Scope

from dicom_node.core.calls.limits import Networks

#: By these a proxy shows itself; none of them changes anything unless the proxy is trusted.
MARKS = ("x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-real-ip", "forwarded", "via")
#: Hops looked at; there are no longer chains of one's own proxies.
_MOST_HOPS = 32
_ELEMENT = re.compile(r'(?:[^,"]|"(?:[^"\\]|\\.)*+")++')
_PAIR = re.compile(r'(\w+)\s*=\s*(?:"((?:[^"\\]|\\.)*+)"|([^\s;,"]++))')


@dataclass(frozen=True, slots=True)
class _Told:
    """What proxies told: addresses from the client on, and how the nearest of them was called; "" what it left out."""

    addresses: Sequence[str] = ()
    scheme: str = ""
    host: str = ""


def see_through(scope: Scope, trusted: Networks) -> None:
    """Put into the scope who asks, by which scheme and host name, as far as trusted proxies tell."""
    peer = scope["client"][0] if scope["client"] else ""
    if peer not in trusted:
        return
    headers = Headers(scope=scope)
    customary, standard = _customary(headers), _standard(headers)
    if client := _agreed(*(_client(peer, told.addresses, trusted) for told in (customary, standard) if told.addresses)):
        scope["client"] = (client, 0)
    if (scheme := customary.scheme or standard.scheme) in {"http", "https"}:
        scope["scheme"] = scheme
    if host := customary.host or standard.host:
        others = [(name, value) for name, value in scope["headers"] if name != b"host"]
        scope["headers"] = [(b"host", host.encode("latin-1", "replace")), *others]


def _agreed(*clients: str) -> str:
    """Return the client that both kinds of header name; "" when they differ: a proxy that writes one of them may hand
    on the other as its client wrote it."""
    return clients[0] if len(set(clients)) == 1 else ""


def _client(peer: str, hops: Sequence[str], trusted: Networks) -> str:
    """Return the rightmost address that is no trusted proxy's, or the last one that is known."""
    client = peer
    for hop in reversed(hops[-_MOST_HOPS:]):
        if client not in trusted or not (address := _address(hop)):
            break
        client = address
    return client


def _address(hop: str) -> str:
    """Return the address of ``192.0.2.1``, ``192.0.2.1:4711``, ``[2001:db8::1]:4711``; "" of what is none."""
    text = hop.strip()
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return ""
    # A proxy that listens on IPv6 writes IPv4 clients as ::ffff:192.0.2.1, which is the same client.
    return str(getattr(address, "ipv4_mapped", None) or address)


def _customary(headers: Headers) -> _Told:
    def nearest(name: str) -> str:
        return ",".join(headers.getlist(name)).rpartition(",")[2].strip()

    hops = headers.getlist("x-forwarded-for")
    return _Told(
        ",".join(hops).split(",") if hops else (), nearest("x-forwarded-proto").lower(), nearest("x-forwarded-host")
    )


def _standard(headers: Headers) -> _Told:
    elements = [_pairs(one) for one in _ELEMENT.findall(",".join(headers.getlist("forwarded")))]
    if not elements:
        return _Told()
    nearest = elements[-1]
    return _Told([one.get("for", "") for one in elements], nearest.get("proto", "").lower(), nearest.get("host", ""))


def _pairs(element: str) -> Mapping[str, str]:
    return {name.lower(): quoted or plain for name, quoted, plain in _PAIR.findall(element)}
