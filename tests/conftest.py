"""What all tests need of the process that they run in."""

from __future__ import annotations

import signal

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell starts background jobs that way, and every process of the tests inherits it.
    # Then no program could be interrupted as a user does it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
