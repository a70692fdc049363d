"""Which `Host` a request may name.

A web page whose name is made to point at this machine (DNS rebinding) could otherwise use a service
that listens on the loopback address only: to the browser, page and service are one site. The
browser then sends the page's name, so that a list of names keeps it out; an IP address in `Host`
cannot be such a page's.
"""

import ipaddress
import socket
from collections.abc import Iterable

LOCAL_NAMES = frozenset(("localhost",))
EVERYWHERE = ("0.0.0.0", "::")


def allowed_hosts(host: str, named: Iterable[str], has_key: bool) -> frozenset[str] | None:
    """Names that are answered beside IP addresses; None: any.

    Args:
        host: address or name that is listened on.
        named: by `--allowed_host`.
        has_key: such a page does not know the key, so that any name will do where none is listed.
    """
    listed = {name.lower().rstrip(".") for name in named}
    if has_key and not listed:
        return None
    own = {socket.gethostname()} if host in EVERYWHERE else {host}
    return frozenset(listed | LOCAL_NAMES | {name.lower() for name in own})


def is_allowed(header: str, names: frozenset[str]) -> bool:
    """Whether a request with this `Host` is answered; one without a host comes from no browser."""
    name = header.strip().lower()
    if name.startswith("["):
        name = name[1:].partition("]")[0]
    elif name.count(":") == 1:
        name = name.partition(":")[0]
    name = name.rstrip(".")
    return not name or name in names or _is_address(name)


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
