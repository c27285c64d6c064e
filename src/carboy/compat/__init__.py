"""carboy's pool of connections below other HTTP libraries.

``carboy.install("requests", "httpx")`` puts it there for a whole program. The adapters and
transports in the modules ``requests``, ``httpx`` and ``httpx2`` of this package put it below one
session or client.
"""
