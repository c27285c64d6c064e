# The native half of carboy, built from crates/carboy-python. `make check` compares the two.

from collections.abc import Awaitable, Callable, Iterable, Iterator
from typing import (
    Any,
    Self,
    TypeVar,
    Unpack,
    final,
)

from _typeshed import OptExcInfo, WriteableBuffer
from _typeshed.wsgi import WSGIApplication, WSGIEnvironment
from typing_extensions import disjoint_base

from carboy._carboy_event_loop import (
    DatagramTransport,
    Handle,
    NativeEventLoop,
    StreamTransport,
    TimerHandle,
    TlsProtocol,
    TlsTransport,
)
from carboy._carboy_promises import (
    Promise,
    PromiseAwaiter,
    PromiseResolver,
    PromiseScope,
    call_on_own_stack,
    detached_promises,
    find_request_scope,
    holds_promises,
    keep_causes,
)
from carboy.http.options import CallOptions, Dependency
from carboy.http.response import Response

__all__ = [
    "AppContextBase",
    "BlockingCall",
    "CallTemplate",
    "ContentStream",
    "CookieJar",
    "DatagramTransport",
    "EventStream",
    "Exchange",
    "Handle",
    "HttpAuthentication",
    "HttpClient",
    "InProcessDispatcher",
    "InputStream",
    "NativeEventLoop",
    "NativeServer",
    "OriginalParts",
    "PlainCalls",
    "PlainResponse",
    "Promise",
    "PromiseAwaiter",
    "PromiseResolver",
    "PromiseScope",
    "RequestContextBase",
    "ResponseData",
    "Slot",
    "StartResponse",
    "StreamTransport",
    "TimerHandle",
    "TlsProtocol",
    "TlsTransport",
    "Transport",
    "Upload",
    "UploadSource",
    "WorkerPool",
    "add_home_loop",
    "await_on_loop",
    "awaits",
    "call_on_own_stack",
    "detached_promises",
    "find_request_scope",
    "forget_blocking_thread",
    "holds_promises",
    "keep_causes",
    "names_a_proxy",
    "note_end_of_process",
    "raise_descriptor_limit",
    "remove_home_loop",
    "url_for_display",
]

_T = TypeVar("_T")

# HTTP client

@final
class HttpClient:
    def __new__(
        cls,
        *,
        connections: int,
        connections_per_host: int,
        idle_timeout: float,
        content_bytes: int,
        http_versions: str,
        trust: str | None = None,
        authorities: bytes | None = None,
        identity: tuple[bytes, bytes] | None = None,
        proxies: tuple[str | None, str | None, str] | None = None,
        idle_connections: int | None = None,
        tls_versions: str | None = None,
    ) -> Self: ...
    def send(
        self,
        request: object,
        response_class: Callable[[Any, ResponseData], _T],
        method: str,
        url: str,
        headers: list[tuple[str, str]],
        body: bytes | Upload | UploadSource | None,
        timeouts: tuple[float | None, float | None, float | None, float | None, float | None]
        | None,
        redirects: int | None,
        authentication: HttpAuthentication | None,
        retries: tuple[int, list[int], float, float, bool] | None,
        cookies: CookieJar | None,
        way: str | None,
        is_plain: bool,
        is_streamed: bool,
        repeats_stale: bool = True,
    ) -> Promise[_T]: ...
    def statistics(self) -> Promise[tuple[int, int, int]]: ...
    def close(self) -> None: ...

@final
class CallTemplate:
    def __new__(
        cls,
        *,
        client: HttpClient,
        base_url: str,
        headers: list[tuple[str, str]],
        timeouts: tuple[float | None, float | None, float | None, float | None, float | None],
        redirects: int | None,
        authentication: HttpAuthentication | None,
        retries: tuple[int, list[int], float, float, bool] | None,
        repeats_stale: bool,
        cookies: CookieJar | None,
        way: str | None,
        request_class: Callable[[str, str, list[tuple[str, str]]], Any],
        response_class: Callable[[Any, ResponseData], Any],
    ) -> Self: ...
    def begin(self, method: str, url: object) -> Promise[Any] | None: ...

@disjoint_base
class PlainCalls:
    def __new__(cls, *_arguments: Any, **_options: Any) -> Self: ...
    def __getnewargs__(self) -> tuple[()]: ...
    def get(self, url: Dependency[str], **options: Unpack[CallOptions]) -> Promise[Response]: ...
    def head(self, url: Dependency[str], **options: Unpack[CallOptions]) -> Promise[Response]: ...
    def delete(self, url: Dependency[str], **options: Unpack[CallOptions]) -> Promise[Response]: ...
    def _note_change(self) -> None: ...
    def _count_changes(self) -> tuple[int, int, int]: ...
    def _keep_template(self, template: CallTemplate, changes: tuple[int, int, int]) -> None: ...

