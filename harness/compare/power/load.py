"""What else runs on a machine: it comes and goes, by a seed.

Promises: nothing is left running when the context ends.
"""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Mapping
from types import TracebackType
from typing import Self

import numpy as np

MEAN_SECONDS = 8.0
"""How long a state lasts, on average; exponentially distributed."""

BUSY = "while True: sum(range(100000))"
BURSTS = """
import time
while True:
    end = time.monotonic() + 0.05
    while time.monotonic() < end: sum(range(1000))
    time.sleep(0.1)
"""
STREAMS = """
import numpy as np
floats = np.ones(1 << 25, np.float32)
while True: floats.sum()
"""

STATES: Mapping[str, tuple[str, ...]] = {
    "quiet": (),
    "one busy process": (BUSY,),
    "two busy processes": (BUSY, BUSY),
    "bursts": (BURSTS, BURSTS),
    "memory reads": (STREAMS,),
}
"""What runs in each state; quiet comes as often as all others together."""


class Load:
    """A context in which a background load comes and goes."""

    def __init__(self, seed: int) -> None:
        self._generator = np.random.default_rng(seed)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.state = "quiet"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        names = list(STATES)[1:]
        while not self._ended.is_set():
            quiet = self._generator.random() < 0.5
            self.state = "quiet" if quiet else str(self._generator.choice(names))
            command = [sys.executable, "-c"]
            running = [subprocess.Popen([*command, code]) for code in STATES[self.state]]
            self._ended.wait(self._generator.exponential(MEAN_SECONDS))
            for process in running:
                process.kill()
                process.wait()
