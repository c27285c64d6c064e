"""What of the native module is about the event loop; its types are in a stub of their own."""

from carboy._carboy import (
    DatagramTransport,
    Handle,
    NativeEventLoop,
    StreamTransport,
    TimerHandle,
    TlsProtocol,
    TlsTransport,
)

__all__ = [
    "DatagramTransport",
    "Handle",
    "NativeEventLoop",
    "StreamTransport",
    "TimerHandle",
    "TlsProtocol",
    "TlsTransport",
]
