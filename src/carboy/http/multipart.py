"""``multipart/form-data`` (RFC 7578)."""

from __future__ import annotations

import mimetypes
import os
import secrets
from collections.abc import Iterable, Iterator, Mapping
from typing import IO, Any

#: What a file may be: its content, a file that is open, or name, content, type and headers.
FileContent = str | bytes | bytearray | memoryview | IO[bytes]
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
        self._starts = [
            None if isinstance(content, bytes) else position_of(content) for _, content in parts
        ]

    def has_files_to_read(self) -> bool:
        """Whether some of the content is read from files."""
        return any(not isinstance(content, bytes) for _, content in self._parts)

    def is_repeatable(self) -> bool:
        """Whether the content can be given more than once."""
        return all(
            isinstance(content, bytes) or start is not None
            for (_, content), start in zip(self._parts, self._starts, strict=True)
        )

    def pieces(self, attempt: int = 1) -> Iterator[bytes]:
        """Give the content piece by piece.

        Args:
            attempt: How often it is given with this. From the second time on, files are read from
                where they were at first.
        """
        for (head, content), start in zip(self._parts, self._starts, strict=True):
            yield head
            if isinstance(content, bytes):
                yield content
            else:
                yield from pieces_of_file(content, start if attempt > 1 else None)
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
        # Names of files that are no text are sent as they are.
        return "\r\n".join([*lines, "", ""]).encode(errors="surrogateescape")

    def _field(self, name: Any, value: str | bytes) -> tuple[bytes, bytes | IO[bytes]]:
        content = value.encode() if isinstance(value, str) else value
        return self._head(f'name="{_quoted(name)}"', {}), content

    def _file(self, name: Any, file: FileTypes) -> tuple[bytes, bytes | IO[bytes]]:
        content_type: str | None = None
        headers: Mapping[str, str] = {}
        filename: str | bytes | None
        content: Any
        if isinstance(file, tuple):
            if not 2 <= len(file) <= 4:
                raise ValueError(
                    f"the file {name!r} is to be a tuple of its name and content, and perhaps its "
                    f"type and headers, not of {len(file)} things"
                )
            filename, content, *rest = file
            if rest:
                content_type = rest[0]  # type: ignore[assignment]
            if len(rest) > 1:
                headers = rest[1]  # type: ignore[assignment]
        else:
            content = file
            filename = _known_name(file) or name
            content_type = _known_type(file)
        disposition = f'name="{_quoted(name)}"'
        if filename is not None:
            filename = _quoted(filename)
            disposition += f'; filename="{filename}"'
            if content_type is None:
                content_type = mimetypes.guess_type(filename)[0] or "application/octet-stream"
        if content_type is not None and not any(
            other.lower() == "content-type" for other in headers
        ):
            headers = {"Content-Type": content_type, **headers}
        if isinstance(content, str):
            content = content.encode()
        elif isinstance(content, (bytearray, memoryview)):
            content = bytes(content)
        if not isinstance(content, bytes) and not hasattr(content, "read"):
            raise TypeError(
                f"the file {name!r} is to be bytes, str or an open file, not "
                f"{type(content).__name__}"
                + (": open it by open(path, 'rb')" if isinstance(content, os.PathLike) else "")
            )
        return self._head(disposition, headers), content


def _known_name(file: Any) -> str | None:
    """Return the name of an open file, or of one that was uploaded (Werkzeug's ``FileStorage``)."""
    for attribute in ("filename", "name"):
        path = getattr(file, attribute, None)
        # "<stdin>" and its like are no names of files.
        if isinstance(path, str) and path and not path.startswith("<"):
            return os.path.basename(path)
    return None


def _known_type(file: Any) -> str | None:
    """Return the type that a file which was uploaded has been given."""
    known = getattr(file, "content_type", None)
    return known if isinstance(known, str) and known else None


def _quoted(name: Any) -> str:
    # As browsers do: https://html.spec.whatwg.org/#multipart-form-data.
    text = os.fsdecode(name) if isinstance(name, bytes) else str(name)
    return text.replace('"', "%22").replace("\r", "%0D").replace("\n", "%0A")


def position_of(file: Any) -> int | None:
    """Return where a file is read from next, if it can be read from there again, or ``None``."""
    try:
        if not file.seekable():
            return None
        position: int = file.tell()
    except (AttributeError, OSError, ValueError):
        return None
    return position


def pieces_of_file(file: Any, start: int | None) -> Iterator[bytes]:
    """Give the content of a file piece by piece.

    Args:
        file: An open file.
        start: Where to begin; ``None`` for where it is.
    """
    if start is not None:
        file.seek(start)
    while piece := file.read(PIECE_BYTES):
        yield piece if isinstance(piece, bytes) else piece.encode()
    if piece is None:
        raise BlockingIOError("the file does not block, and has nothing to read yet")


def file_size(file: IO[bytes]) -> int | None:
    """Return how many bytes are left to read of a file; ``None`` if that is unknown."""
    try:
        position = file.tell()
        end = file.seek(0, os.SEEK_END)
        file.seek(position)
    except (AttributeError, OSError, ValueError):
        return None
    # The size of a text file counts characters at best.
    return None if hasattr(file, "encoding") else max(end - position, 0)
