"""Connections to checked addresses: between the check and the request, a name may change its address."""

import socket
from typing import Any

from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import ConnectTimeoutError

from tasks.transport.policy import Access, is_inside


def checked_pools(access: Access, refused: type[Exception]) -> dict[str, Any]:
    """Pools for urllib3 by scheme, whose connections resolve a name once, check its addresses, and use those.

    They raise `refused` for a private address if the source is public. Connections to a proxy are not affected.
    """
    own = {"access": access, "refused": refused}
    plain = type("Plain", (_Checked, HTTPConnection), own)
    secure = type("Secure", (_Checked, HTTPSConnection), own)
    return {
        "http": type("PlainPool", (HTTPConnectionPool,), {"ConnectionCls": plain}),
        "https": type("SecurePool", (HTTPSConnectionPool,), {"ConnectionCls": secure}),
    }


class _Checked:
    """Mixed into a connection of urllib3; the certificate is still checked against the name."""

    access: Access
    refused: type[Exception]

    def _new_conn(self: Any) -> socket.socket:
        host = self._dns_host
        failed = None
        addresses = addresses_of(host, self.port, self.access, self.refused)
        try:
            for address in addresses:
                self._dns_host = address
                try:
                    return super()._new_conn()  # pyright: ignore[reportAttributeAccessIssue]
                except ConnectTimeoutError as error:  # or refused: urllib3's is one of these
                    failed = error
        finally:
            self._dns_host = host
        if failed:
            raise failed
        return super()._new_conn()  # pyright: ignore[reportAttributeAccessIssue]  (it says that the name is unknown)


def addresses_of(host: str, port: int, access: Access, refused: type[Exception]) -> list[str]:
    """The addresses of a name, in the resolver's order; empty for an unknown name.

    Raises `refused` for a private address if the source is public.
    """
    addresses = _addresses(host, port)
    if not access.may_go_inside and any(map(is_inside, addresses)):
        raise refused(f"{host} is a private address, but the source is public")
    return addresses


def _addresses(host: str, port: int) -> list[str]:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return []
    return list(dict.fromkeys(str(one[4][0]) for one in found))
