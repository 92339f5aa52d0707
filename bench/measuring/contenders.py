"""Kakehi, nginx and HAProxy set up alike, in two profiles, in front of one nginx as the backend.

`lean`: no access log, keep-alive on both sides with pools that are never too small, and no header
added but X-Forwarded-For (Kakehi always adds the others, too). `operator`: a JSON access log in a
file with the same fields, metrics served, X-Forwarded-For/-Proto/-Host/-Port and a request id,
timeouts and limits set. The peers' log is as cheap as they can make it: nginx writes by the buffer,
HAProxy to its standard output, which is the file, as it cannot open one itself. For long bodies the
peers get larger buffers, where that makes them faster.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bench.measuring.accounting import pinned
from bench.measuring.service import Service
from tests.harness.daemon import Kakehi
from tests.harness.ports import free_port
from tests.harness.repo import Repo

PROFILES = ("lean", "operator")
# Where a backend has 64 bytes beside a long response.
SHORT = "/short"
# Mozilla's intermediate, by OpenSSL's names: what Kakehi has in that profile.
_TLS12_CIPHERS = ":".join(
    f"ECDHE-{key}-{cipher}"
    for cipher in ("AES128-GCM-SHA256", "AES256-GCM-SHA384", "CHACHA20-POLY1305")
    for key in ("ECDSA", "RSA")
)
# HAProxy takes two descriptors a connection and refuses to start if it may not have them. From a
# fifth of them on it would close idle connections to the backend: the ratios below put that off.
_HAPROXY_CONNECTIONS = 4000
# The longest text that nginx returns without a file.
_TEXT_BYTES_MAX = 4000
# From these lengths on larger buffers than their own made a peer faster; HAProxy's only then.
_NGINX_LONG_BYTES_MIN = 16 * 1024
_HAPROXY_LONG_BYTES_MIN = 256 * 1024


@dataclass(frozen=True, slots=True)
class Contender:
    """A proxy that runs: where it listens, and the processes whose CPU time is its cost."""

    name: str
    port: int
    metrics_url: str | None
    find_pids: Callable[[], Sequence[int]]

    def pids(self) -> Sequence[int]:
        """Its processes now."""
        return self.find_pids()


@contextlib.contextmanager
def backend(
    base: Path, core: int, body_bytes: int, *, h2: bool = False, body: bytes | None = None
) -> Iterator[tuple[int, str]]:
    """The backend: its port, and the path whose response has the wanted length.

    With a `body` that is the response, and it is text. Beside a response that is long there is a
    short one, at `SHORT`.
    """
    directory = _directory(base, "backend-h2" if h2 else "backend")
    port = free_port()
    speaks = " http2" if h2 else ""
    if body_bytes <= _TEXT_BYTES_MAX and body is None:
        path, location = "/", f'location / {{ return 200 "{"0" * body_bytes}"; }}'
    else:
        (directory / "files").mkdir()
        (directory / "files" / "body").write_bytes(body or b"0" * body_bytes)
        path, location = "/body", f"location / {{ root {directory}/files; }}"
        location += f' location = {SHORT} {{ return 200 "{"0" * 64}"; }}'
    text = f"""{_nginx_head(directory)}
http {{
    access_log off;
    default_type text/html;
    sendfile on;
    tcp_nopush on;
    open_file_cache max=16;
    keepalive_requests 1000000000;
    keepalive_timeout 3600;
    {_nginx_temporaries(directory)}
    server {{
        listen 127.0.0.1:{port}{speaks} reuseport backlog=4096;
        {location}
    }}
}}
"""
    (directory / "nginx.conf").write_text(text)
    with _nginx(directory, port, core):
        yield port, path


@contextlib.contextmanager
def sink(base: Path, core: int) -> Iterator[int]:
    """A backend that reads all of a request before it answers, 64 bytes each time: its port.

    nginx would answer at once and throw the body away later, which ends the connection of a proxy
    that takes it at its word. So it is a proxy before itself, and buffers what it is sent.
    """
    directory = _directory(base, "sink")
    port = free_port()
    text = f"""{_nginx_head(directory)}
