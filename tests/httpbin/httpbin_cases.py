"""The requests that are sent to httpbin under both servers.

Each case is written as it goes over the wire. The `Host` header is a made-up
name, so that URLs in the answers do not depend on the server's port.
"""

from __future__ import annotations

from base64 import b64encode
from dataclasses import dataclass

HOST = "httpbin.test"


@dataclass(frozen=True)
class Volatile:
    """A part of the answer that differs from run to run, and why."""

    pattern: str
    reason: str


@dataclass(frozen=True)
class Digest:
    """The credentials to answer a digest challenge with."""

    user: str
    password: str


@dataclass(frozen=True)
class Defect:
    """A header that gunicorn gets wrong, and how; it is not compared."""

    header: str
    reason: str


@dataclass(frozen=True)
class Case:
    """One request.

    A tuple as body is sent chunked, one chunk for each element. `seconds` is
    how long the server has to take at least, and `streamed` asks that the
    body's first byte comes well before its last.
    """

    name: str
    target: str
    method: str = "GET"
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes | tuple[bytes, ...] | None = None
    version: str = "HTTP/1.1"
    trailers: bytes = b""
    volatile: tuple[Volatile, ...] = ()
    defect: Defect | None = None
    digest: Digest | None = None
    seconds: float = 0.0
    streamed: bool = False


def basic(user: str, password: str) -> tuple[tuple[str, str], ...]:
    """Return the header of basic authentication."""
    return (("Authorization", "Basic " + b64encode(f"{user}:{password}".encode()).decode()),)


def content_type(value: str) -> tuple[tuple[str, str], ...]:
    """Return the header that says what the body is."""
    return (("Content-Type", value),)


FORM = content_type("application/x-www-form-urlencoded")
JSON = content_type("application/json")
TEXT = content_type("text/plain")
MULTIPART = content_type("multipart/form-data; boundary=limit")
MULTIPART_BODY = (
    b'--limit\r\nContent-Disposition: form-data; name="field"\r\n\r\nvalue\r\n'
    b'--limit\r\nContent-Disposition: form-data; name="file"; filename="a.txt"\r\n'
    b"Content-Type: text/plain\r\n\r\ntext of the file\r\n"
    b'--limit\r\nContent-Disposition: form-data; name="binary"; filename="b.bin"\r\n'
    b"Content-Type: application/octet-stream\r\n\r\n\x00\xff\x80\r\n--limit--\r\n"
)
NONCE = Volatile(r'(nonce|opaque)="?[0-9a-f]+"?', "Each digest challenge has new random numbers.")
ETAG = Volatile(r"\b[0-9a-f]{32}\b", "The entity tag of /cache is a random UUID.")
MODIFIED = Volatile(r"\w{3}, \d\d \w{3} \d{4} [\d:]{8} GMT", "/cache was modified right now.")
UUID = Volatile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "/uuid is random.")
GZIP_TIME = Volatile("(?s)(?<=^\x1f\x8b\x08\x00)....", "A gzip header holds the time.")
CHALLENGE = Defect(
    "proxy-authenticate", "gunicorn takes it for a header of the connection and drops it."
)
MEGABYTE = b"0123456789abcdef" * 65536
ALL_METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "TRACE", "OPTIONS", "HEAD")

METHODS = (
    Case("get", "/get"),
    Case("get with a query", "/get?a=1&a=2&b=&c=%C3%A9&d=x+y&%20=z"),
    Case("get with an empty query", "/get?"),
    Case("get with a broken escape", "/get?a=%zz"),
    Case("get in absolute form", f"http://{HOST}/get?absolute=1"),
    Case("head", "/get", "HEAD"),
    Case("options", "/get", "OPTIONS"),
    Case("wrong method", "/get", "POST"),
    Case("unknown method", "/get", "BREW"),
    Case("post without a body", "/post", "POST"),
    Case("post of length zero", "/post", "POST", body=b""),
    Case("post form", "/post", "POST", FORM, b"a=1&b=2&a=3&c=%C3%A9"),
    Case("post json", "/post", "POST", JSON, b'{"a": [1, 2.5, null, "\xc3\xa9"]}'),
    Case("post text", "/post", "POST", TEXT, "caffè".encode()),
    Case("post bytes", "/post", "POST", (), bytes(range(256))),
    Case("post multipart", "/post", "POST", MULTIPART, MULTIPART_BODY),
    Case("post a megabyte", "/post", "POST", TEXT, MEGABYTE),
    Case("put", "/put", "PUT", JSON, b'{"put": true}'),
    Case("patch", "/patch", "PATCH", TEXT, b"patch"),
    Case("delete", "/delete", "DELETE"),
    Case("delete with a body", "/delete", "DELETE", TEXT, b"delete"),
    *(Case(f"anything, {method}", "/anything", method) for method in ALL_METHODS),
    Case("anything below", "/anything/a/b%20c/%C3%A9?x=1", "PUT", FORM, b"k=v"),
    Case("anything with an escaped slash", "/anything/a%2Fb"),
    Case("anything with dots", "/anything/./a/../b"),
    Case("anything with a double slash", "/anything//a"),
    Case("anything with characters that no URI has", '/anything/<a>`b`?"c"=<d>&e=`f`'),
    Case("a path of characters that no URI has, which nobody serves", "/<nowhere>`"),
    Case("a redirect to a query with quotes", '/redirect-to?url=/get?"a"'),
    Case("get over HTTP/1.0", "/get", version="HTTP/1.0"),
)

