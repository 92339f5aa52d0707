//! What is parsed, routed and rewritten: messages as browsers, programs and backends write them, and a
//! table of a thousand frontends. Changing any of it makes other figures; they are renewed with it.

use std::collections::BTreeMap;

use _engine::protocol::h1::via::Via;
use _engine::protocol::h1::{RequestHead, ResponseHead};
use _engine::routing::rule::Rule;
use _engine::routing::table::Table;
use _engine::state::entity::{FrontendKeys, PathMatch, ValueMatch};

use crate::Bench;

const HOSTS: usize = 200;
const PATHS: [&str; 4] = ["/", "/api", "/api/orders", "/static"];

const SHORT: &str =
    "GET / HTTP/1.1\r\nHost: shop-17.example.com\r\nUser-Agent: curl/8.5.0\r\nAccept: */*\r\n\r\n";

const BROWSER: &str = "GET /static/css/site.css?v=42 HTTP/1.1\r\nHost: shop-101.example.com\r\n\
Connection: keep-alive\r\nsec-ch-ua: \"Chromium\";v=\"140\", \"Not=A?Brand\";v=\"24\"\r\n\
sec-ch-ua-mobile: ?0\r\nsec-ch-ua-platform: \"Linux\"\r\n\
User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36\r\n\
Accept: text/css,*/*;q=0.1\r\nSec-Fetch-Site: same-origin\r\nSec-Fetch-Mode: no-cors\r\nSec-Fetch-Dest: style\r\n\
Referer: https://shop-101.example.com/products?page=3\r\nAccept-Encoding: gzip, deflate, br, zstd\r\n\
Accept-Language: en-GB,en;q=0.9,de;q=0.8\r\n\
Cookie: session=5f2b8c1e9a7d4f30b6c2e8a1d9f0c3b7; theme=dark; basket=3; consent=all; _ga=GA1.1.123456789.1700000000\r\n\r\n";

const PROGRAM: &str = "POST /api/orders/2026/11/items HTTP/1.1\r\nHost: shop-3.example.com:443\r\n\
Authorization: Bearer eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiI0MiJ9.c2lnbmF0dXJl\r\nContent-Type: application/json\r\n\
Content-Length: 348\r\nAccept: application/json\r\nX-Api-Version: 2\r\nIdempotency-Key: 8e03978e-40d5-43e8-bc93-6894a57f9324\r\n\
User-Agent: orders/1.4\r\n\r\n";

const FORWARDED: &str = "GET /api/orders?status=open&limit=50&cursor=MTIzNDU2Nzg5MA%3D%3D HTTP/1.1\r\nHost: SHOP-150.Example.COM\r\n\
X-Forwarded-For: 198.51.100.9, 203.0.113.8\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: shop.example.com\r\n\
Forwarded: for=198.51.100.9;proto=https\r\nX-Request-Id: 4bf92f3577b34da6a3ce929d0e0e4736\r\nVia: 1.1 edge\r\n\
Traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\nConnection: close, X-Hop\r\nX-Hop: 1\r\n\r\n";

const UPLOAD: &str = "PUT /files/a%20b/../c//d.bin HTTP/1.1\r\nHost: elsewhere.wild.example.net\r\nTransfer-Encoding: chunked\r\n\
Expect: 100-continue\r\nContent-Type: application/octet-stream\r\nIf-Match: \"abc\"\r\n\r\n";

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\nContent-Length: 5120\r\n\
Date: Sun, 29 Nov 2026 08:00:00 GMT\r\nServer: nginx\r\nLast-Modified: Sat, 28 Nov 2026 08:00:00 GMT\r\n\
Connection: keep-alive\r\nETag: \"65646a1e-1400\"\r\nAccept-Ranges: bytes\r\n\r\n";

const CHUNKED: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Type: application/json\r\n\
Cache-Control: no-store, private\r\nSet-Cookie: session=5f2b8c1e9a7d4f30; Path=/; Secure; HttpOnly; SameSite=Lax\r\n\
Set-Cookie: theme=dark; Path=/\r\nStrict-Transport-Security: max-age=31536000\r\nX-Content-Type-Options: nosniff\r\n\
Vary: Accept-Encoding, Origin\r\n\r\n";

const UNCHANGED: &str = "HTTP/1.1 304 Not Modified\r\nETag: \"65646a1e-1400\"\r\n\r\n";

/// All of it, with nothing parsed yet.
pub fn bench() -> Bench {
    let requests = [SHORT, BROWSER, PROGRAM, FORWARDED, UPLOAD];
    let responses = [OK, CHUNKED, UNCHANGED];
    Bench {
        heads: requests.iter().map(|_| RequestHead::default()).collect(),
        requests: requests.map(Into::into).into(),
        response_heads: responses.iter().map(|_| ResponseHead::default()).collect(),
        responses: responses.map(Into::into).into(),
        table: table(),
        out: Vec::new(),
        via: Via::new("kakehi"),
    }
}

/// Four paths of each of 200 hosts, one of them twice with a condition, and a wildcard.
fn table() -> Table<(Rule, usize)> {
    let mut table = Table::new();
    let mut insert = |frontend: &FrontendKeys| {
        let number = table.len() + 1;
        let rule = Rule::compile(&format!("f{number:04}"), &frontend.clone().into());
        table.insert((rule.expect("every rule is valid"), number));
    };
    for host in 0..HOSTS {
        let hostname = format!("shop-{host}.example.com");
        for path in PATHS {
            insert(&frontend(&hostname, path));
        }
        let mut second = frontend(&hostname, "/api");
        let version = ValueMatch {
            exact: Some("2".into()),
            ..ValueMatch::default()
        };
        second.headers = BTreeMap::from([("x-api-version".to_owned(), version)]);
        insert(&second);
    }
    insert(&frontend("*.wild.example.net", "/"));
    table
}

fn frontend(hostname: &str, path: &str) -> FrontendKeys {
    let least = r#"{"cluster":"shop","listeners":["web"],"upgrades":[]}"#;
    FrontendKeys {
        hostname: hostname.into(),
        path: PathMatch::Prefix(path.into()),
        ..serde_json::from_str(least).expect("it is a frontend")
    }
}
