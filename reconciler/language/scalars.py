"""What a plain (unquoted) YAML scalar means: YAML 1.2, and nothing on which readers disagree.

Text that one reader takes for a number or a date and another for text (`010`, `1_000`, `1e3`,
`2024-01-02`) is refused instead of guessed. Called by `document` for every plain scalar.
"""

from __future__ import annotations

import re

INT_DIGITS_MAX = 18
"""What fits 64 bits. No value of the language comes near."""

_CONSTANTS: dict[str, bool | None] = {
    "": None,
    "~": None,
    "null": None,
    "Null": None,
    "NULL": None,
    "true": True,
    "True": True,
    "TRUE": True,
    "false": False,
    "False": False,
    "FALSE": False,
}
# `re.ASCII` everywhere: the digits of other scripts are text.
_INT = re.compile(r"[-+]?(?:0|[1-9][0-9]*)")
_FLOAT = re.compile(r"[-+]?(?:0|[1-9][0-9]{0,17})\.[0-9]{1,18}")
_MAY_BE_SPECIAL = frozenset("-+.0123456789~nNtTfF<=")
_AMBIGUOUS = re.compile(
    r"""
    [-+]?0b[01_]+ | [-+]?0o?[0-7_]+ | [-+]?0x[0-9a-fA-F_]+      # other bases
    | [-+]?[0-9_]+                                              # 010, 1_000
    | [-+]?[0-9][0-9_]*\.[0-9_]*(?:[eE][-+]?[0-9]+)?            # 1., 1_0.5
    | [-+]?[0-9][0-9_]*[eE][-+]?[0-9]+                          # 1e3
    | [-+]?\.[0-9_]+(?:[eE][-+]?[0-9]+)?                        # .5
    | [-+]?\.(?:inf|Inf|INF) | \.(?:nan|NaN|NAN)
    | [0-9]{4}-[0-9]{2}-[0-9]{2}                                # dates
    | [0-9]{4}-[0-9]{1,2}-[0-9]{1,2}(?:[Tt]|[ \t]+)[0-9].*
    | <<|=                                                      # YAML 1.1 merge and value
    """,
    re.VERBOSE,
)


class AmbiguousScalarError(ValueError):
    """A plain scalar that means different things to different readers of YAML."""

    def __init__(self, message: str, hint: str) -> None:
        self.hint = hint
        super().__init__(message)


def resolve(text: str) -> str | int | float | bool | None:
    """Return the value of a plain scalar, or raise AmbiguousScalarError."""
    if text and text[0] not in _MAY_BE_SPECIAL:
        return text
    if text in _CONSTANTS:
        return _CONSTANTS[text]
    if _INT.fullmatch(text):
        if len(text) > INT_DIGITS_MAX:
            message = f"the number {text[:INT_DIGITS_MAX]}… is too large"
            raise AmbiguousScalarError(message, "if it is text, write it in quotes")
        return int(text)
    if _FLOAT.fullmatch(text):
        return float(text)
    if _AMBIGUOUS.fullmatch(text):
        if text == "<<":
            raise AmbiguousScalarError("merge keys (<<) are not supported", "write the keys out")
        message = f"{text} means different things to different readers of YAML"
        hint = "write a plain decimal number, or text in quotes"
        raise AmbiguousScalarError(message, hint)
    return text
