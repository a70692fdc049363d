"""Names that a request's `Host` may hold.

The name of a web page can be made to point at this machine (DNS rebinding). To the browser, page
and service are then one site, so that the page could use a service that listens on the loopback
address only. The browser sends the page's name in `Host`, where a list of names refuses it. An IP
address in `Host` cannot be such a name.
"""

import ipaddress
import re
import socket
from collections.abc import Iterable

LOCAL_NAMES = frozenset(("localhost",))
EVERYWHERE = ("0.0.0.0", "::")
# A name, an address of IPv4, or one of IPv6 with or without brackets; and a port.
_HOST = re.compile(
    r"(?:\[(?P<bracketed>[0-9a-f:.]*:[0-9a-f:.]*)\]|(?P<name>[^\[\]:/@\s]*))(?::\d+)?"
    r"|(?P<bare>[0-9a-f.]*:[0-9a-f:.]*:[0-9a-f:.]*)"
)


def allowed_hosts(host: str, named: Iterable[str], has_key: bool) -> frozenset[str] | None:
    """Names that are accepted beside IP addresses; None accepts any.

    Args:
        host: address or name to listen on.
        named: by `--allowed_host`.
        has_key: a rebound page does not know the key, so that any name is accepted unless some are
            listed.
    """
    listed = {name.lower().rstrip(".") for name in named}
    if has_key and not listed:
        return None
    own = {socket.gethostname()} if host in EVERYWHERE else {host}
    return frozenset(listed | LOCAL_NAMES | {name.lower() for name in own})


def is_allowed(header: str, names: frozenset[str]) -> bool:
    """Whether a request with this `Host` is accepted; browsers always send one."""
    found = _HOST.fullmatch(header.strip().lower())
    if found is None:
        return False
    if address := found["bracketed"] or found["bare"]:
        return _is_address(address)
    name = found["name"].rstrip(".")
    return not name or name in names or _is_address(name)


def is_same_site(origin: str, host: str, names: frozenset[str]) -> bool:
    """Whether the page that sent a request is of this service, or of a name that was listed.

    Browsers send `Origin` with every POST across sites, and `null` from a file or a sandbox.

    Args:
        origin: scheme, name and port of the page.
        host: the request's `Host`.
        names: of `allowed_hosts`; one of them is the page's site at its usual port only.
    """
    scheme, _, place = origin.strip().lower().partition("://")
    port = {"http": ":80", "https": ":443"}.get(scheme)
    if port is None or not place:
        return False
    if place.removesuffix(port) == host.strip().lower().removesuffix(port):
        return True
    name = place.removesuffix(port).rstrip(".")
    return name in names - LOCAL_NAMES and not _is_address(name)


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
