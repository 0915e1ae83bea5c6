"""Ten thousand connections that say nothing, a hundred that send a byte a second and a hundred that hardly read an export: who asks for something else does not notice, and what
they cost is bounded. With TLS there are fewer, since their handshakes take the test's time."""

import http.client
import ssl
import statistics
import subprocess
import sys
import time
from pathlib import Path

import pytest

from certificates import SERVER, Authority
from ingesting import resident
from test_api import Api
from test_tls import HERE, Server

TIMES = 200
LIMIT_MS = 20


@pytest.fixture(scope="module")
def api(tmp_path_factory):
    directory = tmp_path_factory.mktemp("crowd")
    api = Api(directory, devices=3000, told=False)
    yield api
    api.close()


def healthz(server, ca):
    """Milliseconds, each of a new connection's request: median and 99th percentile."""
    took = []
    for _ in range(TIMES):
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
        connection.connect()
        if ca:
            connection.sock = ssl.create_default_context(cafile=ca).wrap_socket(connection.sock, server_hostname="127.0.0.1")
        begun = time.perf_counter()
        connection.request("GET", "/healthz")
        assert connection.getresponse().read()
        took.append((time.perf_counter() - begun) * 1000)
        connection.close()
    return statistics.median(took), statistics.quantiles(took, n=100)[98]


@pytest.mark.parametrize("idle, tls", [(10000, False), (500, True)], ids=["plain", "tls"])
def test_a_crowd_is_not_noticed(api, tmp_path, monkeypatch, idle, tls):
    # What AddressSanitizer keeps of what was freed is not what a connection takes.
    monkeypatch.setenv("ASAN_OPTIONS", "quarantine_size_mb=1", prepend=":")
    settings, ca = {}, None
    if tls:
        authority = Authority(tmp_path, "ca")
        pair, ca = authority.issue("here", (SERVER,), names=[HERE]), str(authority.path)
        settings = {"http_certificate": pair.crt, "http_key": pair.key_file}
    server = Server(api, tmp_path / "log", http_connections_per_address=0, http_idle=600, http_request_time=600, **settings).await_up()
    alone = healthz(server, ca)
    before = resident(server.process.pid) // 1024

    def crowd(*numbers):
        words = [sys.executable, Path(__file__).parent / "crowd.py", server.port, *numbers, "/v1/assets?format=ndjson", api.tokens["acme"]]
        process = subprocess.Popen([str(w) for w in words + ([ca] if ca else [])], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert process.stdout.readline() == "there\n"
        return process

    sitting = crowd(idle, 0, 0)
    with_idle = resident(server.process.pid) // 1024
    slow = crowd(0, 100, 100)
    time.sleep(3)
    with_slow = resident(server.process.pid) // 1024
    among = healthz(server, ca)
    for process in sitting, slow:
        assert process.communicate("", 20)[0] == "0\n", "one of them was closed"
    after = resident(server.process.pid) // 1024
    server.stop()
    print(f"\n/healthz alone {alone[0]:.2f} ms, p99 {alone[1]:.2f}; among {idle + 200} {among[0]:.2f} ms, p99 {among[1]:.2f}; "
          f"{(with_idle - before) / idle:.1f} KiB an idle connection, {(with_slow - with_idle) / 200:.0f} KiB a slow one; {before} {with_idle} {with_slow} {after} KiB")
    # Where the machine itself takes longer, by what it takes.
    assert among[0] < max(LIMIT_MS, 2 * alone[0])
    # Sanitizers add to each allocation.
    assert (with_idle - before) / idle < 64 and (with_slow - with_idle) / 200 < 3000 and after < 1.1 * with_slow
