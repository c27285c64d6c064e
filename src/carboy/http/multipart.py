"""``multipart/form-data`` (RFC 7578)."""

from __future__ import annotations

import mimetypes
import os
import secrets
from collections.abc import Iterable, Iterator, Mapping
from typing import IO, Any

#: What a file may be: its content, a file that is open, or name, content, type and headers.
FileContent = str | bytes | IO[bytes]
FileTypes = (
    FileContent
    | tuple[str | None, FileContent]
    | tuple[str | None, FileContent, str | None]
    | tuple[str | None, FileContent, str | None, Mapping[str, str]]
)
FilesTypes = Mapping[str, FileTypes] | Iterable[tuple[str, FileTypes]]

#: Files are read in pieces of this size.
PIECE_BYTES = 64 * 1024


class Multipart:
    """The fields and files of a form.

    Attributes:
        content_type: The value of ``Content-Type``.
        length: The size in bytes; ``None`` if that of a file is unknown.
    """

    def __init__(self, fields: Iterable[tuple[str, Any]], files: FilesTypes) -> None:
        self._boundary = secrets.token_hex(16)
        self.content_type = f"multipart/form-data; boundary={self._boundary}"
        parts = [self._field(name, value) for name, value in fields]
        items = files.items() if isinstance(files, Mapping) else files
        parts += [self._file(name, file) for name, file in items]
        self._parts: list[tuple[bytes, bytes | IO[bytes]]] = parts
        self._end = f"--{self._boundary}--\r\n".encode()
        self.length = self._count()

    def has_files_to_read(self) -> bool:
        """Whether some of the content is read from files."""
        return any(not isinstance(content, bytes) for _, content in self._parts)

    def pieces(self) -> Iterator[bytes]:
        """Give the content piece by piece."""
        for head, content in self._parts:
            yield head
            if isinstance(content, bytes):
                yield content
            else:
                while piece := content.read(PIECE_BYTES):
                    yield piece if isinstance(piece, bytes) else piece.encode()
            yield b"\r\n"
        yield self._end

    def _count(self) -> int | None:
        total = len(self._end)
        for head, content in self._parts:
            size = len(content) if isinstance(content, bytes) else file_size(content)
            if size is None:
                return None
            total += len(head) + size + 2
        return total

    def _head(self, disposition: str, headers: Mapping[str, str]) -> bytes:
        lines = [f"--{self._boundary}", f"Content-Disposition: form-data; {disposition}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        if any("\r" in line or "\n" in line for line in lines):
            raise ValueError("a header of a part has a line break in it")
        return "\r\n".join([*lines, "", ""]).encode()

    def _field(self, name: str, value: Any) -> tuple[bytes, bytes | IO[bytes]]:
        content = value if isinstance(value, bytes) else str(value).encode()
        return self._head(f'name="{_quoted(name)}"', {}), content

    def _file(self, name: str, file: FileTypes) -> tuple[bytes, bytes | IO[bytes]]:
        content_type: str | None = None
        headers: Mapping[str, str] = {}
        if isinstance(file, tuple):
            filename, content, *rest = file
            if rest:
                content_type = rest[0]  # type: ignore[assignment]
            if len(rest) > 1:
                headers = rest[1]  # type: ignore[assignment]
        else:
            content = file
            path = getattr(file, "name", None)
            filename = os.path.basename(path) if isinstance(path, str) else name
        disposition = f'name="{_quoted(name)}"'
        if filename is not None:
            disposition += f'; filename="{_quoted(filename)}"'
            if content_type is None:
                content_type = mimetypes.guess_type(filename)[0] or "application/octet-stream"
        if content_type is not None:
            headers = {"Content-Type": content_type, **headers}
        if isinstance(content, str):
            content = content.encode()
        if not isinstance(content, bytes) and not hasattr(content, "read"):
            raise TypeError(
                f"the file {name!r} is to be bytes, str or an open file, not "
                f"{type(content).__name__}"
            )
        return self._head(disposition, headers), content


def _quoted(text: str) -> str:
    # As browsers do: https://html.spec.whatwg.org/#multipart-form-data.
    return text.replace('"', "%22").replace("\r", "%0D").replace("\n", "%0A")


def file_size(file: IO[bytes]) -> int | None:
    """Return how many bytes are left to read of a file; ``None`` if that is unknown."""
    try:
        position = file.tell()
        end = file.seek(0, os.SEEK_END)
        file.seek(position)
    except (AttributeError, OSError, ValueError):
        return None
    # The size of a text file counts characters at best.
    return None if hasattr(file, "encoding") else end - position
