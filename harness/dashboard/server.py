"""The site on an address of this machine alone, until it is interrupted."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from cllm.errors import CllmError

HOST = "127.0.0.1"


class Handler(SimpleHTTPRequestHandler):
    """Files of a folder, looked at anew each time; quiet."""

    def end_headers(self) -> None:
        """A dashboard that was built again is seen."""
        self.send_header("Cache-Control", "no-cache")
        super().end_headers()

    def log_message(self, format: str, *arguments: Any) -> None:
        """Nobody reads it."""


def serve(folder: Path, port: int, started: Callable[[str], None]) -> None:
    """Serve a dashboard; `started` is told its address. Port 0 is any that is free.

    Raises `CllmError` where there is no dashboard, or the port cannot be had.
    """
    if not (folder / "data" / "index.js").is_file():
        raise CllmError(f"there is no dashboard in {folder}; `cllm dashboard build` makes one")
    try:
        server = ThreadingHTTPServer((HOST, port), partial(Handler, directory=folder))
    except OSError as error:
        raise CllmError(f"port {port}: {error.strerror}; --port names another") from error
    with server:
        started(f"http://{HOST}:{server.server_port}/")
        server.serve_forever()
