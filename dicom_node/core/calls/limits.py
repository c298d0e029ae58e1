"""What the node concedes to others: what counts as one caller where calls are limited, how long a server may be
waited for when it asks to be left alone (Retry-After, RFC 9110 10.2.3), and when a certificate is to be renewed."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime


def network_of(address: str) -> str:
    """Return an IPv4 address as it is, and the /64 network of an IPv6 address: within it a machine has its choice."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv4Address):
        return address
    return str(parsed.ipv4_mapped or ipaddress.ip_network((parsed, 64), strict=False))


@dataclass(frozen=True, slots=True)
class Networks:
    """Networks (CIDR) as a set of addresses."""

    networks: Sequence[str] = ()

    def __contains__(self, address: object) -> bool:
        """Tell whether an address, also one of IPv4 written as IPv6, lies in any; what is no address does in none."""
        try:
            parsed = ipaddress.ip_address(str(address))
        except ValueError:
            return False
        if isinstance(parsed, ipaddress.IPv6Address) and parsed.ipv4_mapped:
            parsed = parsed.ipv4_mapped
        return any(parsed in ipaddress.ip_network(one, strict=False) for one in self.networks)


def is_loopback(host: str) -> bool:
    """Tell whether what goes to this host, an address or a name, stays on this machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


#: So long before its end a certificate is told of.
CERTIFICATE_RENEWED_BEFORE = timedelta(days=30)

#: Nothing the node puts off is put off for longer, whatever a peer asks for; after it the server is asked again.
LONGEST_WAIT_S = 3600.0


def retry_after_s(value: str) -> float | None:
    """Return the wait in seconds, 0 to `LONGEST_WAIT_S`; `value` is a number or a date, anything else is `None`."""
    text = value.strip()
    wait_s = float(text) if text.isdecimal() else _until(text)
    return None if wait_s is None else min(max(0.0, wait_s), LONGEST_WAIT_S)


def _until(text: str) -> float | None:
    try:
        when = parsedate_to_datetime(text)
        return (when.replace(tzinfo=when.tzinfo or UTC) - datetime.now(UTC)).total_seconds()
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
