import json
from copy import copy
from pathlib import Path
from typing import Any

import pytest
from pydantic import create_model

from schemas.base import Later, Model
from schemas.describing import jsonschema
from schemas.describing.jsonschema import language
from schemas.kinds.listener import Listener, ListenerTls
from schemas.kinds.registry import MODELS, SECTIONS

DEFINITIONS: dict[str, set[str]] = {
    "backend": set(),
    "certificate": {"Acme"},
    "cluster": {
        "Backend",
        "Balancing",
        "ClusterLimits",
        "ClusterTimeouts",
        "ClusterTls",
        "Ejection",
        "Fallback",
        "GrpcCheck",
        "HashedBy",
        "HealthCheck",
        "RequestCheck",
        "Respond",
        "Retry",
        "RetryWhen",
        "Sticky",
        "TcpCheck",
    },
    "frontend": {
        "Compression",
        "Levels",
        "Concurrency",
        "BasicAuth",
        "CertificateConditions",
        "CookieChange",
        "ErrorPage",
        "ForwardAuth",
        "VerdictCache",
        "AnswerEdits",
        "AnswerLine",
        "HeaderEdits",
        "HeaderMatch",
        "Jwt",
        "TokenPlace",
        "Mirror",
        "Hsts",
        "PathChange",
        "QueryChange",
        "PathMatch",
        "CookieMatch",
        "Cors",
        "QueryMatch",
        "RateLimit",
        "Bandwidth",
        "Redirect",
        "RequestLimits",
        "RequestTimeouts",
        "Respond",
        "Rewrite",
        "CountBy",
        "SplitBy",
    },
    "policy": {
        "CertificateConditions",
        "CookieChange",
        "Compression",
        "Levels",
        "Concurrency",
        "BasicAuth",
        "Cors",
        "ErrorPage",
        "ForwardAuth",
        "VerdictCache",
        "AnswerEdits",
        "AnswerLine",
        "HeaderEdits",
        "Hsts",
        "Jwt",
        "TokenPlace",
        "RequestLimits",
        "RequestTimeouts",
        "RateLimit",
        "Bandwidth",
        "CountBy",
    },
    "listener": {"ErrorPage", "ListenerLimits", "ListenerTimeouts", "ListenerTls", "ListenerUdp"},
    "settings": {"ErrorPage", "Resolver"},
}
ROOT = Path(__file__).parent.parent.parent.parent


def test_the_stored_schema_is_current() -> None:
    stored = (ROOT / "schemas" / "kakehi.schema.json").read_text(encoding="utf-8")
    assert stored == jsonschema.schema_text(), "run python -m schemas.describing.jsonschema --write"


def test_the_stored_reference_is_current() -> None:
    stored = (ROOT / "docs" / "reference.md").read_text(encoding="utf-8")
    assert stored == jsonschema.reference_markdown(), (
        "run python -m schemas.describing.jsonschema --write"
    )


def test_a_file_has_the_sections_and_nothing_else() -> None:
    schema = jsonschema.json_schema()
    assert set(schema["properties"]) == set(SECTIONS)
    assert schema["additionalProperties"] is False


@pytest.mark.parametrize("kind", sorted(MODELS))
def test_a_kind_alone_is_complete(kind: str) -> None:
    schema = jsonschema.json_schema(kind)
    fields = set(MODELS[kind].model_fields)
    assert set(schema["properties"]) == fields | ({"backends"} if kind == "cluster" else set())
    assert set(schema["$defs"]) == DEFINITIONS[kind]


def test_every_key_is_described_and_no_map_is_open() -> None:
    for name, definition in jsonschema.json_schema()["$defs"].items():
        assert definition["additionalProperties"] is False, name
        for key, value in definition["properties"].items():
            assert value["description"].endswith("."), f"{name}.{key}"


def test_defaults_are_written_as_in_yaml() -> None:
    definitions = jsonschema.json_schema()["$defs"]
    assert definitions["ClusterTimeouts"]["properties"]["connect"]["default"] == "3s"
    assert definitions["ListenerLimits"]["properties"]["head_bytes"]["default"] == "32KiB"
    assert definitions["ListenerLimits"]["properties"]["body_bytes"]["default"] is None


def test_the_command_prints_the_schema(capsys: pytest.CaptureFixture[str]) -> None:
    assert jsonschema.main([]) == 0
    assert json.loads(capsys.readouterr().out) == jsonschema.json_schema()


def listener_with(**fields: Any) -> type[Model]:
    """The listener with other fields within its TLS."""
    tls = create_model("ListenerTls", __base__=ListenerTls, __doc__=ListenerTls.__doc__, **fields)
    return create_model("Listener", __base__=Listener, tls=(tls | None, None))


def test_a_key_at_any_depth_is_another_language() -> None:
    plain = language()
    assert language({**MODELS, "listener": listener_with()}) == plain, "or nothing is shown here"
    for fields in (
        {"fresh": (int, 1)},
        {"fresh": (str | None, None)},
        {"profile": (str, "modern")},
        {"profile": (int, 1)},
    ):
        assert language({**MODELS, "listener": listener_with(**fields)}) != plain


def test_a_key_that_works_from_now_on_is_another_language() -> None:
    udp = copy(Listener.model_fields["udp"])
    udp.metadata = [each for each in udp.metadata if not isinstance(each, Later)]
    works = create_model("Listener", __base__=Listener, udp=(udp.annotation, udp))
    assert jsonschema.later_paths(works) != jsonschema.later_paths(Listener)
    assert language({**MODELS, "listener": works}) != language()


def test_what_does_not_work_yet_is_refused_by_the_schema_too() -> None:
    definitions = jsonschema.json_schema()["$defs"]
    check = definitions["Cluster"]["properties"]["sticky"]
    assert check["description"].startswith("Not there yet, and refused: ")
    assert check["allOf"][-1] == {"const": None}
    protocol = definitions["Listener"]["properties"]["protocol"]
    assert protocol["description"].startswith("Not there yet in part, and refused: ")
    assert protocol["allOf"][-1] == {"enum": ["http", "https", "tcp", "tls"]}


def test_other_words_are_no_other_language() -> None:
    profile = ListenerTls.model_fields["profile"]
    described = copy(profile)
    described.description, described.title = "Other words.", "Said else"
    other = listener_with(profile=(profile.annotation, described))
    assert language({**MODELS, "listener": other}) == language()
    # A key may be called as prose is.
    more = listener_with(description=(str, ""))
    assert language({**MODELS, "listener": more}) != language()
