"""Each limit of the HTTP interface: what a client sees that reaches it, and that it is counted."""

import re
import socket
import ssl
import threading
import time

import psycopg2
import pytest
import requests

from certificates import SERVER, Authority
from parts import await_true
from test_api import Api
from test_tls import HERE, Server


@pytest.fixture(scope="module")
def api(tmp_path_factory):
    directory = tmp_path_factory.mktemp("limits")
    api = Api(directory, devices=2000, told=False)
    yield api
    api.close()


@pytest.fixture(scope="module")
def small(api, tmp_path_factory):
    """All of them are low."""
    directory = tmp_path_factory.mktemp("small")
    authority = Authority(directory, "ca")
    pair = authority.issue("here", (SERVER,), names=[HERE])
    settings = dict(http_request_time=1, http_idle=1, http_header_size="12K", http_target_size=256, http_body_size="1K", http_answer_size="64K",
                    http_streams=1, http_query_time=1, http_connections=40, http_connections_per_address=30, http_read_rate="1M",
                    registrations_max=5)
    server = Server(api, directory / "log", **settings).await_up()
    tls = Server(api, directory / "tls.log", http_certificate=pair.crt, http_key=pair.key_file, **settings).await_up()
    server.tls, server.ca = tls, authority
    server.token = api.tokens["acme"]
    yield server
    server.stop()
    tls.stop()


def opened(server, source="127.0.0.1"):
    s = socket.socket()
    s.settimeout(20)
    s.bind((source, 0))
    s.connect(("127.0.0.1", server.port))
    return s


def read_all(s):
    try:
        return b"".join(iter(lambda: s.recv(65536), b""))
    except ConnectionResetError:
        return b"reset"


def request(server, head, body=b"", source="127.0.0.1"):
    with opened(server, source) as s:
        s.sendall(head.replace("TOKEN", server.token).encode() + b"Host: x\r\nConnection: close\r\n\r\n" + body)
        return read_all(s)


def get(server, path):
    return request(server, f"GET {path} HTTP/1.1\r\nAuthorization: Bearer TOKEN\r\n")


def counted(server, name):
    return int(re.search(rf"^fleetstate_{re.escape(name)} (\d+)$", get(server, "/metrics").decode(), re.M)[1])


def is_problem(answer, status, name):
    return answer.startswith(b"HTTP/1.1 %d " % status) and b'"urn:fleetstate:problem:%s"' % name.encode() in answer


class Counted:
    """Within it the number grows by at least one."""

    def __init__(self, server, name):
        self.server, self.name = server, name

    def __enter__(self):
        self.before = counted(self.server, self.name)

    def __exit__(self, kind, *_):
        if kind is None:
            await_true(lambda: counted(self.server, self.name) > self.before, self.name)


def problems(name):
    return f'http_problems_total{{problem="{name}"}}'


@pytest.mark.parametrize("path, status, name", [
    ("/v1/devices?q=" + "a" * 300, 414, "target-too-long"),
    ("/v1/devices?limit=1000", 422, "answer-too-large"),
    ("/v1/assets", 422, "answer-too-large"),
])
def test_what_is_too_large_to_ask_for_or_to_answer(small, path, status, name):
    with Counted(small, problems(name)):
        assert is_problem(get(small, path), status, name)
    assert get(small, "/v1/devices?limit=10").startswith(b"HTTP/1.1 200 ")


def test_a_body_that_is_too_large(small):
    with Counted(small, problems("content-too-large")):
        head = "POST /v1/policies/preview HTTP/1.1\r\nAuthorization: Bearer TOKEN\r\nContent-Type: application/json\r\n"
        assert is_problem(request(small, head + "Content-Length: 2000\r\n", b"x" * 2000), 413, "content-too-large")
        assert is_problem(request(small, head + "Transfer-Encoding: chunked\r\n", b"7d0\r\n" + b" " * 2000 + b"\r\n0\r\n\r\n"), 413, "content-too-large")


