"""A session: what several calls have in common."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, Never, Self, Unpack

from carboy._carboy import (
    CallTemplate,
    HttpClient,
    PlainCalls,
    Promise,
    holds_promises,
    url_for_display,
)
from carboy.cancellation import outgoing_deadline
from carboy.http.authentication import (
    AuthTypes,
    has_netrc,
    native_authentication,
    netrc_authentication,
)
from carboy.http.connecting import proxies_of
from carboy.http.cookies import Cookies
from carboy.http.dependencies import begin_after
from carboy.http.headers import Headers, HeaderTypes
from carboy.http.hooks import call_hooks, hooks_for, hooks_of
from carboy.http.options import unknown_option
from carboy.http.request import (
    ContentTypes,
    DataTypes,
    ParamsTypes,
    Request,
    encode_body,
    joined_url,
    text_of_url,
    with_params,
)
from carboy.http.response import Response, StreamedResponse
from carboy.http.settings import Limits, Retries, Timeout, TimeoutTypes, check_count, timeout_of
from carboy.http.streamed_call import StreamedCall, calling_line
from carboy.http.timeline import are_all_noted, begin_call
from carboy.http.trust import trust_settings
from carboy.http.upload import Source

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import TracebackType

    from carboy._carboy import HttpAuthentication, ResponseData
    from carboy.http.hooks import HookTypes
    from carboy.http.multipart import FilesTypes
    from carboy.http.options import (
        CallOptions,
        CertTypes,
        Dependency,
        ProxyTypes,
        StreamOptions,
        VerifyTypes,
    )


class _Default:
    """Says that an argument was not given."""

    def __repr__(self) -> str:
        return "DEFAULT"


DEFAULT = _Default()


class Session(PlainCalls):
    """Calls with a base URL, headers, cookies, limits and connections in common.

    It may be made anywhere, once, and be used from every thread and event loop: each loop has
    connections of its own. It needs no closing; ``close`` lets go of connections earlier.

    Args:
        base_url: What relative URLs are appended to.
        headers: Sent with each call.
        params: Added to each URL.
        cookies: Sent with each call.
        auth: Name and password, or one of the ``…Auth`` classes.
        timeout: See ``Timeout``.
        retries: See ``Retries``; a number is that of further attempts.
        limits: See ``Limits``.
        allow_redirects: Whether redirects are followed.
        max_redirects: How many of them.
        verify: Whom to trust: ``True`` for the platform's authorities, a PEM file or a folder of
            them, an ``ssl.SSLContext``, ``False`` for everybody. Of a context, authorities,
            ``verify_mode``, ``check_hostname`` and the versions 1.2 and 1.3 are kept to; one
            that asks for more is refused by the first call with a ``ValueError``.
        cert: The client's own certificate: a PEM file, or a pair of certificate and key.
        proxy: A proxy's URL (``http``, ``https``, ``socks5``, ``socks5h``) or one by scheme.
        no_proxy: Hosts that need no proxy, separated by commas.
        trust_env: Whether proxies and ``.netrc`` are taken from the environment.
        http_versions: ``negotiated``, ``1.1`` or ``2``.
        uds: The path of a Unix socket that takes all calls.
        hooks: Functions, sync or async ones, that are called with each ``request`` before it is
            sent, and with each ``response``.
    """

    def __init__(
        self,
        *,
        base_url: str = "",
        headers: HeaderTypes | None = None,
        params: ParamsTypes | None = None,
        cookies: Mapping[str, str] | None = None,
        auth: AuthTypes | None = None,
        timeout: TimeoutTypes | _Default = DEFAULT,
        retries: Retries | int = 0,
        limits: Limits | None = None,
        allow_redirects: bool = True,
        max_redirects: int = 20,
        verify: VerifyTypes = True,
        cert: CertTypes | None = None,
        proxy: ProxyTypes | None = None,
        no_proxy: str = "",
        trust_env: bool = True,
        http_versions: str = "negotiated",
        uds: str | None = None,
        hooks: HookTypes | None = None,
    ) -> None:
        self.base_url = base_url if base_url == "" else text_of_url(base_url)
        self.headers = Headers(headers)
        self.params = params
        self.cookies = Cookies()
        self.cookies.update(cookies or {})
        self.auth = auth
        self.timeout = (
            Timeout() if isinstance(timeout, _Default) else timeout_of(timeout, Timeout())
        )
        self.retries = _retries(retries)
        self.limits = limits or Limits()
        self.allow_redirects = allow_redirects
        check_count("max_redirects", max_redirects, 0, 2**31 - 1)
        self.max_redirects = max_redirects
        self.verify = verify
        self.cert = cert
        self.trust_env = trust_env
        self.hooks = hooks_of(hooks)
        self._proxy = proxy
        self._no_proxy = no_proxy
        self._http_versions = http_versions
        self._uds = uds
        self._client: HttpClient | None = None
        self._closed = False
        #: Whether cookies are kept from one call to the next.
        self._keeps_cookies = True

    @classmethod
    def _without_cookies(cls) -> Self:
        """Return a session that keeps no cookies from one call to the next."""
        session = cls()
        session._keeps_cookies = False
        return session

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        self._note_change()

    @property
    def _native(self) -> HttpClient:
        # Made when first needed: reading certificates takes a while.
        if self._client is None:
            self._client = HttpClient(
                connections=self.limits.connections,
                connections_per_host=self.limits.connections_per_host,
                idle_timeout=self.limits.idle_timeout,
                content_bytes=self.limits.content_bytes,
                http_versions=self._http_versions,
                proxies=proxies_of(self._proxy, self._no_proxy, trust_env=self.trust_env),
                **trust_settings(self.verify, self.cert),
            )
            if self._closed:
                self._client.close()
        return self._client

    def request(
        self,
        method: str,
        url: Dependency[str],
        *,
        params: Dependency[ParamsTypes] | None = None,
        headers: Dependency[HeaderTypes] | Mapping[str, Dependency[str]] | None = None,
        cookies: Dependency[Mapping[str, str]] | Mapping[str, Dependency[str]] | None = None,
        content: Dependency[ContentTypes] | None = None,
        data: Dependency[DataTypes] | None = None,
        files: Dependency[FilesTypes] | None = None,
        json: Any = None,
        auth: AuthTypes | None = None,
        timeout: TimeoutTypes | _Default = DEFAULT,
        allow_redirects: bool | None = None,
        retries: Retries | int | None = None,
        stream: bool = False,
        **unknown: Never,
    ) -> Promise[Response]:
        """Begin a call, and return the promise of its response.

        A promise may stand for the URL, and for or within any of the arguments that say what is
        sent. Then the call begins when they are fulfilled.

        Args:
            method: The method.
            url: The URL, relative to ``base_url`` if there is one.
            params: Added to the URL's query.
            headers: Sent, instead of those of the session with the same names.
            cookies: Sent with this call only.
            content: What to send: bytes, text, a file, an iterable or an async iterable.
            data: A form's fields; or as ``content``.
            files: A form's files: by name, or pairs of names and files.
            json: Sent as JSON.
            auth: Who makes the call.
            timeout: See ``Timeout``; a number of seconds is for the whole call, ``None`` for no
                limit at all.
            allow_redirects: Whether redirects are followed.
            retries: When the call is made again.
            stream: Whether the content is read later, piece by piece; use the response in
                ``with`` or ``async with``.
            unknown: Options that there are not, to say where they belong.

        Raises:
            TypeError: If the arguments contradict each other, or there is no such option.
            ValueError: If something can't be sent.
        """
        if unknown:
            raise TypeError(unknown_option(next(iter(unknown))))
        arguments = {
            "url": url,
            "params": params,
            "headers": headers,
            "cookies": cookies,
            "content": content,
            "data": data,
            "files": files,
            "json": json,
        }
        begin = functools.partial(
            self._request,
            method,
            auth=auth,
            timeout=timeout,
            allow_redirects=allow_redirects,
            retries=retries,
            place=calling_line() if stream else None,
            is_streamed=stream,
        )
        if holds_promises(arguments):
            return begin_after(arguments, begin)
        return begin(**arguments)

    def _request(
        self,
        method: str,
        *,
        url: str,
        params: ParamsTypes | None,
        headers: HeaderTypes | None,
        cookies: Mapping[str, str] | None,
        content: ContentTypes | None,
        data: DataTypes | None,
        files: FilesTypes | None,
        json: Any,
        auth: AuthTypes | None,
        timeout: TimeoutTypes | _Default,
        allow_redirects: bool | None,
        retries: Retries | int | None,
        place: str | None,
        is_streamed: bool,
    ) -> Promise[Response]:
        """Begin a call, among whose arguments there is no promise."""
        method = method.upper()
        url = with_params(joined_url(self.base_url, text_of_url(url)), self.params)
        url = with_params(url, params)
        pairs = self.headers.multi_items()
        if headers is not None:
            own = Headers(headers)
            pairs = [pair for pair in pairs if pair[0] not in own] + own.multi_items()
        body = encode_body(pairs, content, data, files, json)
        if cookies or self.cookies.own:
            pairs.append(_cookie_header(self.cookies.own | dict(cookies or {})))
        pairs += outgoing_deadline()
        request = Request(method, url, pairs)
        request.source = body if isinstance(body, Source) else None
        request.call = begin_call(method, url)
        send = functools.partial(
            self._send,
            request,
            body,
            auth=auth,
            timeout=timeout,
            allow_redirects=allow_redirects,
            retries=retries,
            is_streamed=is_streamed,
        )
        if is_streamed:
            request.place = place
        # Without hooks there is no need for the headers as an object.
        if not self.hooks.get("request"):
            return send(pairs)
        waiting = call_hooks(hooks_for(self.hooks, "request"), request)
        if waiting is None:
            return send(request.headers.multi_items())
        return Promise(waiting).then(lambda _: send(request.headers.multi_items()))

    def _send(
        self,
        request: Request,
        body: bytes | Source | None,
        pairs: list[tuple[str, str]],
        *,
        auth: AuthTypes | None,
        timeout: TimeoutTypes | _Default,
        allow_redirects: bool | None,
        retries: Retries | int | None,
        is_streamed: bool,
    ) -> Promise[Response]:
        """Send a request that is ready."""
        redirects = None
        if self.allow_redirects if allow_redirects is None else allow_redirects:
            redirects = self.max_redirects
        limits = self.timeout
        if not isinstance(timeout, _Default):
            limits = timeout_of(timeout, self.timeout)
        again = self.retries if retries is None else _retries(retries)
        response_class: Callable[[Request, ResponseData], Response] = Response
        if is_streamed:
            response_class = StreamedResponse
        elif request.call is not None:
            response_class = _noted_response
        promise: Promise[Response] = self._native.send(
            request,
            response_class,
            request.method,
            request.url,
            pairs,
            body.native() if isinstance(body, Source) else body,
            limits.as_tuple(),
            redirects,
            self._authentication(auth, request.url, pairs),
            again.as_tuple() if again.attempts else None,
            self.cookies.jar if self._keeps_cookies else None,
            self._way(),
            is_plain=False,
            is_streamed=is_streamed,
            repeats_stale=again.stale_connections,
        )
        for hook in hooks_for(self.hooks, "response"):
            promise = promise.tap(hook)
        return promise

    def _way(self) -> str | None:
        return None if self._uds is None else f"unix:{self._uds}"

    def _begin(self, method: str, url: Dependency[str]) -> Promise[Response]:
        """Begin a call that has no options, and for which no template is ready."""
        made = None if isinstance(url, Promise) else self._make_template()
        if made is not None and (promise := made.begin(method, url)) is not None:
            return promise
        return self.request(method, url)

    def _make_template(self) -> CallTemplate | None:
        """Make ready what plain calls need, if that suffices for them."""
        client = self._native
        # What is changed from here on makes the template out of date.
        changes = self._count_changes()
        has_own = "authorization" in self.headers
        may_have_netrc = self.auth is None and self.trust_env and not has_own and has_netrc()
        is_unusual = self.hooks or self.params or "?" in self.base_url
        if is_unusual or may_have_netrc or are_all_noted():
            return None
        pairs = self.headers.multi_items()
        if self.cookies.own:
            pairs.append(_cookie_header(self.cookies.own))
        template = CallTemplate(
            client=client,
            base_url=self.base_url,
            headers=pairs,
            timeouts=self.timeout.as_tuple(),
            redirects=self.max_redirects if self.allow_redirects else None,
            authentication=None if self.auth is None else native_authentication(self.auth),
            retries=self.retries.as_tuple() if self.retries.attempts else None,
            repeats_stale=self.retries.stale_connections,
            cookies=self.cookies.jar if self._keeps_cookies else None,
            way=self._way(),
            request_class=Request,
            response_class=Response,
        )
        self._keep_template(template, changes)
        return template

    def _authentication(
        self, auth: AuthTypes | None, url: str, pairs: list[tuple[str, str]]
    ) -> HttpAuthentication | None:
        chosen = self.auth if auth is None else auth
        if chosen is not None:
            return native_authentication(chosen)
        has_own = "@" in url.partition("://")[2].partition("/")[0] or any(
            name.lower() == "authorization" for name, _ in pairs
        )
        return netrc_authentication(url) if self.trust_env and not has_own else None

    def options(self, url: Dependency[str], **options: Unpack[CallOptions]) -> Promise[Response]:
        """Begin an OPTIONS; see ``request``."""
        return self.request("OPTIONS", url, **options)

    def post(self, url: Dependency[str], **options: Unpack[CallOptions]) -> Promise[Response]:
        """Begin a POST; see ``request``."""
        return self.request("POST", url, **options)

    def put(self, url: Dependency[str], **options: Unpack[CallOptions]) -> Promise[Response]:
        """Begin a PUT; see ``request``."""
        return self.request("PUT", url, **options)

    def patch(self, url: Dependency[str], **options: Unpack[CallOptions]) -> Promise[Response]:
        """Begin a PATCH; see ``request``."""
        return self.request("PATCH", url, **options)

    def stream(
        self, method: str, url: Dependency[str], **options: Unpack[StreamOptions]
    ) -> StreamedCall:
        """Begin a call whose content is read piece by piece, for ``with`` or ``async with``."""
        return StreamedCall(self.request(method, url, stream=True, **options))

    def statistics(self) -> Promise[tuple[int, int, int]]:
        """Return the promise of three numbers: connections, idle ones, and calls that wait.

        They are those of the event loop that is used here.
        """
        return self._native.statistics()

    def close(self) -> None:
        """Close what is idle. Later calls fail."""
        self._closed = True
        if self._client is not None:
            self._client.close()

    def __repr__(self) -> str:
        parts = [f"base_url={url_for_display(self.base_url)!r}"] if self.base_url else []
        if len(self.headers):
            # Their values may be secrets: X-Api-Key and the like.
            parts.append(f"headers={list(self.headers)!r}")
        if self.auth is not None:
            is_pair = isinstance(self.auth, tuple)
            parts.append(f"auth={'([secret])' if is_pair else repr(self.auth)}")
        usual = (("timeout", Timeout()), ("retries", Retries(0)), ("limits", Limits()))
        parts += [
            f"{name}={getattr(self, name)!r}"
            for name, value in usual
            if getattr(self, name) != value
        ]
        if self._closed:
            parts.append("closed")
        return f"<Session {', '.join(parts)}>" if parts else "<Session>"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def _retries(value: Retries | int) -> Retries:
    return value if isinstance(value, Retries) else Retries(attempts=value)


def _cookie_header(cookies: Mapping[str, str]) -> tuple[str, str]:
    return ("Cookie", "; ".join(f"{name}={value}" for name, value in cookies.items()))


def _noted_response(request: Request, data: ResponseData) -> Response:
    response = Response(request, data)
    if request.call is not None:
        request.call.end(response=response)
    return response
