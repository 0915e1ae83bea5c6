"""The HTTP interface from outside, as somebody scans it: headers, TLS, cookies, methods and the shapes of request smuggling. What it finds SECURITY.md names."""

import re
import socket
import subprocess

import pytest
import requests

from certificates import SERVER, Authority
from test_api import Api
from test_tls import HERE, Server

INNER = b"GET /openapi.yaml HTTP/1.1\r\nHost: x\r\n\r\n"
HEADERS = {
    "Content-Security-Policy": r"default-src 'none'; .*frame-ancestors 'none'", "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin", "Cross-Origin-Resource-Policy": "same-origin", "Permissions-Policy": r"camera=\(\)",
    "Strict-Transport-Security": "max-age=31536000", "Cache-Control": "no-",
}


@pytest.fixture(scope="module")
def system(tmp_path_factory):
    directory = tmp_path_factory.mktemp("scan")
    api = Api(directory, devices=2, told=False)
    api.ca = Authority(directory, "ca")
    pair = api.ca.issue("here", (SERVER,), names=[HERE])
    files = dict(http_certificate=pair.crt, http_key=pair.key_file, http_idle=1)
    api.plain = Server(api, directory / "plain.log", http_idle=1).await_up()
    api.newest = Server(api, directory / "newest.log", **files).await_up()
    api.older = Server(api, directory / "older.log", http_tls="1.2", **files).await_up()
    yield api
    for server in api.plain, api.newest, api.older:
        server.stop()
    api.close()


def ask(system, path, method="GET", token=None, **headers):
    if token:
        headers["Authorization"] = "Bearer " + token
    return requests.request(method, f"https://127.0.0.1:{system.newest.port}{path}", headers=headers, verify=str(system.ca.path), timeout=20)


@pytest.mark.parametrize("path, status", [("/", 200), ("/healthz", 200), ("/openapi.yaml", 200), ("/nothing", 404), ("/v1/fleet", 401), ("/v1/fleet?x=1", 400),
                                          ("/v1/devices?limit=1", 200), ("/v1/assets", 200), ("/metrics", 200), ("/%00", 400)])
def test_headers_of_every_kind_of_answer(system, path, status):
    answer = ask(system, path, token=system.tokens["acme"] if status in (200, 400) else None)
    assert answer.status_code == status
    for name, value in HEADERS.items():
        assert re.match(value, answer.headers[name]), (name, answer.headers[name])
    told = {name.lower() for name in answer.headers}
    assert not told & {"server", "x-powered-by", "via", "access-control-allow-origin", "access-control-allow-credentials"}
    assert "microhttpd" not in str(answer.headers).lower() and "set-cookie" not in told


@pytest.mark.parametrize("method", ["TRACE", "TRACK", "OPTIONS", "CONNECT", "PROPFIND", "DEBUG", "get", "X" * 100])
def test_other_methods(system, method):
    with socket.create_connection(("127.0.0.1", system.plain.port), 20) as s:
        s.sendall(method.encode() + b" /healthz HTTP/1.1\r\nHost: x\r\nX-Secret: abc\r\nOrigin: https://elsewhere\r\nConnection: close\r\n\r\n")
        answer = b"".join(iter(lambda: s.recv(65536), b""))
    assert answer.startswith(b"HTTP/1.1 405 ") and b"abc" not in answer and b"Access-Control" not in answer


def client(port, *words):
    done = subprocess.run(["openssl", "s_client", "-connect", f"127.0.0.1:{port}", *words], input=b"", capture_output=True, timeout=30)
    return (done.stdout + done.stderr).decode(errors="replace")


def is_made(told):
    return bool(re.search(r"Cipher is (?!\(NONE\))", told)) and "Verification" in told


def test_versions_and_suites(system):
    old = "DEFAULT:@SECLEVEL=0"
    for version in "-tls1", "-tls1_1":
        for server in system.newest, system.older:
            assert not is_made(client(server.port, version, "-cipher", old)), version
    assert not is_made(client(system.newest.port, "-tls1_2"))
    assert is_made(client(system.newest.port, "-tls1_3")) and is_made(client(system.older.port, "-tls1_3")) and is_made(client(system.older.port, "-tls1_2"))
    suites = subprocess.run(["openssl", "ciphers", "-tls1_2", "-s", "ALL:COMPLEMENTOFALL:@SECLEVEL=0"], capture_output=True, text=True, check=True).stdout.strip().split(":")
    strong = {s for s in suites if re.fullmatch(r"ECDHE-ECDSA-(AES(128|256)-GCM-SHA\d+|CHACHA20-POLY1305)", s)}
    weak = ":".join(s for s in suites if s not in strong)
    assert strong and not is_made(client(system.older.port, "-tls1_2", "-cipher", weak + ":@SECLEVEL=0"))
    for suite in sorted(strong):
        assert f"Cipher is {suite}" in client(system.older.port, "-tls1_2", "-cipher", suite)


