"""What a caller puts into headers moves nothing: neither who they are, nor which path, nor where a request ends."""

from __future__ import annotations

import importlib.util
import json
import re
from typing import Any

import httpx2
import pytest

PARSERS = [
    "h11",
    pytest.param(
        "httptools",
        marks=pytest.mark.skipif(importlib.util.find_spec("httptools") is None, reason="httptools is not installed"),
    ),
]
CLAIMS = [
    *("X-Forwarded-For: 203.0.113.7", "X-Forwarded-Proto: https", "X-Forwarded-Host: evil.example.org"),
    *("Forwarded: for=203.0.113.7;proto=https;host=evil.example.org", "X-Real-IP: 203.0.113.7"),
    *("X-Original-URL: /metrics", "X-Rewrite-URL: /metrics", "X-HTTP-Method-Override: DELETE"),
]


@pytest.fixture(params=PARSERS, scope="module")
def http(request: pytest.FixtureRequest) -> dict[str, str]:
    return {"RXDRAFT_TEST_HTTP": request.param}


@pytest.fixture(scope="module")
def server(small_service, http: dict[str, str]) -> Any:
    return small_service(**http)


def test_nobody_is_believed_unless_named(small_service, http):
    server = small_service("trusted_proxies=[]", **http, FORWARDED_ALLOW_IPS="*")
    status, body = server.get("/seen", *CLAIMS)
    assert (status, json.loads(body)) == (200, {"client": "127.0.0.1", "scheme": "http", "path": "/seen", "size": 0})


def test_a_proxy_elsewhere_is_not_believed_here(small_service, http):
    server = small_service('trusted_proxies=["10.0.0.1", "192.168.0.0/16"]', **http)
    assert json.loads(server.get("/seen", *CLAIMS)[1])["client"] == "127.0.0.1"


def test_a_named_proxy_is_believed_and_only_as_far_as_its_own_hop(small_service, http):
    server = small_service('trusted_proxies=["127.0.0.1"]', **http)
    told = json.loads(server.get("/seen", "X-Forwarded-For: 203.0.113.7", "X-Forwarded-Proto: https")[1])
    assert (told["client"], told["scheme"], told["path"]) == ("203.0.113.7", "https", "/seen")
    invented = json.loads(server.get("/seen", "X-Forwarded-For: 127.0.0.1, 198.51.100.1, 203.0.113.7")[1])
    assert invented["client"] == "203.0.113.7"  # the last one is the proxy's own word, all before it the caller's


ENDS: dict[str, list[str]] = {
    "two lengths": ["Content-Length: 4", "Content-Length: 30"],
    "two lengths in one": ["Content-Length: 4, 30"],
    "a length and chunks": ["Content-Length: 4", "Transfer-Encoding: chunked"],
    "chunks and a length": ["Transfer-Encoding: chunked", "Content-Length: 4"],
    "chunks by another name": ["Transfer-Encoding: xchunked"],
    "chunks twice": ["Transfer-Encoding: chunked", "Transfer-Encoding: identity"],
    "a negative length": ["Content-Length: -1"],
    "a length with a sign": ["Content-Length: +4"],
    "a length in hexadecimal": ["Content-Length: 0x4"],
    "a blank before the colon": ["Content-Length : 4"],
    "a folded line": ["X-A: b", " Content-Length: 4"],
}


@pytest.mark.parametrize("lines", ENDS.values(), ids=ENDS.keys())
def test_no_second_request_hides_in_a_body(server, lines):
    hidden = b"GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
    head = ["POST /seen HTTP/1.1", f"Host: 127.0.0.1:{server.port}", *lines, "", ""]
    received = server.talk("\r\n".join(head).encode() + b"0\r\n\r\n" + hidden, seconds=1)
    statuses = re.findall(rb"HTTP/1\.1 (\d\d\d)", received)
    assert b"rxdraft_requests" not in received
    assert statuses[-1:] in ([], [b"400"])  # whatever follows the head is no request


@pytest.mark.parametrize(
    "host",
    [
        ["Host: evil.example.org"],
        [],
        ["Host: 127.0.0.1", "Host: evil.example.org"],
        ["Host: 127.0.0.1@evil.example.org"],
    ],
    ids=["another", "none", "two", "with a user"],
)
def test_no_other_host_is_answered(server, host):
    lines = ["GET /seen HTTP/1.1", *host, "Connection: close", "", ""]
    assert server.talk("\r\n".join(lines).encode()).startswith(b"HTTP/1.1 400")


def test_the_host_in_the_line_of_the_request_is_no_way_round(server):
    line = f"GET http://evil.example.org/seen HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\nConnection: close\r\n\r\n"
    assert b"evil" not in server.talk(line.encode())


def test_a_header_cannot_break_a_log_line(server):
    server.get("/seen?x=%0a%7B%22event%22%3A%22forged%22%7D", "X-Request-ID: a%0d%0aforged", "User-Agent: forged")
    server.get("/forged%0aline")
    assert "forged" not in server.output()
    assert all(map(json.loads, server.output().splitlines()))


@pytest.mark.parametrize("size", [300_000, 3_000_000])
@pytest.mark.parametrize("chunked", [False, True])
def test_who_sends_too_much_gets_to_read_why(server, size, chunked):
    content = iter([b"x" * 50_000] * (size // 50_000)) if chunked else b"x" * size
    answer = httpx2.post(f"http://127.0.0.1:{server.port}/seen", content=content)
    assert (answer.status_code, answer.json()["code"]) == (413, "too_large")
