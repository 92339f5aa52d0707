"""The content of answers that the configuration has: its text, and its media type.

For error pages and for frontends that answer by themselves.
"""

from __future__ import annotations

import re

from schemas.base import fault, shown

BODY_BYTES_MAX = 64 * 1024
"""It is held by every worker and sent in one piece: 64 KiB is a large one."""

_FIELD_VALUE = re.compile(r"[\x21-\x7e]([\x20-\x7e]*[\x21-\x7e])?")


def parse_body(value: object) -> str:
    """Return the text of an answer."""
    if not isinstance(value, str):
        raise fault(f"expected the text of the page, not {shown(value)}")
    if len(value.encode()) > BODY_BYTES_MAX:
        raise fault(f"the page is too large: it may have {BODY_BYTES_MAX // 1024}KiB")
    return value


def parse_content_type(value: object) -> str:
    """Return a media type."""
    if not isinstance(value, str) or "/" not in value or not _FIELD_VALUE.fullmatch(value):
        expected = 'expected a media type like "text/html; charset=utf-8"'
        raise fault(f"{expected}, not {shown(value)}")
    return value
