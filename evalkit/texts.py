"""Texts that others wrote, made safe to print: on a terminal, in a spreadsheet, in an error message."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

#: What a terminal obeys instead of showing: control characters (of C1, 0x9b begins a command), marks that turn the
#: direction of writing, which can make a line read as another; and half characters, which cannot be encoded.
_COMMANDS = r"\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff"
_LINES = re.compile(f"[{_COMMANDS}]")
_LINE = re.compile(f"[{_COMMANDS}\t\n]")

#: First characters that make a spreadsheet compute a cell instead of showing it (OWASP, "CSV Injection").
_FORMULA = ("=", "+", "-", "@", "\t")


def plain(text: str) -> str:
    """`text` in one line, as escapes what a terminal would obey: ``\\x1b[2J``."""
    return _LINE.sub(_escaped, text)


def plain_lines(text: str) -> str:
    """`plain`, but line ends and tabs stay."""
    return _LINES.sub(_escaped, text)


def _escaped(match: re.Match) -> str:
    return match[0].encode("unicode_escape").decode()


def spreadsheet_safe(table: pd.DataFrame) -> pd.DataFrame:
    """`table` for CSV: control characters are escapes, and what a spreadsheet would compute begins with an
    apostrophe."""
    def safe(value: Any) -> Any:
        text = plain_lines(value) if isinstance(value, str) else value
        return f"'{text}" if isinstance(text, str) and text.startswith(_FORMULA) else text

    words = [name for name in table.columns if table[name].dtype.kind not in "biuf"]
    return table.assign(**{name: table[name].map(safe, na_action="ignore") for name in words})
