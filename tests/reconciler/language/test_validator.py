import pytest
from hypothesis import given

from reconciler.language.document import DIAGNOSTICS_MAX, read_document
from reconciler.language.raw import raw_entities
from reconciler.language.validator import validate
from schemas.entities.entity import Entity, EntityKey, Provenance
from tests.schemas.strategies import DOCUMENTS, file_of


def check(text: str) -> tuple[list[Entity], list[str]]:
    loaded = read_document("a.yaml", text.encode())
    valid = [entity for raw in raw_entities(loaded) if (entity := validate(raw)) is not None]
    return valid, [
        f"{found.line}:{found.column} {found.message}" + (f" | {found.hint}" if found.hint else "")
        for found in loaded.diagnostics
    ]


def test_entities_with_their_places() -> None:
    valid, messages = check(
        "clusters:\n"
        "  shop:\n"
        "    retries: 1\n"
        "    backends:\n"
        '      a: {address: "127.0.0.1:1"}\n'
        "settings: {workers: 2}\n"
    )
    assert messages == []
    assert [(entity.key, entity.provenance) for entity in valid] == [
        (EntityKey("cluster", "shop"), Provenance("a.yaml", 2, 3)),
        (EntityKey("backend", "shop/a"), Provenance("a.yaml", 5, 7)),
        (EntityKey("settings", "settings"), Provenance("a.yaml", 6, 1)),
    ]
    assert "backends" not in valid[0].value


@pytest.mark.parametrize(
    "text",
    ["", "listeners:\n", "clusters: {a: }", "clusters: {a: {backends: }}", "settings:\n", "{}"],
)
def test_nothing_at_all_is_an_empty_map(text: str) -> None:
    assert check(text)[1] == []


AT_THE_TOP = (
    "1:1 expected a map with listeners, clusters, frontends, policies, certificates or settings "
    "at the top of the file"
)


@pytest.mark.parametrize(
    ("text", "messages"),
    [
        (
            "[]",
            [AT_THE_TOP],
        ),
        (
            "text",
            [AT_THE_TOP],
        ),
        (
            "listners: {}",
            [
                (
                    '1:1 unknown key "listners" at the top of the file: expected listeners, '
                    "clusters, frontends, policies, certificates or settings | "
                    'did you mean "listeners"?'
                )
            ],
        ),
        (
            "certificates: {a: {private_key: a.key}}",
            [
                (
                    '1:16 certificate "a": "certificate" is missing | give both files, or order '
                    "it: acme: {}"
                )
            ],
        ),
        (
            "clusters: []",
            [
                (
                    "1:11 clusters: expected a map of entries by name, not a list | "
                    'give each entry a name: "NAME: {…}"'
                )
            ],
        ),
        (
            "clusters: {a: 5}",
            ['1:15 cluster "a": expected a map of "key: value", not a single value'],
        ),
        (
            "clusters: {a: {backends: [b]}}",
            [
                (
                    '1:26 backends of cluster "a": expected a map of entries by name, not a list | '
                    'give each entry a name: "NAME: {…}"'
                )
            ],
        ),
        (
            "clusters: {Shop: {}}",
            [
                (
                    "1:12 \"Shop\" is not a name: a name is 1 to 63 of a-z, 0-9, '.', '_' and '-', "
                    'and begins with a letter or a digit | did you mean "shop"?'
                )
            ],
        ),
        (
            "clusters: {a: {backend: {}}}",
            ['1:16 cluster "a": unknown key "backend" | did you mean "backends"?'],
        ),
        (
            "clusters: {a: {timeouts: {conect: 1s, x: 1s}}}",
            [
                '1:27 cluster "a": unknown key "conect" in timeouts | did you mean "connect"?',
                (
                    '1:39 cluster "a": unknown key "x" in timeouts | known here: connect, '
                    "keep_alive, response_body, response_head, tunnel"
                ),
            ],
        ),
        (
            "clusters: {a: {tls: {certificate: a.crt}}}",
            [
                (
                    '1:16 cluster "a": tls: certificate and private_key belong together | '
                    "give both or neither"
                )
            ],
        ),
        (
            'listeners: {a: {address: "127.0.0.1:1", h2c: 1}}',
            ['1:46 listener "a": h2c: expected true or false, not 1'],
        ),
        (
            "clusters: {a: {timeouts: {connect: 30}}}",
            [
                (
                    '1:36 cluster "a": timeouts.connect: expected a duration like "250ms", "30s", '
                    '"5m", not 30 | write the unit: 30s or 30ms'
                )
            ],
        ),
        (
            "frontends: {a: {cluster: b, listeners: [c, D]}}",
            [
                (
                    '1:44 frontend "a": listeners: "D" is not a name: a name is 1 to 63 of a-z, '
                    "0-9, '.', '_' and '-', and begins with a letter or a digit | "
                    'did you mean "d"?'
                )
            ],
        ),
        (
            "settings: {error_pages: {200: {body: x}, 503: {}}}",
            [
                (
                    '1:26 settings: error_pages: expected a status from 400 to 599, not "200" | '
                    "other answers are given by respond: and redirect: of a frontend"
                ),
                (
                    '1:42 settings: error_pages.503: "body" is missing | for example: body: '
                    '"<h1>Back in a minute</h1>"'
                ),
            ],
        ),
        (
            "frontends: {a: {cluster: b, listeners: [c], headers: {Host: x}}}",
            [
                (
                    '1:55 frontend "a": headers: the Host header is not matched here | match it '
                    'with "hostname:"'
                )
            ],
        ),
        (
            "frontends:\n  a:\n    listeners: [b]\n",
            [
                (
                    '2:3 frontend "a": "cluster" is missing | for example: cluster: "shop"; or '
                    "answer it here, by redirect: {…} or respond: {…}"
                )
            ],
        ),
    ],
)
def test_what_is_wrong_is_said_where_it_is(text: str, messages: list[str]) -> None:
    valid, found = check(text)
    assert found == messages
    assert not any(entity.key.kind in ("frontend", "settings") for entity in valid)