http {{
    access_log off;
    keepalive_requests 1000000000;
    keepalive_timeout 3600;
    client_max_body_size 64m;
    client_body_buffer_size 2m;
    {_nginx_temporaries(directory)}
    upstream answers {{
        server unix:{directory}/answers;
        keepalive 256;
        keepalive_requests 1000000000;
    }}
    server {{
        listen unix:{directory}/answers;
        location / {{ return 200 "{"0" * 64}"; }}
    }}
    server {{
        listen 127.0.0.1:{port} reuseport backlog=4096;
        location / {{
            proxy_pass http://answers;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_set_header Content-Length "";
            proxy_pass_request_body off;
        }}
    }}
}}
"""
    (directory / "nginx.conf").write_text(text)
    with _nginx(directory, port, core):
        yield port


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """A certificate chain and its key, both in PEM, that all three serve to clients."""

    certificate: Path
    private_key: Path

    def text(self) -> str:
        """Both in one, as HAProxy wants them."""
        return self.certificate.read_text() + self.private_key.read_text()


@dataclass(frozen=True, slots=True)
class Setup:
    """What the three have in common."""

    core: int
    backend_port: int
    profile: str
    body_bytes: int
    # Clients speak TLS with this; the backend is spoken to in clear text.
    tls: TlsFiles | None = None
    # The backend is spoken to in HTTP/2, which nginx does for gRPC alone.
    h2: bool = False
    # More requests in flight are answered by 503, and Kakehi's counters are served.
    max_requests: int | None = None
    # Text is compressed for clients that take it, by gzip at this level in nginx.
    gzip_level: int | None = None
    # HAProxy hands the bodies of responses from socket to socket, through a pipe.
    splices: bool = False
    # Nothing is read of what passes: `protocol: tcp`, `mode tcp`. Debian's nginx-light has no such.
    is_bytes: bool = False

    @property
    def is_operator(self) -> bool:
        """Logs, metrics, headers, timeouts and limits are on."""
        return self.profile == "operator"


@contextlib.contextmanager
def multiplexers(base: Path, setup: Setup) -> Iterator[tuple[Contender, ...]]:
    """Those that can speak HTTP/2 to a backend, with names that say so."""
    with contextlib.ExitStack() as stack:
        ours = stack.enter_context(_kakehi(_directory(base, "kakehi-h2"), setup))
        theirs = stack.enter_context(_haproxy(_directory(base, "haproxy-h2"), setup))
        yield tuple(replace(each, name=f"{each.name} h2") for each in (ours, theirs))


@contextlib.contextmanager
def ours(base: Path, setup: Setup) -> Iterator[Contender]:
    """Kakehi by itself."""
    with _kakehi(_directory(base, "kakehi"), setup) as contender:
        yield contender


@contextlib.contextmanager
def haproxy(base: Path, setup: Setup) -> Iterator[Contender]:
    """HAProxy by itself."""
    with _haproxy(_directory(base, "haproxy"), setup) as contender:
        yield contender


@contextlib.contextmanager
def contenders(base: Path, setup: Setup) -> Iterator[tuple[Contender, ...]]:
    """The three proxies, all alive at once on one core."""
    with contextlib.ExitStack() as stack:
        yield (
            stack.enter_context(_kakehi(_directory(base, "kakehi"), setup)),
            stack.enter_context(_nginx_proxy(_directory(base, "nginx"), setup)),
            stack.enter_context(_haproxy(_directory(base, "haproxy"), setup)),
        )


def _directory(base: Path, name: str) -> Path:
    directory = base / name
    directory.mkdir(parents=True)
    return directory


@contextlib.contextmanager
def _kakehi(directory: Path, setup: Setup) -> Iterator[Contender]:
    port, admin = free_port(), free_port()
    repo = Repo(directory / "repository")
    repo.commit({"kakehi.yaml": _kakehi_entities(directory, setup, port, admin)})
    daemon = Kakehi(repo, workers=1)
    with pinned(setup.core):
        daemon.start()
    try:
        assert daemon.process is not None
        # All of it is charged: the reconciler, and all threads of the worker.
        pids = [daemon.process.pid, *daemon.worker_pids()]
        has_metrics = setup.is_operator or setup.max_requests is not None
        url = f"http://127.0.0.1:{admin}/metrics" if has_metrics else None
        yield Contender("kakehi", port, url, lambda: pids)
    finally:
        daemon.stop(check=False)


def _kakehi_entities(directory: Path, setup: Setup, port: int, admin: int) -> dict[str, Any]:
    settings: dict[str, Any] = {"access_log": "off"}
    listener: dict[str, Any] = {"address": f"127.0.0.1:{port}", "protocol": "http"}
    cluster: dict[str, Any] = {
        "keep_alive_connections": 2048,
        "protocol": "h2" if setup.h2 else "http",
        "backends": {"backend-1": {"address": f"127.0.0.1:{setup.backend_port}"}},
    }
    if setup.is_bytes:
        listener["protocol"] = "tcp"
        cluster = {"backends": cluster["backends"]}
    if setup.is_operator:
        settings = {"access_log": str(directory / "access.log"), "admin": f"127.0.0.1:{admin}"}
        listener["timeouts"] = {"request_head": "10s", "keep_alive": "60s"}
        listener["limits"] = {"connections": 8000, "head_bytes": "32KiB", "body_bytes": "1MiB"}
        cluster["timeouts"] = {"connect": "3s", "response_head": "60s", "response_body": "60s"}
    if setup.max_requests is not None:
        settings |= {"max_requests": setup.max_requests, "admin": f"127.0.0.1:{admin}"}
    frontend: dict[str, Any] = {"listeners": ["public"], "cluster": "shop"}
    if setup.gzip_level is not None:
        frontend["compression"] = {}
    certificates: dict[str, Any] = {}
    if setup.tls is not None:
        listener["protocol"] = "https"
        listener["tls"] = {"profile": "intermediate", "default_certificate": "shop"}
        certificates["shop"] = {
            "certificate": str(setup.tls.certificate),
            "private_key": str(setup.tls.private_key),
        }
    return {
        "settings": settings,
        "listeners": {"public": listener},
        "clusters": {"shop": cluster},
        "certificates": certificates,
        "frontends": {"shop-web": frontend},
    }


@contextlib.contextmanager
def _nginx_proxy(directory: Path, setup: Setup) -> Iterator[Contender]:
    port, status = free_port(), free_port()
    common = ["access_log off;"]
    headers: list[str] = []
    if setup.is_operator:
        common = [
            f"log_format operator escape=json '{_NGINX_LOG}';",
            f"access_log {directory}/access.log operator buffer=64k flush=200ms;",
            *_NGINX_LIMITS,
            f"server {{ listen 127.0.0.1:{status};",
            "location /metrics { access_log off; stub_status; } }",
        ]
        headers = _NGINX_HEADERS
    if setup.max_requests is not None:
        common += ["limit_conn_zone all zone=all:1m;", "limit_conn_log_level info;"]
        headers = [*headers, f"limit_conn all {setup.max_requests};"]
    if setup.gzip_level is not None:
        common += ["gzip on;", f"gzip_comp_level {setup.gzip_level};", "gzip_proxied any;"]
    passing = _NGINX_GRPC if setup.h2 else _NGINX_HTTP
    ssl = ""
    if setup.tls is not None:
        ssl = " ssl http2"
        common += [
            f"ssl_certificate {setup.tls.certificate};",
            f"ssl_certificate_key {setup.tls.private_key};",
            "ssl_protocols TLSv1.2 TLSv1.3;",
            f"ssl_ciphers {_TLS12_CIPHERS};",
            "ssl_session_tickets on;",
        ]
    if setup.body_bytes >= _NGINX_LONG_BYTES_MIN:
        common += ["proxy_buffer_size 64k;", "proxy_buffers 8 64k;"]
        common += ["proxy_busy_buffers_size 128k;"]
    text = f"""{_nginx_head(directory)}
