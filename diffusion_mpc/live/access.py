"""Access to the page: every request is looked at before viser answers it.

viser takes any request. A page that drives a robot must not: any site that is open in the same
browser could send one, and so could any machine that reaches the port.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http import HTTPStatus
from http.cookies import CookieError, SimpleCookie
from ipaddress import ip_address
from typing import Any
from urllib.parse import parse_qs, urlsplit

import websockets.asyncio.server
from websockets import Headers
from websockets.http11 import Request, Response

from diffusion_mpc.config import ConfigError

PING, PATIENCE = 1.0, 3.0
"""Time between two signs of life of a page, and longest wait for its answer, s."""


class Guard:
    """Decides who may open the page.

    Pages on this machine alone are open to its users. Others need the token: once in the address,
    from then on in a cookie.

    Attributes:
        token: the token; empty: none is needed
    """

    def __init__(self, host: str, token: str = "") -> None:
        """Look at the address that the page is served at.

        Raises:
            ConfigError: this machine has no such address
        """
        try:
            address = socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM)[0]
            with socket.socket(*address[:2]) as probe:
                probe.bind(address[4])
        except OSError as error:
            raise ConfigError(
                f"host: '{host}' is no address of this machine ({error.strerror or error}); set it "
                "to 127.0.0.1, or to 0.0.0.0 for all of them"
            ) from None
        self._local = ip_address(address[4][0]).is_loopback
        self.token = "" if self._local else token or secrets.token_urlsafe(16)
        # Pages at several ports of a machine get each other's cookies.
        self._cookie = f"page_{hashlib.sha256(self.token.encode()).hexdigest()[:8]}"

    def refuse(self, path: str, headers: Mapping[str, str]) -> Response | None:
        """Answer to a request that does not reach the page; None where it does.

        Args:
            path: path and query of the request
            headers: its headers
        """
        host = headers.get("Host", "")
        origin = headers.get("Origin")
        if origin is not None and urlsplit(origin).netloc != host:
            return _answer(HTTPStatus.FORBIDDEN, f"refused: asked for by the site {origin}")
        if self._local:
            # Another name that leads here is a trick to make a browser take a site for this page.
            return (
                None
                if _is_loopback(host)
                else _answer(
                    HTTPStatus.FORBIDDEN, f"refused: '{host}' is no name of this machine's own page"
                )
            )
        given = parse_qs(urlsplit(path).query).get("token", [""])[0]
        if self._fits(given) and headers.get("Upgrade") != "websocket":
            cookie = f"{self._cookie}={given}; HttpOnly; SameSite=Strict; Path=/"
            return _answer(HTTPStatus.SEE_OTHER, "", {"Location": "/", "Set-Cookie": cookie})
        if self._fits(given) or self._fits(_cookies(headers.get("Cookie", "")).get(self._cookie)):
            return None
        return _answer(
            HTTPStatus.UNAUTHORIZED,
            "This page needs its token: open the address that the log of the viewer node names.",
        )

    def _fits(self, given: str | None) -> bool:
        return hmac.compare_digest((given or "").encode(), self.token.encode())

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Stand before every server that viser starts within the block, which has no hook for it.

        Raises:
            RuntimeError: it started none that could be guarded
        """
        serve: Any = websockets.asyncio.server.serve
        guarded = 0

        def guarded_serve(
            handler: Any,  # noqa: ANN401
            host: str,
            port: int,
            *,
            process_request: Any,  # noqa: ANN401
            **options: Any,  # noqa: ANN401
        ) -> Any:  # noqa: ANN401
            nonlocal guarded
            guarded += 1

            def process(connection: Any, request: Request) -> Response | None:  # noqa: ANN401
                return self.refuse(request.path, request.headers) or process_request(
                    connection, request
                )

            # With pings, so that a page whose network is gone counts as gone soon: it may have been
            # driving the robot.
            return serve(
                handler,
                host,
                port,
                process_request=process,
                ping_interval=PING,
                ping_timeout=PATIENCE,
                **options,
            )

        websockets.asyncio.server.serve = guarded_serve  # type: ignore[assignment,misc]
        try:
            yield
        finally:
            websockets.asyncio.server.serve = serve  # type: ignore[misc]
        if not guarded:
            raise RuntimeError(
                "this version of viser cannot be guarded; install one of requirements/runtime.txt"
            )


def _is_loopback(host: str) -> bool:
    name = urlsplit(f"//{host}").hostname or ""
    try:
        return name == "localhost" or ip_address(name).is_loopback
    except ValueError:
        return False


def _cookies(text: str) -> dict[str, str]:
    try:
        return {name: morsel.value for name, morsel in SimpleCookie(text).items()}
    except CookieError:
        return {}


def _answer(status: HTTPStatus, text: str, headers: Mapping[str, str] | None = None) -> Response:
    body = text.encode()
    told = {
        "Content-Type": "text/plain; charset=utf-8",
        "Content-Length": str(len(body)),
        "Connection": "close",
        **(headers or {}),
    }
    return Response(status.value, status.phrase, Headers(**told), body)