def test_what_was_refused_already_is_not_refused_again() -> None:
    valid, messages = check("clusters: {a: {retries: *x, backends: {b: *y, c: {address: *z}}}}")
    assert valid == []
    assert len(messages) == 3
    assert all("aliases" in message for message in messages)


def test_errors_are_all_found_and_bounded() -> None:
    assert len(check("clusters: {a: {retries: x, protocol: x, y: 1}, b: {retries: y}}")[1]) == 4
    many = "".join(f"  c{number}: {{x: 1}}\n" for number in range(3 * DIAGNOSTICS_MAX))
    assert len(check(f"clusters:\n{many}")[1]) == DIAGNOSTICS_MAX + 1
    many = "".join(f"x{number}: 1\n" for number in range(500))
    assert len(check(f"settings:\n{many}")[1]) == DIAGNOSTICS_MAX + 1


def test_a_fingerprint_is_that_of_the_raw_value() -> None:
    texts = ["{retries: 1}", "{ retries: 1 } # why", '{retries: "1"}', "{retries: true}", "{}"]
    prints = []
    for text in texts:
        (raw,) = raw_entities(read_document("a.yaml", f"clusters:\n  a: {text}".encode()))
        prints.append(raw.fingerprint())
    assert prints[0] == prints[1]
    assert len(set(prints)) == len(texts) - 1


def test_backends_are_no_part_of_the_cluster() -> None:
    text = 'clusters: {a: {retries: 1, backends: {b: {address: "127.0.0.1:%d"}}}}'
    one, other = (list(raw_entities(read_document("a", (text % port).encode()))) for port in (1, 2))
    assert one[0].fingerprint() == other[0].fingerprint()
    assert one[1].fingerprint() != other[1].fingerprint()


@given(DOCUMENTS)
def test_every_document_of_the_language_is_valid(document: dict[str, object]) -> None:
    valid, messages = check(file_of(document).decode())
    assert messages == []
    assert all(entity.provenance.file == "a.yaml" for entity in valid)
