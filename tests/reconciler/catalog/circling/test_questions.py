"""Whom a frontend asks first leads back to it: an error where that is sure, and only there."""

from __future__ import annotations

import pytest

from reconciler.catalog.catalog import load_directory

BASE = """\
listeners:
  web: {address: "127.0.0.1:8080"}
  other: {address: "127.0.0.1:8081"}
  safe: {address: "127.0.0.1:8443", protocol: https}
clusters:
  me: {backends: {m: {address: "127.0.0.1:8080"}}}
  shop: {backends: {s: {address: "127.0.0.1:9000"}}}
policies:
  sso: {forward_auth: {cluster: me, path: /fa}}
frontends:
  all: {listeners: [web], cluster: shop}
"""
ASKS = "respond: {body: x}, forward_auth: {cluster: me, path: /fa"
FA = f"  fa: {{listeners: [web], path: {{prefix: /fa}}, {ASKS}}}}}\n"


def errors(text: str) -> list[str]:
    _, found = load_directory([("a.yaml", text.encode())])
    return [each.message for each in found if each.severity == "error"]


@pytest.mark.parametrize(
    "frontends",
    [
        FA,
        FA.replace("prefix: /fa", "exact: /fa"),
        FA.replace("/fa}}}", "/fa?x=1}}}"),
        FA.replace("[web]", "[web, other]"),
        FA.replace("path: {", "hostname: a.test, path: {"),
        FA.replace("path: {", "hostname: '*.test', path: {"),
        FA.replace("path: {prefix", "methods: [GET, POST], path: {prefix"),
        "  fa: {listeners: [web], path: {prefix: /fa}, cluster: shop, policies: [sso]}\n",
        # What is of others is nearer to nothing that comes here.
        FA + "  suffix: {listeners: [web], cluster: shop, path: {suffix: a}}\n",
        FA + "  deeper: {listeners: [web], cluster: shop, path: {prefix: /fa/x}}\n",
        FA + "  host: {listeners: [web], cluster: shop, hostname: a.test, path: {prefix: /x}}\n",
        FA + "  beside: {listeners: [other], cluster: shop, path: {exact: /fa}}\n",
        FA.replace("path: {", "hostname: a.test, path: {")
        + "  wide: {listeners: [web], cluster: shop, hostname: '*.test', path: {exact: /fa}}\n",
    ],
)
def test_it_is_sure(frontends: str) -> None:
    [message] = errors(BASE + frontends)
    assert message.startswith('frontend "fa": what it asks cluster "me" first')
    assert 'comes back to it by listener "web" (a.yaml:2)' in message
    assert message.endswith("and is asked again: no request would pass")


@pytest.mark.parametrize(
    "frontends",
    [
        # Others answer the question.
        FA.replace("auth: {cluster: me, path: /fa", "auth: {cluster: me, path: /verify"),
        FA + "  verify: {listeners: [web], cluster: shop, path: {exact: /fa}}\n",
        FA + "  regex: {listeners: [web], cluster: shop, path: {regex: '/f.*'}}\n",
        FA + "  host: {listeners: [web], cluster: shop, hostname: a.test}\n",
        FA + "  alike: {listeners: [web], cluster: shop, path: {prefix: /fa}, methods: [GET]}\n",
        FA.replace("path: {", "hostname: '*.test', path: {")
        + "  one: {listeners: [web], cluster: shop, hostname: a.test, path: {prefix: /f}}\n"
        + "  two: {listeners: [web], cluster: shop, hostname: a.test}\n",
        # It may be another request.
        FA.replace("path: {prefix", "methods: [POST], path: {prefix"),
        FA.replace("path: {prefix", "headers: {x: y}, path: {prefix"),
        FA.replace("path: {prefix", "client_addresses: [10.0.0.0/8], path: {prefix"),
        # It goes elsewhere.
        FA.replace("[web]", "[other]"),
        FA.replace("cluster: me", "cluster: shop"),
    ],
)
def test_it_is_not_sure(frontends: str) -> None:
    assert errors(BASE + frontends) == []


def test_a_cluster_that_leads_elsewhere_too_or_speaks_otherwise() -> None:
    one = 'me: {backends: {m: {address: "127.0.0.1:8080"}}}'
    for other in (
        'me: {backends: {m: {address: "127.0.0.1:8080"}, n: {address: "127.0.0.1:8081"}}}',
        'me: {backends: {m: {address: "127.0.0.1:8080"}, n: {address: "127.0.0.1:9001"}}}',
        'me: {backends: {m: {address: "127.0.0.1:8443"}}}',
        'me: {protocol: h2, backends: {m: {address: "127.0.0.1:9001"}}}',
    ):
        assert errors(BASE.replace(one, other) + FA.replace("[web]", "[web, safe]")) == []
