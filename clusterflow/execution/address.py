"""The address at which nodes of a cluster reach the driver."""

from __future__ import annotations

import ipaddress
import socket

import psutil

from clusterflow.errors import ConfigError


def driver_address(setting: str) -> str:
    """The IP address for a machine file's ``address``: itself, that of the interface it names, or for ``auto`` the one
    that this host's name stands for, else that of its only interface that is up.

    Raises
    ------
    ConfigError
        There is no such interface or address here, or ``auto`` cannot tell which.
    """
    own = _own_addresses()
    if setting in own:
        return own[setting][0]
    everything = [a for addresses in own.values() for a in addresses]
    if setting != "auto":
        if setting in everything:
            return setting
        raise _unclear(f"This computer has no address or interface '{setting}'.", own)
    outside = [a for a in everything if not ipaddress.ip_address(a).is_loopback]
    try:
        named = {str(info[4][0]) for info in socket.getaddrinfo(socket.gethostname(), None, socket.AF_INET)}
    except OSError:
        named = set()
    candidates = [a for a in outside if a in named] or outside
    if len(candidates) != 1:
        count = "no address but loopback" if not candidates else f"{len(candidates)} addresses"
        raise _unclear(f"This computer has {count}, so which one the nodes can reach must be said.", own)
    return candidates[0]


def _own_addresses() -> dict[str, list[str]]:
    """IPv4 addresses of each interface."""
    found = {
        name: [a.address for a in addresses if a.family == socket.AF_INET]
        for name, addresses in psutil.net_if_addrs().items()
    }
    return {name: addresses for name, addresses in found.items() if addresses}


def _unclear(what: str, own: dict[str, list[str]]) -> ConfigError:
    shown = ", ".join(f"{name} {addresses[0]}" for name, addresses in sorted(own.items()))
    return ConfigError(
        what,
        where="machine file, address",
        todo=f"Write `address:` with one of these interfaces or addresses: {shown}.",
    )
