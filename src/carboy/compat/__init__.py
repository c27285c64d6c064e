"""carboy's pool of connections below other HTTP libraries.

``carboy.install("requests", "httpx")`` puts it there for a whole program. The adapters and
transports in the modules ``requests``, ``httpx`` and ``httpx2`` of this package put it below one
session or client.
"""

import os

from carboy._carboy import forget_blocking_thread

# Of a thread, a fork leaves nothing: the next blocking call starts another.
os.register_at_fork(after_in_child=forget_blocking_thread)