@final
class ResponseData:
    @property
    def status(self) -> int: ...
    @property
    def reason(self) -> str: ...
    @property
    def url(self) -> str: ...
    @property
    def http_version(self) -> str: ...
    @property
    def stream(self) -> ContentStream | None: ...
    def headers(self) -> list[tuple[str, str]]: ...
    def content(self) -> bytes | None: ...
    def json(self) -> tuple[Any, int] | None: ...
    def request(self) -> Any: ...
    def following_request(self) -> tuple[str, str, list[tuple[str, str]]] | None: ...
    def history(self) -> list[ResponseData]: ...
    def timings(self) -> dict[str, float | None]: ...

@final
class ContentStream:
    @property
    def limit_bytes(self) -> int: ...
    def next(self) -> Promise[bytes | None]: ...
    def close(self) -> None: ...

@final
class OriginalParts:
    def __new__(cls, parts: list[tuple[Any, str, Any]]) -> Self: ...
    def are_in_place(self) -> bool: ...

def names_a_proxy(environment: dict[bytes, bytes]) -> bool: ...
def forget_blocking_thread() -> None: ...
def note_end_of_process() -> None: ...
def url_for_display(url: str) -> str: ...

@final
class PlainResponse:
    @property
    def status(self) -> int: ...
    @property
    def reason(self) -> bytes: ...
    @property
    def version(self) -> int: ...
    @property
    def ready_size(self) -> int: ...
    @property
    def is_complete(self) -> bool: ...
    def take_ready(self) -> bytes: ...
    def timings(self) -> dict[str, float | None]: ...
    def pairs(self) -> list[tuple[bytes, bytes]]: ...
    def triples(self) -> list[tuple[bytes, bytes, bytes]]: ...
    def lists_by_name(self) -> dict[str, list[str]]: ...
    def read(self) -> bytes | None: ...
    def read_all(self) -> tuple[bytes, BaseException | None]: ...
    def next(self) -> Promise[bytes | None] | None: ...
    def everything_soon(self) -> Promise[Any] | None: ...
    def whole(self, everything: Any) -> tuple[bytes, BaseException | None]: ...
    def close(self) -> None: ...

@final
class Transport:
    def __new__(cls, client: HttpClient) -> Self: ...
    def send(
        self,
        method: str,
        origin: str,
        target: str | bytes,
        headers: Iterable[tuple[str | bytes, str | bytes]],
        body: bytes | Upload | None,
        timeouts: tuple[float | None, float | None, float | None, float | None],
        way: str,
    ) -> PlainResponse: ...
    def send_soon(
        self,
        method: str,
        origin: str,
        target: str | bytes,
        headers: Iterable[tuple[str | bytes, str | bytes]],
        body: bytes | Upload | None,
        timeouts: tuple[float | None, float | None, float | None, float | None],
        way: str,
    ) -> Promise[PlainResponse]: ...
    def begin(
        self,
        method: str,
        origin: str,
        target: str | bytes,
        headers: Iterable[tuple[str | bytes, str | bytes]],
        body: bytes | Upload | None,
        timeouts: tuple[float | None, float | None, float | None, float | None],
        way: str,
    ) -> BlockingCall: ...
    def close(self) -> None: ...

@final
class BlockingCall:
    def wait(self) -> PlainResponse: ...
    def cancel(self) -> None: ...

@final
class Upload:
    def __new__(cls, length: int | None = None) -> Self: ...
    def send(self, piece: bytes) -> bool: ...
    def finish(self) -> bool: ...
    def fail(self, reason: str) -> bool: ...
    def send_soon(self, piece: bytes) -> Promise[bool]: ...
    def finish_soon(self) -> Promise[bool]: ...
    def fail_soon(self, reason: str) -> Promise[bool]: ...

@final
class UploadSource:
    def __new__(
        cls,
        length: int | None,
        begin: Callable[[Upload], Callable[[], object] | None],
        is_repeatable: bool,
    ) -> Self: ...

@final
class HttpAuthentication:
    @staticmethod
    def basic(user: bytes, password: bytes) -> HttpAuthentication: ...
    @staticmethod
    def bearer(token: str) -> HttpAuthentication: ...
    @staticmethod
    def digest(user: str, password: str) -> HttpAuthentication: ...

