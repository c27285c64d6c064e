"""A server that speaks HTTP/2 by TLS and can hold its answers back."""

from __future__ import annotations

import ssl
import threading
from typing import TYPE_CHECKING

import h2.config
import h2.connection
import h2.events

from support.raw_upstream import Peer, RawUpstream

if TYPE_CHECKING:
    import trustme


class Http2Upstream(RawUpstream):
    """Answers each request with its path, in the order of their coming.

    Attributes:
        held: Requests to ``/held`` are answered when it is set.
        reset_streams: How many streams clients have given up.
        most_at_once: The most requests of one connection that were open at the same time.
    """

    def __init__(self, certificate: trustme.LeafCert) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        certificate.configure_cert(context)
        context.set_alpn_protocols(["h2", "http/1.1"])
        super().__init__(self.serve_http2, context)
        self.held = threading.Event()
        self.reset_streams = 0
        self.most_at_once = 0

    def serve_http2(self, peer: Peer) -> None:
        """Serve one connection until the client closes it."""
        assert isinstance(peer.socket, ssl.SSLSocket)
        assert peer.socket.selected_alpn_protocol() == "h2"
        config = h2.config.H2Configuration(client_side=False, header_encoding="utf-8")
        connection = h2.connection.H2Connection(config)
        connection.initiate_connection()
        peer.send(connection.data_to_send())
        peer.socket.settimeout(0.02)
        open_paths: dict[int, str] = {}
        while True:
            try:
                data = peer.socket.recv(65536)
            except TimeoutError:
                data = None
            if data == b"":
                peer.has_ended.set()
                return
            for event in connection.receive_data(data) if data else ():
                if isinstance(event, h2.events.RequestReceived):
                    assert event.stream_id is not None
                    open_paths[event.stream_id] = dict(event.headers or ())[":path"]
                elif isinstance(event, h2.events.StreamReset):
                    self.reset_streams += 1
                    open_paths.pop(event.stream_id, None)
            self.most_at_once = max(self.most_at_once, len(open_paths))
            for stream, path in list(open_paths.items()):
                if path != "/held" or self.held.is_set():
                    del open_paths[stream]
                    connection.send_headers(stream, [(":status", "200")])
                    connection.send_data(stream, path.encode(), end_stream=True)
            peer.send(connection.data_to_send())