def test_groups_and_signatures(system):
    for group in "X25519", "P-256", "P-384":
        assert is_made(client(system.newest.port, "-groups", group))
    for group in "ffdhe2048", "ffdhe8192", "P-521":
        assert not is_made(client(system.newest.port, "-groups", group)), group
    assert not is_made(client(system.older.port, "-tls1_2", "-sigalgs", "ECDSA+SHA1", "-cipher", "DEFAULT:@SECLEVEL=0"))


def test_no_compression_tickets_renegotiation_or_downgrade(system):
    told = client(system.older.port, "-tls1_2", "-comp")
    assert "Compression: NONE" in told and "Secure Renegotiation IS supported" in told and "TLS session ticket:" not in told
    assert "Early data was not sent" in client(system.newest.port) and "Reused" not in client(system.newest.port, "-reconnect")
    # A client that could do better and was talked out of it is refused.
    assert not is_made(client(system.older.port, "-tls1_2", "-fallback_scsv"))
    process = subprocess.Popen(["openssl", "s_client", "-connect", f"127.0.0.1:{system.older.port}", "-tls1_2"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                               stderr=subprocess.STDOUT)
    told = process.communicate(b"R\nGET /healthz HTTP/1.1\r\nHost: x\r\n\r\n", 30)[0]
    assert b"RENEGOTIATING" in told and b"HTTP/1.1 200" not in told


def test_a_plain_request_to_tls_and_the_other_way(system):
    with socket.create_connection(("127.0.0.1", system.newest.port), 20) as s:
        s.sendall(INNER)
        assert not s.recv(100).startswith(b"HTTP")
    assert not is_made(client(system.plain.port))


def test_the_cookie_with_tls_and_without(system):
    """Both times `__Host-` and Secure: without TLS we are on loopback, which browsers take for safe, or behind a proxy that speaks it."""
    for answer in (ask(system, "/v1/session", "POST", system.tokens["acme"]),
                   requests.post(f"http://127.0.0.1:{system.plain.port}/v1/session", headers={"Authorization": "Bearer " + system.tokens["acme"]}, timeout=20)):
        assert answer.status_code == 201
        name, *attributes = answer.headers["Set-Cookie"].split("; ")
        assert re.fullmatch(r"__Host-fleetstate=fss_[\w-]{43}", name)
        assert set(attributes) == {"Path=/", "Secure", "HttpOnly", "SameSite=Strict", "Max-Age=28800"}
        assert answer.headers["Cache-Control"] == "no-store"


POST = b"POST /v1/policies/preview HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nContent-Type: application/json\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"
# What one reader takes for the end of a request, and another not. INNER is behind it, or in it.
SMUGGLING = {
    "CL.TE": POST + b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + INNER,
    "TE.CL": POST + b"Transfer-Encoding: chunked\r\nContent-Length: 200\r\n\r\n0\r\n\r\n" + INNER,
    "two lengths": POST + b"Content-Length: 2\r\nContent-Length: 42\r\n\r\n{}" + INNER,
    "two lengths, none first": b"GET /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nContent-Length: 42\r\n\r\n" + INNER,
    "the same length twice": POST + b"Content-Length: 2\r\nContent-Length: 2\r\n\r\n{}" + INNER,
    "a list of lengths": POST + b"Content-Length: 2, 2\r\n\r\n{}" + INNER,
    "a signed length": POST + b"Content-Length: +2\r\n\r\n{}" + INNER,
    "a negative length": POST + b"Content-Length: -2\r\n\r\n{}" + INNER,
    "a length in hex": POST + b"Content-Length: 0x2\r\n\r\n{}" + INNER,
    "a length beyond all": POST + b"Content-Length: 99999999999999999999999\r\n\r\n{}" + INNER,
    "a space before the colon": b"GET /healthz HTTP/1.1\r\nHost: x\r\nContent-Length : 42\r\n\r\n" + INNER,
    "another encoding": POST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n" + INNER,
    "two encodings": POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n" + INNER,
    "encodings twice": POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n" + INNER,
    "HTTP/1.0 with an encoding": POST.replace(b"1.1", b"1.0") + b"Connection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + INNER,
    "a chunk's size that is none": CHUNKED + b"zz\r\n\r\n0\r\n\r\n" + INNER,
    "a negative chunk": CHUNKED + b"-1\r\n\r\n0\r\n\r\n" + INNER,
    "a chunk in 0x": CHUNKED + b"0x0\r\n\r\n" + INNER,
    "a chunk beyond all": CHUNKED + b"10000000000000000\r\n\r\n0\r\n\r\n" + INNER,
    "a chunk without its end": CHUNKED + b"2\r\n{}GET\r\n0\r\n\r\n" + INNER,
    "two hosts": b"GET /healthz HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n" + INNER,
    "two credentials": b"GET /healthz HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer %s\r\nAuthorization: Bearer x\r\n\r\n" + INNER,
    "two sessions": b"GET /healthz HTTP/1.1\r\nHost: a\r\nCookie: __Host-fleetstate=%s; __Host-fleetstate=x\r\n\r\n" + INNER,
    "no host": b"GET /healthz HTTP/1.1\r\n\r\n" + INNER,
    "a name with NUL": b"GET /healthz HTTP/1.1\r\nHost: x\r\nX\0: a\r\n\r\n" + INNER,
    "no colon": b"GET /healthz HTTP/1.1\r\nHost: x\r\nnonsense\r\n\r\n" + INNER,
    "a header before the first": b"GET /healthz HTTP/1.1\r\n Host: y\r\nHost: x\r\n\r\n" + INNER,
    "a body of what has none": b"GET /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: 42\r\n\r\n" + INNER,
    "HTTP/0.9": b"GET /healthz\r\n\r\n" + INNER,
    "HTTP/2.0": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + INNER,
    "a space in the target": b"GET /heal thz HTTP/1.1\r\nHost: x\r\n\r\n" + INNER,
}


def exchange(port, sent):
    """All that comes back until it is closed."""
    with socket.create_connection(("127.0.0.1", port), 20) as s:
        s.sendall(sent)
        answer = b""
        try:
            while got := s.recv(65536):
                answer += got
        except ConnectionResetError:
            pass
    return answer


@pytest.mark.parametrize("shape", SMUGGLING)
def test_no_request_is_smuggled(system, shape):
    """What is behind it is answered by nobody: the connection is closed. And what is refused is not done."""
    sent = SMUGGLING[shape]
    answer = exchange(system.plain.port, sent.replace(b"%s", system.tokens["acme"].encode()))
    assert b"openapi: 3" not in answer and (answer == b"" or re.match(rb"HTTP/1\.[01] (400|413|505) ", answer)), answer[:300]


def test_targets_of_other_forms(system):
    for target in b"http://elsewhere/healthz", b"//healthz", b"*", b"healthz", b"x:443":
        answer = exchange(system.plain.port, b"GET " + target + b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert re.match(rb"HTTP/1\.1 40[04] ", answer) and b"elsewhere" not in answer, (target, answer)
    answer = exchange(system.plain.port, b"GET /healthz HTTP/1.1\r\nHost: evil.example\r\nX-Forwarded-Host: evil.example\r\nConnection: close\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 200 ") and b"evil" not in answer


def test_what_libmicrohttpd_makes_of_folds_and_zeros(system):
    """It takes a folded line for a part of the header's name, and cuts off a target or a value at a zero: nothing of what follows is another request."""
    fold = b"GET /healthz HTTP/1.1\r\nHost: x\r\nX: a\r\n b\r\nConnection: close\r\n\r\n"
    for sent, status in ((fold, 200), (fold.replace(b"\r\n b", b"\0b"), 200), (fold.replace(b"healthz", b"healthz\0/x"), 200), (fold.replace(b"healthz", b"heal\0thz"), 404)):
        answer = exchange(system.plain.port, sent)
        assert answer.startswith(b"HTTP/1.1 %d " % status) and answer.count(b"HTTP/1.1 ") == 1, answer
    hidden = POST.replace(b"%s", system.tokens["acme"].encode()) + b"Content-Length: 2\r\nTransfer-Encoding:\r\n chunked\r\nConnection: close\r\n\r\n{}" + INNER
    answer = exchange(system.plain.port, hidden)
    assert b"openapi: 3" not in answer


def test_what_libmicrohttpd_answers_by_itself(system):
    """A fixed text, in which nothing of the request is, and then the connection is closed."""
    for sent in b"<script>x</script>\r\n\r\n", b"GET /healthz HTTP/1.1\r\nX: " + b"<script>" * 4500 + b"\r\n\r\n", b"GET / HTTP/9.9\r\nHost: <script>\r\n\r\n":
        answer = exchange(system.plain.port, sent)
        # Of what was not read to its end the answer may be lost.
        assert answer == b"" or re.match(rb"HTTP/1\.1 (400|414|431|505) ", answer) and b"Connection: close" in answer, answer[:200]
        assert b"script" not in answer and b"Server:" not in answer