def test_headers_that_are_too_large(small):
    with Counted(small, "http_requests_unread_total"):
        assert request(small, "GET /healthz HTTP/1.1\r\nX: " + "a" * 13000 + "\r\n").startswith(b"HTTP/1.1 431 ")
    assert request(small, "GET /" + "a" * 13000 + " HTTP/1.1\r\n").startswith((b"HTTP/1.1 414 ", b"reset"))
    assert request(small, "GET /healthz HTTP/1.1\r\nX: " + "a" * 5000 + "\r\n").startswith(b"HTTP/1.1 200 ")


def drip(s, piece=b"a", pause=0.1):
    """Sends until the other side ends it: after how many seconds."""
    begun = time.monotonic()
    while time.monotonic() < begun + 20:
        try:
            s.sendall(piece)
            s.settimeout(pause)
            if s.recv(100) == b"":
                break
        except TimeoutError:
            continue
        except (ConnectionError, ssl.SSLError):
            break
    else:
        raise AssertionError("nobody ends it")
    return time.monotonic() - begun


BEGINNINGS = {
    "nothing yet": b"", "a request's line": b"GET /heal", "headers": b"GET /healthz HTTP/1.1\r\nHost: x\r\nX: ",
    "a body": b"POST /v1/policies/preview HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nContent-Type: application/json\r\nContent-Length: 900\r\n\r\n",
    "after another": b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n",
}


@pytest.mark.parametrize("beginning", BEGINNINGS)
def test_a_request_that_drips_is_cut_off(small, beginning):
    with Counted(small, "http_requests_cut_total"), opened(small) as s:
        sent = BEGINNINGS[beginning]
        s.sendall(sent % small.token.encode() if b"%s" in sent else sent)
        assert drip(s) < 10


def test_a_handshake_that_drips_or_never_comes_is_cut_off(small):
    """And meanwhile others are answered."""
    hello = ssl.MemoryBIO()
    outgoing = ssl.MemoryBIO()
    client = ssl.create_default_context(cadata=small.ca.pem.decode()).wrap_bio(hello, outgoing, server_hostname="127.0.0.1")
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    whole = outgoing.read()
    silent, dripping = opened(small.tls), [opened(small.tls) for _ in range(20)]
    for s in dripping:
        s.sendall(whole[:50])
    context = ssl.create_default_context(cadata=small.ca.pem.decode())
    with context.wrap_socket(opened(small.tls), server_hostname="127.0.0.1") as s:
        s.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert s.recv(4096).startswith(b"HTTP/1.1 200 ")
    for i, s in enumerate(dripping):
        s.settimeout(20)
        assert i > 0 or drip(s, whole[50:51]) < 10
    # It may be told so by an alert.
    for s in silent, *dripping:
        assert read_all(s)[:1] in (b"", b"\x15", b"r")
        s.close()


def test_a_connection_that_says_nothing_is_closed(small):
    begun = time.monotonic()
    with opened(small) as s:
        assert read_all(s) == b"" and time.monotonic() - begun < 10
    with opened(small) as s:
        s.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        assert s.recv(4096).startswith(b"HTTP/1.1 200 ") and read_all(s) == b"" and time.monotonic() - begun < 20


def test_who_hardly_reads_is_cut_off(api, tmp_path):
    server = Server(api, tmp_path / "log", http_idle=1, http_read_rate="64K").await_up()
    server.token = api.tokens["acme"]
    with Counted(server, "http_answers_cut_total"), socket.socket() as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        s.settimeout(20)
        s.connect(("127.0.0.1", server.port))
        s.sendall(f"GET /v1/assets HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {server.token}\r\n\r\n".encode())
        await_true(lambda: s.recv(512) and counted(server, "http_answers_cut_total") == 1, "the end")
        assert not read_all(s).endswith(b"0\r\n\r\n"), "it looks whole"
    whole = get(server, "/v1/assets")
    assert whole.startswith(b"HTTP/1.1 200 ") and whole.endswith(b"0\r\n\r\n")
    server.stop()