@final
class CookieJar:
    def __new__(cls) -> Self: ...
    def set(self, name: str, value: str, url: str) -> None: ...
    def remove(self, name: str) -> int: ...
    def clear(self) -> None: ...
    def cookies(self) -> list[tuple[str, str, str, str]]: ...

@final
class EventStream:
    def __new__(cls, limit_bytes: int, request: Any) -> Self: ...
    def feed(self, piece: bytes) -> list[tuple[str, str, str, int | None]]: ...

# Server

@final
class NativeServer:
    def __new__(
        cls, application: WSGIApplication, event_loop: NativeEventLoop, workers: WorkerPool
    ) -> Self: ...
    def configure(
        self,
        *,
        request_line_bytes: int | None = None,
        header_bytes: int | None = None,
        header_count: int | None = None,
        body_bytes: int | None = None,
        header_read_timeout: float | None = None,
        keep_alive_timeout: float | None = None,
        body_read_timeout: float | None = None,
        write_timeout: float | None = None,
        drain_timeout: float | None = None,
        drain_linger: float | None = None,
        connection_limit: int | None = None,
        request_limit: int | None = None,
        access_log: bool = False,
    ) -> None: ...
    def bind_tcp(self, host: str, port: int, backlog: int) -> None: ...
    def bind_unix(self, path: str, backlog: int) -> None: ...
    def addresses(self) -> list[tuple[str, int | None]]: ...
    def start(self, ended: Callable[[int | Exception], object]) -> None: ...
    def begin_shutdown(self) -> None: ...
    def force_shutdown(self) -> None: ...
    def statistics(self) -> dict[str, int]: ...
    @property
    def requests_on_loop(self) -> int: ...
    def eligibility(self) -> list[tuple[str, int]]: ...

def raise_descriptor_limit() -> int: ...

# Flask

@disjoint_base
class AppContextBase:
    def __new__(cls, *args: object, **kwargs: object) -> Self: ...
    app: Any
    g: Any
    url_adapter: Any
    _cv_tokens: Any

@disjoint_base
class RequestContextBase:
    def __new__(cls, *args: object, **kwargs: object) -> Self: ...
    app: Any
    request: Any
    url_adapter: Any
    flashes: Any
    _session: Any
    _after_request_functions: Any
    _cv_tokens: Any

@final
class Exchange:
    def begin(self) -> Awaitable[Any]: ...
    def finish(self, value: object) -> Promise[Any] | None: ...
    def fail(self, error: BaseException) -> None: ...

@final
class InProcessDispatcher:
    def __new__(cls, application: WSGIApplication) -> Self: ...
    def dispatch(
        self, event_loop: NativeEventLoop, environ: WSGIEnvironment
    ) -> tuple[bool, Any, tuple[str, Any]] | None: ...
    def eligibility(self) -> list[tuple[str, int]]: ...

# Workers

@final
class Slot:
    def resolve(self, event_loop: NativeEventLoop, result: object) -> None: ...
    def reject(self, event_loop: NativeEventLoop, error: BaseException) -> None: ...

@final
class WorkerPool:
    def __new__(cls, event_loop: NativeEventLoop, limit: int, shares_threads: bool) -> Self: ...
    def wait_idle(self, timeout: float) -> bool: ...
    def supervise(self) -> None: ...
    def work(self, id: int) -> None: ...  # noqa: A002 - The name of the native parameter.
    def stop(self) -> None: ...
    @property
    def live_workers(self) -> int: ...
    @property
    def queued_jobs(self) -> int: ...

def add_home_loop(event_loop: NativeEventLoop) -> None: ...
def await_on_loop(awaitable: Awaitable[_T]) -> _T: ...
def awaits() -> int: ...
def remove_home_loop(event_loop: NativeEventLoop) -> None: ...

# WSGI

@final
class InputStream:
    def read(self, size: int | None = None, /) -> bytes: ...
    def readline(self, size: int | None = None, /) -> bytes: ...
    def readlines(self, hint: int | None = None, /) -> list[bytes]: ...
    def readinto(self, buffer: WriteableBuffer) -> int: ...
    def close(self) -> None: ...
    def __iter__(self) -> Iterator[bytes]: ...
    def __next__(self) -> bytes: ...

@final
class StartResponse:
    def __call__(
        self,
        status: str,
        headers: list[tuple[str, str]],
        exc_info: OptExcInfo | None = None,
        /,
    ) -> Callable[[bytes], object]: ...
    def write(self, data: bytes) -> None: ...
