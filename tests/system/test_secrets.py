"""Every kind of secret in use at once, with all told that there is to tell in logs: none of it is there. And what is to be kept back when settings are shown."""

import base64
import os
import re
import subprocess

import pytest
import requests

from certificates import SERVER, Authority
from ingesting import System, await_true
from parts import BIN, free_port
from receiver import Webhook
from test_tls import HERE

PASSWORDS = {role: f"pass-{role}-{os.urandom(6).hex()}" for role in ("ingest", "api", "owner")}


@pytest.fixture(scope="module")
def system(tmp_path_factory):
    directory = tmp_path_factory.mktemp("secrets")
    key = directory / "secret.key"
    key.write_text(os.urandom(32).hex() + "\n")
    key.chmod(0o640)

    def before(system):
        system.ca = Authority(directory, "http-ca")
        system.pair = system.ca.issue("here", (SERVER,), names=[HERE])
        uris = {f"database{suffix}": system.database.uri(f"fleetstate_{role}:{PASSWORDS[role]}")
                for suffix, role in (("", "ingest"), ("_api", "api"), ("_owner", "owner"))}
        system.collector.settings.update(uris, http_certificate=system.pair.crt, http_key=system.pair.key_file, log_level="debug", secret_key=key)
        system.collector.url = system.collector.url.replace("http:", "https:")

    system = System(directory, postgres=["fsync=off", "log_min_messages=debug1", "log_min_error_statement=info"], before=before, sink_networks="127.0.0.1/32", sink_http="yes", sink_timeout="2s")
    system.key = key
    yield system
    system.close()


def lines_of(pem):
    """A key's own text: each of its lines is one that nobody may see."""
    return [line for line in pem.decode().splitlines() if len(line) > 40]