TRANSFER = (
    Case("chunked upload", "/post", "POST", TEXT, (b"one ", b"two ", b"three")),
    Case("chunked form", "/post", "POST", FORM, (b"a=1&", b"b=2")),
    Case("chunked multipart", "/post", "POST", MULTIPART, (MULTIPART_BODY,)),
    Case("chunked upload of nothing", "/anything", "POST", TEXT, ()),
    Case("chunked megabyte", "/put", "PUT", TEXT, (MEGABYTE[:16384],) * 64),
    Case(
        "chunked upload with a trailer",
        "/anything",
        "PUT",
        TEXT,
        (b"body",),
        trailers=b"X-Trailer: not a header\r\n",
    ),
    Case("expect continue", "/post", "POST", (*TEXT, ("Expect", "100-continue")), b"waited"),
    Case(
        "expect continue, chunked",
        "/put",
        "PUT",
        (*TEXT, ("Expect", "100-continue")),
        (b"wai", b"ted"),
    ),
)

# The application answers without having read the body, so the server has to
# deal with the rest of it before the next request on the same connection.
UNREAD_BODIES = (
    Case("unread body", "/status/404", "POST", TEXT, b"unread"),
    Case("unread megabyte", "/status/404", "POST", TEXT, MEGABYTE),
    Case("unread chunks", "/status/404", "POST", TEXT, (b"un", b"re", b"ad")),
    Case("unread chunked megabyte", "/status/404", "POST", TEXT, (MEGABYTE[:16384],) * 64),
    Case("unread body of a missing page", "/no/such/page", "PUT", TEXT, MEGABYTE),
)

AUTHENTICATION = (
    Case("basic", "/basic-auth/user/secret", headers=basic("user", "secret")),
    Case("basic, wrong password", "/basic-auth/user/secret", headers=basic("user", "wrong")),
    Case("basic, no credentials", "/basic-auth/user/secret"),
    Case("basic, not base64", "/basic-auth/u/s", headers=(("Authorization", "Basic !!"),)),
    Case("hidden basic", "/hidden-basic-auth/user/secret", headers=basic("user", "secret")),
    Case("hidden basic, no credentials", "/hidden-basic-auth/user/secret"),
    Case("bearer", "/bearer", headers=(("Authorization", "Bearer token"),)),
    Case("bearer, no token", "/bearer"),
    Case("digest challenge", "/digest-auth/auth/user/secret", volatile=(NONCE,)),
    *(
        Case(
            f"digest {quality} {algorithm}",
            f"/digest-auth/{quality}/user/secret/{algorithm}",
            digest=Digest("user", "secret"),
        )
        for quality in ("auth", "auth-int")
        for algorithm in ("MD5", "SHA-256", "SHA-512")
    ),
    Case(
        "digest, wrong password",
        "/digest-auth/auth/user/secret/MD5",
        digest=Digest("user", "wrong"),
        volatile=(NONCE, Volatile(r"last_nonce=\w+", "The cookie repeats the random nonce.")),
    ),
)

STATUS_CODES = (
    *(
        Case(f"status {code}", f"/status/{code}")
        for code in (
            *(200, 201, 202, 203, 204, 205, 206, 300, 301, 302, 303, 304, 305, 307, 308),
            *(400, 401, 402, 403, 404, 405, 406, 409, 410, 418, 422, 429, 451),
            *(500, 501, 502, 503, 504, 511, 599),
        )
    ),
    Case("status 407", "/status/407", defect=CHALLENGE),
    Case("status 204 of a post", "/status/204", "POST"),
    Case("status 204 of a delete", "/status/204", "DELETE"),
    *(Case(f"status {code} of a head", f"/status/{code}", "HEAD") for code in (204, 304, 418)),
    Case("status by weight", "/status/418:1,200:0"),
    Case("status that is no number", "/status/200,x"),
)