http {{
    {_lines(common)}
    keepalive_requests 1000000000;
    keepalive_timeout 60;
    proxy_max_temp_file_size 0;
    {_nginx_temporaries(directory)}
    upstream shop {{
        server 127.0.0.1:{setup.backend_port};
        keepalive 2048;
        keepalive_requests 1000000000;
    }}
    server {{
        listen 127.0.0.1:{port}{ssl} reuseport backlog=4096;
        location / {{
            {_lines([*passing, *headers])}
        }}
    }}
}}
"""
    (directory / "nginx.conf").write_text(text)
    with _nginx(directory, port, setup.core) as service:
        yield Contender("nginx", port, _metrics_url(setup, status), lambda: service.pids)


@contextlib.contextmanager
def _haproxy(directory: Path, setup: Setup) -> Iterator[Contender]:
    port, status = free_port(), free_port()
    every = ["tune.bufsize 65536"] if setup.body_bytes >= _HAPROXY_LONG_BYTES_MIN else []
    defaults = ["option splice-response"] if setup.splices else []
    public: list[str] = []
    metrics: list[str] = []
    speaks = " proto h2" if setup.h2 else ""
    ssl = ""
    if setup.tls is not None:
        pem = directory / "haproxy.pem"
        pem.write_text(setup.tls.text())
        ssl = f" ssl crt {pem} alpn h2,http/1.1 ssl-min-ver TLSv1.2 ciphers {_TLS12_CIPHERS}"
    if setup.is_operator:
        every += ["log stdout format raw daemon"]
        public = [f"log-format '{_HAPROXY_LOG}'", *_HAPROXY_RULES]
        metrics = [
            "frontend metrics",
            f"bind 127.0.0.1:{status}",
            "http-request use-service prometheus-exporter if { path /metrics }",
        ]
    if setup.gzip_level is not None:
        public = [*public, "compression algo gzip", "compression type text/html"]
    if setup.max_requests is not None:
        full = f"{{ be_conn(shop) ge {setup.max_requests} }}"
        public = [*public, f"http-request return status 503 if {full}"]
    text = f"""global
  nbthread 1
  maxconn {_HAPROXY_CONNECTIONS}
  tune.pool-low-fd-ratio 90
  tune.pool-high-fd-ratio 95
  {_lines(every)}
