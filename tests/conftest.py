"""Signals do what they do from a terminal, also where the tests run in the background."""

from __future__ import annotations

import signal

# A shell has its background jobs ignore the first two, nohup the third; it is inherited.
for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP):
    if signal.getsignal(number) == signal.SIG_IGN:
        default = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
        signal.signal(number, default)
