"""The lines of keys, in files as they were committed."""

from __future__ import annotations

from typing import Any

import pytest

from reconciler.reporting.explaining.keys import files_named, point_at_keys

FILE = b"""\
policies:
  other: {cors: {origins: ["*"]}}
  secure:
    # why
    response_headers:
      set: {X-A: a}
    deny:
      - 192.0.2.0/24
    hsts: {max_age_days: 1}
    rate_limit:
      - {requests: 5}
      - {requests: 50, name: all, by: frontend}
frontends:
  web:
    listeners: [http]
    redirect: https
"""


def told(key: str, line: int = 3, name: str = "secure") -> dict[str, Any]:
    source = {"file": "p.yaml", "line": line}
    by = {"name": name, "source": dict(source)}
    own = {"key": "redirect", "words": "", "by": None, "source": {"file": "p.yaml", "line": 14}}
    theirs = {"key": key, "words": "", "by": by, "source": source}
    frontend = {"name": "web", "source": {"file": "p.yaml", "line": 14}}
    return {"frontend": frontend, "stages": [own, theirs]}


@pytest.mark.parametrize(("key", "line"), [("response_headers", 5), ("deny", 7), ("hsts", 9)])
def test_the_line_is_that_of_the_key(key: str, line: int) -> None:
    result: Any = told(key)
    assert files_named(result) == {"p.yaml"}
    point_at_keys(result, {"p.yaml": FILE})
    own, theirs = result["stages"]
    assert theirs["by"]["source"] == theirs["source"] == {"file": "p.yaml", "line": line}
    assert own["source"] == {"file": "p.yaml", "line": 16}


def test_of_a_request_that_no_frontend_takes_policies_are_told() -> None:
    result: Any = {**told("hsts"), "frontend": None}
    result["stages"][0]["source"] = None
    assert files_named(result) == {"p.yaml"}
    point_at_keys(result, {"p.yaml": FILE})
    assert result["stages"][1]["source"]["line"] == 9


@pytest.mark.parametrize(
    ("name", "line"), [("client_address", 11), ("all", 12), ("gone", 10), ("", 10)]
)
def test_the_line_of_one_of_several_limits_is_its_own(name: str, line: int) -> None:
    result: Any = told("rate_limit")
    result["stages"][1]["name"] = name
    point_at_keys(result, {"p.yaml": FILE})
    assert result["stages"][1]["by"]["source"]["line"] == line


@pytest.mark.parametrize(
    ("result", "files"),
    [
        (told("hsts"), {}),
        (told("hsts", line=4), {"p.yaml": FILE}),
        (told("hsts", name="gone"), {"p.yaml": FILE}),
        (told("cors"), {"p.yaml": FILE}),
        (told("hsts"), {"p.yaml": b"{ no: [YAML"}),
    ],
)
def test_what_is_not_found_stays_at_the_name(result: Any, files: dict[str, bytes]) -> None:
    line = result["stages"][1]["by"]["source"]["line"]
    point_at_keys(result, files)
    assert result["stages"][1]["by"]["source"]["line"] == line
    assert result["stages"][1]["source"]["line"] == line