defaults
  mode http
  timeout client 60s
  timeout server 60s
  timeout connect 3s
  timeout http-request 10s
  timeout http-keep-alive 60s
  option http-keep-alive
  option forwardfor
  http-reuse always
  {_lines(defaults)}
frontend public
  bind 127.0.0.1:{port} backlog 4096{ssl}
  {_lines(public)}
  default_backend shop
backend shop
  server backend-1 127.0.0.1:{setup.backend_port}{speaks} pool-max-conn 2048
{_lines(metrics)}
"""
    if setup.is_bytes:
        text = _HAPROXY_BYTES.format(
            most=_HAPROXY_CONNECTIONS, port=port, backend=setup.backend_port
        )
    (directory / "haproxy.cfg").write_text(text)
    command = ["haproxy", "-db", "-f", str(directory / "haproxy.cfg")]
    with Service(command, port, setup.core, directory / "access.log") as service:
        yield Contender("haproxy", port, _metrics_url(setup, status), lambda: service.pids)


def _metrics_url(setup: Setup, port: int) -> str | None:
    return f"http://127.0.0.1:{port}/metrics" if setup.is_operator else None


def _lines(statements: Sequence[str]) -> str:
    return "\n    ".join(statements)


def _nginx(directory: Path, port: int, core: int) -> Service:
    command = ["nginx", "-p", str(directory), "-c", str(directory / "nginx.conf")]
    return Service(command, port, core, directory / "output")


def _nginx_head(directory: Path) -> str:
    return f"""daemon off;
