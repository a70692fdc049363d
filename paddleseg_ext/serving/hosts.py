"""Names that a request's `Host` may hold.

The name of a web page can be made to point at this machine (DNS rebinding). To the browser, page
and service are then one site, so that the page could use a service that listens on the loopback
address only. The browser sends the page's name in `Host`, where a list of names refuses it. An IP
address in `Host` cannot be such a name.
"""

import ipaddress
import socket
from collections.abc import Iterable

LOCAL_NAMES = frozenset(("localhost",))
EVERYWHERE = ("0.0.0.0", "::")


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
