"""TLS of the HTTP interface on real parts: its versions, its certificate exchanged under open connections, and the certificates that clients show."""

import http.client
import ipaddress
import os
import signal
import socket
import ssl
import subprocess

import pytest
from cryptography import x509

from certificates import SERVER, Authority, write
from parts import BIN, await_true, free_port, is_open
from test_api import Api

HERE = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))


class Server:
    """One more of the same database, with settings of its own."""

    def __init__(self, api, log, **settings):
        self.port, self.log = free_port(), log
        words = [f"--{name.replace('_', '-')}={value}" for name, value in settings.items()]
        with open(log, "wb") as out:
            self.process = subprocess.Popen([BIN / "serve-alone", api.db.uri("fleetstate_api"), str(self.port), "--log-level=debug", *words], stderr=out)

    def await_up(self):
        await_true(lambda: self.process.poll() is not None or is_open(self.port), "the server")
        assert self.process.poll() is None, self.told()
        return self

    def told(self):
        return self.log.read_text(errors="replace")

    def stop(self):
        self.process.terminate()
        assert self.process.wait(20) == 0


@pytest.fixture(scope="module")
def system(tmp_path_factory):
    directory = tmp_path_factory.mktemp("tls")
    api = Api(directory, devices=20)
    api.ca = Authority(directory, "server-ca")
    api.clients = Authority(directory, "client-ca")
    api.pair = api.ca.issue("here", (SERVER,), names=[HERE])
    api.crl = write(directory / "clients.crl", api.clients.revoke())
    api.tls = Server(api, directory / "tls.log", http_certificate=api.pair.crt, http_key=api.pair.key_file, http_client_ca=api.clients.path,
                     http_client_crl=api.crl).await_up()
    yield api
    api.tls.stop()
    api.close()


def context(system, client=None, most=None, least=ssl.TLSVersion.TLSv1_2):
    made = ssl.create_default_context(cadata=system.ca.pem.decode())
    made.minimum_version = least
    if most:
        made.maximum_version = most
    if client:
        made.load_cert_chain(client.crt, client.key_file)
    return made


def connect(system, client=None, port=None, **more):
    connection = http.client.HTTPSConnection("127.0.0.1", port or system.tls.port, timeout=20, context=context(system, client, **more))
    connection.connect()
    return connection


def ask(connection, path="/v1/fleet", token=None):
    connection.request("GET", path, headers={"Authorization": "Bearer " + token} if token else {})
    answer = connection.getresponse()
    return answer.status, answer.read()


def serial(connection):
    return int(connection.sock.getpeercert()["serialNumber"], 16)


def test_it_is_1_3_and_1_2_when_told_so(system, tmp_path):
    connection = connect(system)
    assert connection.sock.version() == "TLSv1.3" and ask(connection, token=system.tokens["acme"])[0] == 200
    assert connection.sock.selected_alpn_protocol() in (None, "http/1.1")
    with pytest.raises(ssl.SSLError):
        connect(system, most=ssl.TLSVersion.TLSv1_2)
    older = Server(system, tmp_path / "log", http_certificate=system.pair.crt, http_key=system.pair.key_file, http_tls="1.2").await_up()
    for most, version in ((ssl.TLSVersion.TLSv1_2, "TLSv1.2"), (None, "TLSv1.3")):
        connection = connect(system, port=older.port, most=most)
        assert connection.sock.version() == version and ask(connection, token=system.tokens["acme"])[0] == 200
    older.stop()


def test_what_is_not_tls_gets_nothing(system):
    with socket.create_connection(("127.0.0.1", system.tls.port), 10) as s:
        s.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        assert not s.recv(4096).startswith(b"HTTP")


def test_beyond_loopback_only_with_tls_or_behind_it(system, tmp_path):
    plain = Server(system, tmp_path / "plain.log", http_listen="0.0.0.0")
    assert plain.process.wait(20) == 1
    assert "http_listen=0.0.0.0 is beyond loopback and there is no TLS: set http_certificate and http_key, or http_tls_proxy=yes" in plain.told()
    for settings in {"http_tls_proxy": "yes"}, {"http_certificate": system.pair.crt, "http_key": system.pair.key_file}:
        Server(system, tmp_path / "log", http_listen="0.0.0.0", **settings).await_up().stop()