master_process off;
worker_processes 1;
pid {directory}/nginx.pid;
error_log {directory}/error.log;
events {{ worker_connections 8192; }}"""


def _nginx_temporaries(directory: Path) -> str:
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    return "\n    ".join(f"{kind}_temp_path {directory}/{kind};" for kind in kinds)


# By its own words the fastest that it has: where the kernel can, bytes pass through a pipe.
_HAPROXY_BYTES = """global
  nbthread 1
  maxconn {most}
defaults
  mode tcp
  timeout client 60s
  timeout server 60s
  timeout connect 3s
  option splice-auto
listen public
  bind 127.0.0.1:{port} backlog 4096
  server backend-1 127.0.0.1:{backend}
"""

_NGINX_HTTP = [
    "proxy_pass http://shop;",
    "proxy_http_version 1.1;",
    'proxy_set_header Connection "";',
    "proxy_set_header Host $host;",
    "proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;",
]
_NGINX_GRPC = [
    "grpc_pass grpc://shop;",
    "grpc_set_header X-Forwarded-For $proxy_add_x_forwarded_for;",
]
_NGINX_LIMITS = [
    "client_header_timeout 10s;",
    "client_body_timeout 30s;",
    "send_timeout 30s;",
    "client_max_body_size 1m;",
    "large_client_header_buffers 4 32k;",
    "proxy_connect_timeout 3s;",
    "proxy_read_timeout 60s;",
    "proxy_send_timeout 60s;",
]
_NGINX_HEADERS = [
    "proxy_set_header X-Forwarded-Proto $scheme;",
    "proxy_set_header X-Forwarded-Host $host;",
    "proxy_set_header X-Forwarded-Port $server_port;",
    "proxy_set_header X-Request-Id $request_id;",
]
_HAPROXY_RULES = [
    "log global",
    "capture request header Host len 128",
    "capture request header User-Agent len 256",
    "capture request header Referer len 256",
    "unique-id-format %{+X}o%ci%cp%fi%fp%Ts%rt%pid",
    "unique-id-header X-Request-Id",
    "http-request set-header X-Forwarded-Proto http",
    "http-request set-header X-Forwarded-Host %[req.hdr(Host)]",
    "http-request set-header X-Forwarded-Port %[dst_port]",
    "http-request deny deny_status 413 if { req.body_size gt 1048576 }",
]
_NGINX_LOG = (
    '{"time":"$time_iso8601","client":"$remote_addr","method":"$request_method","host":"$host",'
    '"path":"$request_uri","protocol":"$server_protocol","status":$status,'
    '"bytes_in":$request_length,"bytes_out":$bytes_sent,"duration":$request_time,'
    '"upstream":"$upstream_header_time","server":"$server_name","location":"$proxy_host",'
    '"backend_address":"$upstream_addr","request_id":"$request_id",'
    '"user_agent":"$http_user_agent","referer":"$http_referer"}'
)
_HAPROXY_LOG = (
    '{"time":"%T","client":"%ci","method":"%HM","host":"%[capture.req.hdr(0),json(utf8s)]",'
    '"path":"%[capture.req.uri,json(utf8s)]","protocol":"%HV","status":%ST,'
    '"bytes_in":%U,"bytes_out":%B,"duration_ms":%Ta,'
    '"upstream_ms":%Tr,"frontend":"%ft","cluster":"%b","backend":"%s",'
    '"backend_address":"%si:%sp","request_id":"%ID",'
    '"user_agent":"%[capture.req.hdr(1),json(utf8s)]",'
    '"referer":"%[capture.req.hdr(2),json(utf8s)]","retries":%rc,"outcome":"%ts"}'
)