def test_connections_of_one_address_and_in_all(small):
    before = counted(small, "http_connections")
    with Counted(small, "http_connections_refused_address_total"):
        held = [opened(small) for _ in range(30)]
        with opened(small) as s:
            assert read_all(s) in (b"", b"reset")
        assert request(small, "GET /healthz HTTP/1.1\r\n", source="127.0.0.2").startswith(b"HTTP/1.1 200 "), "others are answered"
        for s in held:
            s.close()
        await_true(lambda: request(small, "GET /healthz HTTP/1.1\r\n").startswith(b"HTTP/1.1 200 "), "room")
    with Counted(small, "http_connections_refused_total"):
        held = [opened(small, f"127.0.0.{2 + i % 2}") for i in range(40)]
        with opened(small) as s:
            assert read_all(s) in (b"", b"reset")
        for s in held:
            s.close()
        await_true(lambda: request(small, "GET /healthz HTTP/1.1\r\n").startswith(b"HTTP/1.1 200 "), "room")
    await_true(lambda: counted(small, "http_connections") <= before, "the others to be gone")


def test_streams_that_are_open(small):
    with Counted(small, problems("too-many-streams")), opened(small) as s:
        s.sendall(f"GET /v1/events/stream HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {small.token}\r\n\r\n".encode())
        assert s.recv(4096).startswith(b"HTTP/1.1 200 ")
        assert is_problem(get(small, "/v1/events/stream"), 503, "too-many-streams")


def test_a_statement_that_takes_too_long(api, small):
    """Somebody holds the table that it reads."""
    with psycopg2.connect(api.db.uri("fleetstate_owner")) as db, db.cursor() as c:
        assert get(small, "/v1/devices?limit=1").startswith(b"HTTP/1.1 200 ")
        c.execute("BEGIN; LOCK TABLE fleetstate.device IN ACCESS EXCLUSIVE MODE")
        answers = []
        thread = threading.Thread(target=lambda: answers.append(get(small, "/v1/devices?limit=1")))
        thread.start()
        thread.join(10)
        db.rollback()
    assert is_problem(answers[0], 503, "timeout")
    assert counted(small, problems("timeout")) >= 1


def test_registrations(small, api):
    for tenant in "registrar", "neighbour":
        api.db.cli("tenant", "add", tenant, tenant)
    tokens = {tenant: api.db.cli("token", "add", "--tenant", tenant, "--role", "admin", "registers") for tenant in ("registrar", "neighbour")}
    tokens["operator"] = api.db.cli("token", "add", "--role", "operator", "registers too")
    numbers = iter(range(1000))

    def register(n=None, token="registrar", query="", status=201):
        """One, or a list of so many."""
        names = [f"01{next(numbers):032x}" for _ in range(n or 1)]
        body = {"json": {"ueid": names[0]}} if n is None else {"data": "ueid\r\n" + "".join(f"{name}\r\n" for name in names)}
        headers = {"Authorization": "Bearer " + tokens[token], **({} if n is None else {"Content-Type": "text/csv"})}
        answer = requests.post(f"http://127.0.0.1:{small.port}/v1/devices{query}", headers=headers, timeout=30, **body)
        assert answer.status_code == status, answer.text
        if status == 409:
            assert answer.json()["type"] == "urn:fleetstate:problem:too-many-registrations"
        return names

    def has(tenant):
        return api.db.one("SELECT count(*) FROM device JOIN tenant t USING (tenant_id) WHERE t.id = %s", (tenant,))

    first = [register()[0] for _ in range(3)]
    for query in "", "?dry_run=true":
        register(3, query=query, status=409)
    assert has("registrar") == 3
    register(2, query="?dry_run=true", status=200)
    register(2)
    register(status=409)
    register(1, status=409)
    # Who was heard, or is deleted, makes room; another tenant has its own.
    api.db.sql("UPDATE device SET first_seen = now() WHERE ueid = decode(%s, 'hex')", (first[0],))
    register()
    assert requests.delete(f"http://127.0.0.1:{small.port}/v1/devices/{first[1]}", headers={"Authorization": "Bearer " + tokens["registrar"]}, timeout=30).status_code == 204
    register(1)
    register(status=409)
    register(5, "neighbour")
    register(token="neighbour", status=409)
    # An operator may have reasons.
    register(3, "operator", "?tenant=registrar")
    register(None, "operator", "?tenant=registrar")
    assert has("registrar") == 11