INSPECTION = (
    Case("headers", "/headers", headers=(("X-One", "1"), ("Accept", "*/*"), ("User-Agent", "me"))),
    Case("headers, repeated", "/headers", headers=(("X-Two", "a"), ("X-Two", "b"))),
    Case("headers, empty", "/headers", headers=(("X-Empty", ""),)),
    Case("headers, Latin-1", "/headers", headers=(("X-Name", "caf\xe9"),)),
    Case("headers, padded", "/headers", headers=(("X-Padded", "   in the middle \t "),)),
    Case("headers, odd case", "/headers", headers=(("x-LOWER-Upper", "1"),)),
    Case("headers with a long value", "/headers", headers=(("X-Long", "v" * 4000),)),
    Case("ip", "/ip"),
    Case("ip, forwarded", "/ip", headers=(("X-Forwarded-For", "192.0.2.7"),)),
    Case("user agent", "/user-agent", headers=(("User-Agent", "carboy's test"),)),
    Case("response headers", "/response-headers?X-A=1&X-A=2&Content-Language=it"),
    Case("response headers, post", "/response-headers?X-B=b", "POST"),
    Case("cache", "/cache", volatile=(ETAG, MODIFIED)),
    Case("cache, not modified", "/cache", headers=(("If-None-Match", '"x"'),)),
    Case("cache for a minute", "/cache/60"),
    Case("entity tag", "/etag/tag"),
    Case("entity tag matches", "/etag/tag", headers=(("If-None-Match", '"other", "tag"'),)),
    Case("entity tag is required", "/etag/tag", headers=(("If-Match", '"other"'),)),
)

FORMATS = (
    Case("utf-8", "/encoding/utf8"),
    Case("gzip", "/gzip", headers=(("Accept-Encoding", "gzip"),), volatile=(GZIP_TIME,)),
    Case("deflate", "/deflate", headers=(("Accept-Encoding", "deflate"),)),
    Case("brotli", "/brotli", headers=(("Accept-Encoding", "br"),)),
    Case("robots", "/robots.txt"),
    Case("deny", "/deny"),
    Case("html", "/html"),
    Case("html, head", "/html", "HEAD"),
    Case("xml", "/xml"),
    Case("json", "/json"),
    Case("form", "/forms/post"),
    Case("landing page", "/"),
    Case("not found", "/no/such/page"),
    Case("static file", "/static/favicon.ico"),
    Case("static file, in part", "/static/favicon.ico", headers=(("Range", "bytes=0-9"),)),
    *(Case(f"image {kind}", f"/image/{kind}") for kind in ("png", "jpeg", "webp", "svg")),
    Case("image by Accept", "/image", headers=(("Accept", "image/webp"),)),
    Case("image not acceptable", "/image", headers=(("Accept", "text/plain"),)),
    Case("image, head", "/image/png", "HEAD"),
)

DYNAMIC = (
    Case("bytes", "/bytes/1000?seed=7"),
    Case("bytes, none", "/bytes/0"),
    Case("stream of bytes", "/stream-bytes/5000?seed=7&chunk_size=999"),
    Case("stream of bytes, HTTP/1.0", "/stream-bytes/5000?seed=7", version="HTTP/1.0"),
    Case("stream of twenty lines", "/stream/20"),
    Case("stream, HTTP/1.0", "/stream/3", version="HTTP/1.0"),
    Case("stream, head", "/stream/3", "HEAD"),
    Case("range, whole", "/range/100"),
    Case("range, head", "/range/100", "HEAD"),
    *(
        Case(f"range {value}", "/range/100?chunk_size=7", headers=(("Range", f"bytes={value}"),))
        for value in ("0-9", "10-", "-10", "0-99", "90-200", "200-300")
    ),
    Case("range, too long", "/range/1000000"),
    Case("links", "/links/5/2"),
    Case("links, redirected", "/links/5"),
    Case("base64", "/base64/Y2FyYm95"),
    Case("base64, broken", "/base64/x"),
    Case("uuid", "/uuid", volatile=(UUID,)),
    Case("delay", "/delay/1", seconds=1.0),
    Case("drip", "/drip?duration=1&numbytes=5&code=206&delay=0.2", seconds=0.9, streamed=True),
    Case("drip nothing", "/drip?numbytes=0"),
)

COOKIES_AND_REDIRECTS = (
    Case("cookies", "/cookies", headers=(("Cookie", 'a=1; b="two"; c=%C3%A9'),)),
    Case("cookies set", "/cookies/set?a=1&b=2"),
    Case("cookie set by path", "/cookies/set/name/value%20x"),
    Case("cookies delete", "/cookies/delete?a=&b=", headers=(("Cookie", "a=1; b=2"),)),
    Case("redirect", "/redirect/3"),
    Case("redirect, last", "/redirect/1"),
    Case("redirect, absolute by query", "/redirect/2?absolute=true"),
    Case("relative redirect", "/relative-redirect/2"),
    Case("absolute redirect", "/absolute-redirect/2"),
    Case("redirect to", "/redirect-to?url=http%3A%2F%2Fexample.test%2F%3Fq%3D1"),
    Case("redirect to, with status", "/redirect-to?url=/get&status_code=307", "POST"),
    Case("redirect to, beyond ASCII", "/redirect-to?url=/%C3%A9%20x"),
    Case("redirect, head", "/redirect/1", "HEAD"),
)

CASES = (
    *METHODS,
    *TRANSFER,
    *UNREAD_BODIES,
    *AUTHENTICATION,
    *STATUS_CODES,
    *INSPECTION,
    *FORMATS,
    *DYNAMIC,
    *COOKIES_AND_REDIRECTS,
)