def test_no_secret_is_logged(system):
    url, ca = system.collector.url, str(system.ca.path)
    secrets = {f"password of {role}": text for role, text in PASSWORDS.items()}
    secrets |= {"sealing key": system.key.read_text().strip(), "a password shown as a token": "hunter2-" + os.urandom(6).hex(),
                "a token of somebody else's": "eyJhbGciOiJSUzI1NiJ9." + base64.urlsafe_b64encode(os.urandom(40)).decode().strip("=") + ".c2ln" + os.urandom(9).hex(),
                "an unknown token": "fst_" + base64.urlsafe_b64encode(os.urandom(32)).decode().strip("="), "a sink's own secret": "s3cret-" + os.urandom(12).hex(),
                "a secret in a sink's address": "hook" + os.urandom(12).hex(), "of Basic": base64.b64encode(b"user:" + os.urandom(12).hex().encode()).decode()}
    for role in "viewer", "admin":
        secrets[f"token of a {role}"] = system.database.cli("token", "add", "--tenant", "acme", "--role", role, role)
    for file in system.pair.key_file, system.broker.pki / "receipt.key", system.broker.pki / "collectors/collector.key":
        secrets |= {f"{file.name} {i}": line for i, line in enumerate(lines_of(file.read_bytes()))}

    def ask(method, path, token=None, **more):
        headers = {"Authorization": token if token is None or " " in token else "Bearer " + token, **more.pop("headers", {})}
        return requests.request(method, url + path, headers={k: v for k, v in headers.items() if v}, verify=ca, timeout=20, **more)

    admin = secrets["token of a admin"]
    assert ask("GET", "/v1/fleet", secrets["token of a viewer"]).status_code == 200
    made = ask("POST", "/v1/tokens", admin, json={"role": "viewer", "name": "made"})
    assert made.status_code == 201
    secrets["a token made by HTTP"] = made.json()["token"]
    session = ask("POST", "/v1/session", admin)
    secrets |= {"a session": session.cookies["__Host-fleetstate"], "its value for changes": session.json()["csrf"]}
    cookie = {"Cookie": "__Host-fleetstate=" + secrets["a session"]}
    assert ask("GET", "/v1/session", headers=cookie).status_code == 200
    assert ask("DELETE", "/v1/tokens/99", headers=cookie | {"Fleetstate-CSRF": secrets["its value for changes"], "Origin": url}).status_code == 404
    assert ask("DELETE", "/v1/tokens/99", headers=cookie | {"Fleetstate-CSRF": "x"}).status_code == 403
    for name in "a password shown as a token", "a token of somebody else's", "an unknown token":
        assert ask("GET", "/v1/fleet", secrets[name]).status_code == 401
        assert ask("GET", "/v1/fleet", headers={"Cookie": "__Host-fleetstate=" + secrets[name]}).status_code == 401
        # Where it does not belong.
        assert ask("GET", "/v1/fleet?access_token=" + secrets[name], admin).status_code == 400
    for name in "a token of somebody else's", "an unknown token":
        assert ask("GET", "/v1/devices/" + secrets[name], admin).status_code == 404
        assert ask("GET", "/v1/devices?limit=1&q=" + secrets[name], admin).status_code == 200
    assert ask("GET", "/v1/fleet", "Basic " + secrets["of Basic"]).status_code == 401

    receiver = Webhook(answer=lambda request: 500 if len(receiver.requests) < 2 else 200)
    path = f"/{secrets['a secret in a sink' + chr(39) + 's address']}?key={secrets['a secret in a sink' + chr(39) + 's address']}"
    sinks = [{"kind": "webhook", "name": "mine", "target": f"http://127.0.0.1:{receiver.port}{path}", "secret": secrets["a sink's own secret"]},
             {"kind": "webhook", "name": "nobody", "target": f"http://127.0.0.1:{free_port()}{path}"}]
    for sink in sinks:
        answer = ask("POST", "/v1/sinks", admin, json=sink)
        assert answer.status_code == 201, answer.text
        if "secret" in answer.json():
            secrets["secret of " + sink["name"]] = answer.json()["secret"]
    assert ask("POST", "/v1/sinks", admin, json={**sinks[0], "name": "other", "kind": "none"}).status_code == 400
    device = system.device()
    device.publish(device.full())
    device.receipt_up_to(1)

    def taken():  # how many go together is a matter of time
        return {event["type"] for request in receiver.requests if request.status == 200 for event in request.events}

    await_true(lambda: receiver.requests and receiver.requests[0].status == 500 and "device.enrolled" in taken(), "deliveries after a failure")
    # Who connects anew says so, and a database that is away is told of.
    system.database.stop()
    await_true(lambda: "database: " in system.collector.log() and ask("GET", "/v1/fleet", admin).status_code in (500, 503), "the database missed")
    system.database.start()
    await_true(lambda: ask("GET", "/v1/fleet", admin).status_code == 200, "the database")
    receiver.close()

    def audit():
        return [line for (line,) in system.database.sql("SELECT line FROM audit")]

    await_true(lambda: any("/v1/devices/fst_" in line for line in audit()), "the audit log")
    logs = [path for path in system.directory.rglob("*.log") if path.is_file()]
    text = "\n".join([*(path.read_text(errors="replace") for path in logs), *audit()])
    assert len(logs) >= 2 and text.count("\n") > 100 and "/v1/fleet" in text, "there is nothing to see in them"
    assert {name for name, secret in secrets.items() if secret in text} == set()
    hidden = {name: secret for name, secret in secrets.items() if not re.search(r"^[A-Za-z ]*\.key|password of", name)}
    assert {name for name, secret in hidden.items() if base64.b64encode(secret.encode()).decode().strip("=") in text or secret.encode().hex() in text} == set()


def test_settings_are_shown_without_secrets(system):
    words = [f"--{name.replace('_', '-')}={value}" for name, value in system.collector.settings.items()]
    told = subprocess.run([BIN / "fleetstate-collector", "--check", *words], capture_output=True, text=True, check=True)
    assert "http_certificate" in told.stdout and not any(secret in told.stdout + told.stderr for secret in PASSWORDS.values())