@pytest.mark.parametrize("settings, said", [
    ({"http_certificate": "here.crt"}, "http_certificate is set, and http_key is not"),
    ({"http_key": "here.key"}, "http_key is set, and http_certificate is not"),
    ({"http_client_ca": "client-ca.crt"}, "http_client_ca is set, and http_certificate is not"),
    ({"http_certificate": "here.crt", "http_key": "here.key", "http_client_crl": "clients.crl"}, "http_client_crl is set, and http_client_ca is not"),
    ({"http_certificate": "here.crt", "http_key": "none.key"}, "http_key: {dir}/none.key: No such file"),
    ({"http_certificate": "here.crt", "http_key": "here.crt"}, "http_key: {dir}/here.crt: others may read it"),
    ({"http_certificate": "server-ca.crt", "http_key": "here.key"}, "http_certificate and http_key: The certificate and the given key do not match"),
    ({"http_certificate": "here.crt", "http_key": "here.key", "http_client_ca": "here.crt"}, "http_client_ca: one of the certificates is no authority's"),
    ({"http_certificate": "here.crt", "http_key": "here.key", "http_client_ca": "clients.crl"}, "http_client_ca: no self-signed certificate of an authority"),
    ({"http_certificate": "here.crt", "http_key": "here.key", "http_client_ca": "server-ca.crt", "http_client_crl": "clients.crl"},
     "http_client_crl: a list is of none of the authorities"),
])
def test_files_that_are_no_good_are_told_of_at_the_start(system, tmp_path, settings, said):
    directory = system.pair.crt.parent
    if settings.get("http_key") == "here.crt":
        (directory / "here.crt").chmod(0o644)
    server = Server(system, tmp_path / "log", **{name: directory / value for name, value in settings.items()})
    assert server.process.wait(20) != 0
    assert said.format(dir=directory) in server.told()


def test_another_certificate_while_connections_are_open(system):
    """They go on with theirs; new ones have the new one; what is no pair is told of, and the one before stays."""
    token, pid = system.tokens["acme"], system.tls.process.pid
    before = connect(system)
    assert serial(before) == system.pair.certificate.serial_number
    renewed = system.ca.issue("here", (SERVER,), names=[HERE])
    await_true(lambda: serial(connect(system)) == renewed.certificate.serial_number, "the renewed one, unasked")
    assert ask(before, token=token)[0] == 200 and serial(before) == system.pair.certificate.serial_number
    good = renewed.key_file.read_bytes()
    write(renewed.key_file, system.clients.issue("other", file="other").key_file.read_bytes())
    await_true(lambda: "do not match" in system.tls.told(), "what is said of them")
    assert "what was read before stays in use" in system.tls.told()
    assert serial(connect(system)) == renewed.certificate.serial_number
    write(renewed.key_file, good)
    again = system.ca.issue("here", (SERVER,), names=[HERE])
    os.kill(pid, signal.SIGHUP)
    await_true(lambda: serial(connect(system)) == again.certificate.serial_number, "the next, when told so")
    assert ask(before, token=token)[0] == 200 and system.tls.process.poll() is None
    system.pair = again


def test_who_shows_no_certificate_is_who_its_token_says(system):
    assert ask(connect(system), token=system.tokens["acme"])[0] == 200
    assert ask(connect(system))[0] == 401


@pytest.mark.parametrize("order, said", [
    ({"usages": (SERVER,)}, "unsuitable certificate purpose"),
    ({"usages": ()}, "it does not say that it is for TLS clients"),
    ({"days": (-9, -1)}, "certificate has expired"),
    ({"days": (1, 9)}, "certificate is not yet valid"),
])
def test_certificates_that_are_no_good(system, order, said):
    status, body = ask(connect(system, system.clients.issue("bad", **order)), token=system.tokens["acme"])
    assert status == 403 and b"urn:fleetstate:problem:bad-certificate" in body and said.encode() in body, body


def test_certificates_of_others_are_no_good(system, tmp_path):
    token = system.tokens["acme"]
    stranger = Authority(tmp_path, "stranger")
    like_ours = Authority(tmp_path, "client-ca")
    within = Authority(tmp_path, "within", above=system.clients)
    for authority in stranger, like_ours, within:
        status, body = ask(connect(system, authority.issue("alice")), token=token)
        assert status == 403 and b"bad-certificate" in body, body


def test_a_revoked_certificate_also_on_an_open_connection(system):
    """And one whose authority's list is past its time, or is not there."""
    token = system.tokens["acme"]
    alice, bob = system.clients.issue("alice"), system.clients.issue("bob")
    connections = [connect(system, client) for client in (alice, bob)]
    assert [ask(c, token=token)[0] for c in connections] == [200, 200]
    write(system.crl, system.clients.revoke(alice.certificate))
    await_true(lambda: ask(connections[0], token=token)[0] == 403, "the list to be in force")
    status, body = ask(connections[0], token=token)
    assert status == 403 and b"certificate revoked" in body
    assert ask(connections[1], token=token)[0] == 200 and ask(connect(system, alice), token=token)[0] == 403
    write(system.crl, system.clients.revoke(days=(-9, -1)))
    await_true(lambda: ask(connections[1], token=token)[0] == 403, "the list that is over")
    assert b"CRL has expired" in ask(connections[1], token=token)[1]
    assert ask(connect(system), token=token)[0] == 200, "who shows none is not concerned"
    write(system.crl, system.clients.revoke())
    await_true(lambda: ask(connections[1], token=token)[0] == 200, "the list that is good again")
    assert ask(connections[0], token=token)[0] == 200


def test_the_headers_with_and_without(system):
    connection = connect(system)
    connection.request("GET", "/healthz")
    assert connection.getresponse().getheader("Strict-Transport-Security") == "max-age=31536000"
    assert "Strict-Transport-Security" not in system.ask("/healthz", None).headers
