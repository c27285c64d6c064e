"""Colours Python source for the page, with the standard library's tokenizer."""

import io
import keyword
import token
import tokenize

from markupsafe import Markup, escape

CLASSES = {token.STRING: "string", token.COMMENT: "comment", token.NUMBER: "number"}


def highlight(source: str) -> Markup:
    """Return the source as HTML, each coloured token in a `span`."""
    lines = source.splitlines(keepends=True)
    pieces = []
    row, column = 1, 0

    def copy_until(end_row: int, end_column: int) -> str:
        """Return the text between the last token and this position."""
        if row == end_row:
            return lines[row - 1][column:end_column] if row <= len(lines) else ""
        between = [lines[row - 1][column:], *lines[row : end_row - 1]]
        if end_row <= len(lines):
            between.append(lines[end_row - 1][:end_column])
        return "".join(between)

    for item in tokenize.generate_tokens(io.StringIO(source).readline):
        pieces.append(escape(copy_until(*item.start)))
        row, column = item.start
        text = copy_until(*item.end)
        row, column = item.end
        name = CLASSES.get(item.type)
        if item.string in {"async", "await"}:
            name = "async"
        elif keyword.iskeyword(item.string):
            name = "keyword"
        pieces.append(
            Markup('<span class="{}">{}</span>').format(name, text) if name else escape(text)
        )
    return Markup("").join(pieces)
