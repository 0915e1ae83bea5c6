"""`fleetstate --url` writes: each command that changes something does what it says, tells of it in three forms, and says plainly why when it may or can not."""

import csv
import io
import itertools
import json
import os
import re
import subprocess
from typing import Callable, NamedTuple, Optional

import pytest

from certificates import Authority
from parts import BIN, free_port
from test_api import A, DESCRIPTION, Api, ueid
from test_api_writes import LATER
from test_client import OPERATIONS, call

ROLES = {"analyst": "viewer", "admin": "analyst", "operator": "admin"}  # with the one that may not yet
ABSENT = {"ueid": "01" + "f" * 32, "id": "999999999"}
fresh, devices = itertools.count(1), iter(range(1, 98))


@pytest.fixture(scope="module")
def api(tmp_path_factory):
    directory = tmp_path_factory.mktemp("client")
    secret = directory / "secret.key"
    secret.write_text("5" * 64 + "\n")
    secret.chmod(0o600)
    api = Api(directory, devices=120, secret_key=secret)
    api.directory = directory
    api.tokens["viewer"] = api.tokens["acme"]
    for role in "analyst", "admin":
        api.tokens[role] = api.db.cli("token", "add", "--tenant", "acme", "--role", role, role)
    yield api
    api.close()


def name(api):
    return f"n{next(fresh)}"


def device(api):
    return ueid("acme", next(devices))


def stranger(api):
    return ueid("new", next(fresh))


def alert(api):
    return str(api.db.one("INSERT INTO alert (device_id, tenant_id, policy_id) SELECT d.device_id, d.tenant_id, p.policy_id FROM device d, policy p"
                          " WHERE d.ueid = decode(%s, 'hex') AND p.id = 'silent' RETURNING alert_id", (device(api),)))


def made(path, token, **body):
    """Makes what is removed then."""
    def make(api):
        answer = api.ask(path, token, "POST", json={k: v.format(name(api)) if k == "name" else v for k, v in body.items()})
        assert answer.status_code == 201, answer.text
        return str(answer.json()["id"])
    return make


def policy(api):
    made = name(api)
    assert api.ask(f"/v1/policies/{made}", "admin", "PUT", json={"title": "x", "severity": "low", "when": "strict $.a == 1"}).status_code == 201
    return made


def authority(api):
    return Authority(api.directory, f"ca-{next(fresh)}").pem.decode()


def anchor(api):
    return made("/v1/trust-anchors", "operator", name="ca {}", tenant="acme", certificate=authority(api))(api)


def does(*words, thing, by="admin"):
    """That, done first, makes the command one too many."""
    def do(api):
        it = thing(api)
        call(api, *[w.format(it) for w in words], token=by)
        return it
    return do


def tenant(api):
    assert api.ask("/v1/tenants/acme", "admin", "PATCH", json={"personal": "keep"}).status_code == 200
    return "acme"


class Write(NamedTuple):
    """Who may; what it is done to; its words, with that in them; what is so then, and was not before, or the path of what is gone; and of what it is
    a conflict."""
    role: str
    thing: Callable
    words: list
    so: Optional[str]
    conflict: Optional[Callable] = None


DEVICE = "SELECT {} FROM device JOIN tenant t USING (tenant_id) WHERE t.id = 'acme' AND ueid = decode(%s, 'hex')"
CHALLENGE = "SELECT count(*) FROM challenge JOIN device USING (device_id) WHERE ueid = decode(%s, 'hex') AND asked_by = 'analyst'"
MADE_TOKEN = "SELECT count(*) FROM api_token k JOIN tenant t USING (tenant_id) WHERE t.id = 'acme' AND k.name = %s"
ANCHOR = "SELECT count(*) FROM trust_anchor WHERE replace(encode(certificate, 'base64'), E'\n', '') = regexp_replace(%s, '-----[^-]*-----|\\s', '', 'g')"
ALERT = "SELECT {} FROM alert WHERE alert_id = %s::int8"
NOTE = "SELECT count(*) FROM alert_note WHERE alert_id = %s::int8 AND action = '{}' AND who = 'analyst'"
RESOLVED = does("alert", "resolve", "{}", thing=alert, by="analyst")
WRITES = {
    ("device", "add"): Write("admin", stranger, ["ueid={}", "serial=S"], DEVICE.format("serial = 'S'"),
                             does("device", "add", "ueid={}", thing=stranger)),
    ("device", "change"): Write("admin", device, ["{}", 'labels:={{"site":"north"}}', "lifecycle=retired"], DEVICE.format("lifecycle = 'retired' AND labels::text LIKE '%%site=north%%'"),
                                does("device", "change", "{}", "lifecycle=retired", thing=device)),
    ("device", "delete"): Write("admin", device, ["{}"], "/v1/devices/{}", does("device", "change", "{}", 'legal_hold:={{"reason":"a court"}}', thing=device)),
    ("device", "challenge"): Write("analyst", device, ["{}"], CHALLENGE,
                                   does("device", "change", "{}", "lifecycle=retired", thing=device)),
    ("policy", "put"): Write("admin", name, ["{}", "title=A title", "severity=low", "when=strict $.a == 1"], "SELECT count(*) FROM policy WHERE id = %s AND title = 'A title'",
                             lambda api: "silent"),
    ("policy", "delete"): Write("admin", policy, ["{}"], "/v1/policies/{}"),
    ("policy", "preview"): Write("viewer", name, ["when=strict $.boot.secure == false"], None),
    ("alert", "acknowledge"): Write("analyst", alert, ["{}", "comment=mine"], NOTE.format("acknowledge"), RESOLVED),
    ("alert", "silence"): Write("analyst", alert, ["{}", f"until={LATER}"], ALERT.format("silenced_until > now()"), RESOLVED),
    ("alert", "resolve"): Write("analyst", alert, ["{}"], ALERT.format("resolved_at IS NOT NULL"), RESOLVED),
    ("alert", "comment"): Write("analyst", alert, ["{}", "comment=mine"], NOTE.format("comment")),
    ("alert", "acknowledge-all"): Write("analyst", alert, ["ids:=[{}]"], ALERT.format("acknowledged_at IS NOT NULL")),
    ("alert", "silence-all"): Write("analyst", alert, ["ids:=[{}]", f"until={LATER}"], ALERT.format("silenced_until > now()")),
    ("maintenance", "add"): Write("analyst", name, ["title={}", f"until={LATER}"], "SELECT count(*) FROM maintenance WHERE title = %s"),
    ("maintenance", "delete"): Write("analyst", made("/v1/maintenance", "analyst", title="x", until=LATER), ["{}"],
                                      "SELECT count(*) = 0 FROM maintenance WHERE maintenance_id = %s::int8"),
    ("sink", "add"): Write("admin", name, ["name={}", "kind=webhook", "target=https://example.com/"], "SELECT count(*) FROM sink WHERE name = %s",
                           does("sink", "add", "name={}", "kind=webhook", "target=https://example.com/", thing=name)),
    ("sink", "delete"): Write("admin", made("/v1/sinks", "admin", name="s{}", kind="webhook", target="https://example.com/"), ["{}"],
                               "SELECT count(*) = 0 FROM sink WHERE sink_id = %s::int8"),
    ("token", "add"): Write("admin", name, ["role=viewer", "name={}"], MADE_TOKEN),
    ("token", "revoke"): Write("admin", made("/v1/tokens", "admin", name="t{}", role="viewer"), ["{}"], "SELECT revoked_at IS NOT NULL FROM api_token WHERE token_id = %s::int8"),
    ("tenant", "add"): Write("operator", name, ["id={}", "name=A tenant"], "SELECT count(*) FROM tenant WHERE id = %s AND name = 'A tenant'", tenant),
    ("tenant", "change"): Write("admin", tenant, ["{}", "personal=hash"], "SELECT personal = 'hash' FROM tenant WHERE id = %s"),
    ("trust-anchor", "add"): Write("operator", authority, ["tenant=acme", "name=ca", "certificate={}"], ANCHOR,
                                     does("trust-anchor", "add", "tenant=acme", "name=ca", "certificate={}", thing=authority, by="operator")),
    ("trust-anchor", "delete"): Write("operator", anchor, ["{}"], "SELECT count(*) = 0 FROM trust_anchor WHERE trust_anchor_id = %s::int8"),
    ("session", "open"): Write("viewer", name, [], None),
}
COMMANDS = {(noun, verb): (method, path) for noun, verb, method, path in OPERATIONS}
EVERY = pytest.mark.parametrize("noun, verb", WRITES, ids=map("-".join, WRITES))


def words(noun, verb, thing):
    return [noun, verb, *[w.format(thing) for w in WRITES[noun, verb].words]]


def is_so(api, noun, verb, thing):
    so = WRITES[noun, verb].so
    if so is None:
        return False
    if so.startswith("/"):
        return api.ask(so.format(thing)).status_code == 404
    return any(value for value, in api.db.sql(so, (thing,)))


def answer_of(noun, verb):
    """What is described of a good answer's body; None: it has none."""
    method, path = COMMANDS[noun, verb]
    for status in "201", "200":
        content = DESCRIPTION.operations[method, path]["responses"].get(status, {}).get("content")
        if content is not None:
            return (method, path, status), content
    return None


def test_every_write_is_here():
    there = {(m, p) for m, p in DESCRIPTION.operations if m != "GET"} - {("DELETE", "/v1/session")}  # a token is no session
    assert {COMMANDS[command] for command in WRITES} == there


@EVERY
def test_it_does_what_it_says(api, noun, verb):
    """As JSON it says what is described, and as CSV and as a table the same members."""
    write, described, names = WRITES[noun, verb], answer_of(noun, verb), None
    for form in "--json", "--csv", None:
        thing = write.thing(api)
        assert not is_so(api, noun, verb, thing)
        told = call(api, *words(noun, verb, thing), *[form] * bool(form), token=write.role)
        assert write.so is None or is_so(api, noun, verb, thing)
        if described is None:
            assert told == ""
        elif form == "--json":
            at, content = described
            DESCRIPTION.body(at, content, "application/json", told)
            names = set(json.loads(told))
            assert told.count("\n") == 1 and names
        elif form == "--csv":
            head, row = csv.reader(io.StringIO(told, newline=""))
            assert set(head) == names and len(row) == len(head) and told.endswith("\r\n")
        else:
            assert {re.match(r"[^ .]+", line)[0] for line in told.splitlines()} == names


@EVERY
def test_who_may_not_is_told(api, noun, verb):
    write = WRITES[noun, verb]
    thing = write.thing(api)
    assert call(api, *words(noun, verb, thing), token="fst_" + "A" * 43, status=1).startswith("fleetstate: 401 unauthorized: ")
    if write.role != "viewer":
        said = call(api, *words(noun, verb, thing), token=ROLES[write.role], status=1)
        assert said.startswith("fleetstate: 403 forbidden: ") and ROLES[write.role] in said
    assert not is_so(api, noun, verb, thing)


@pytest.mark.parametrize("noun, verb", [c for c in WRITES if "{" in COMMANDS[c][1] and c != ("policy", "put")])
def test_what_is_not_there(api, noun, verb):
    operand = ABSENT[re.search(r"\{(\w+)\}", COMMANDS[noun, verb][1])[1]]
    said = call(api, *words(noun, verb, operand), token=WRITES[noun, verb].role, status=1)
    assert re.fullmatch(r"fleetstate: 404 not-found: There is no such [a-z ]+\.\n", said)


@pytest.mark.parametrize("noun, verb", [c for c in WRITES if WRITES[c].conflict])
def test_what_is_in_the_way(api, noun, verb):
    said = call(api, *words(noun, verb, WRITES[noun, verb].conflict(api)), token=WRITES[noun, verb].role, status=1)
    assert re.fullmatch(r"fleetstate: 409 conflict: .{10,}\n", said)


CONDITIONS = [(*c, option) for c in WRITES for option, header in (("--if-match", "If-Match"), ("--if-none-match", "If-None-Match"))
              if header in [p["name"] for p in map(DESCRIPTION.resolve, DESCRIPTION.operations[COMMANDS[c]].get("parameters", []))]]


@pytest.mark.parametrize("noun, verb, option", CONDITIONS)
def test_only_if_it_is_as_expected(api, noun, verb, option):
    write = WRITES[noun, verb]
    thing = (policy if noun == "policy" else write.thing)(api)
    said = call(api, *words(noun, verb, thing), option, "*" if option == "--if-none-match" else '"999999"', token=write.role, status=1)
    assert re.fullmatch(r"fleetstate: 412 precondition-failed: .{10,}\n", said) and not is_so(api, noun, verb, thing)
    assert "400 bad-parameter" in call(api, *words(noun, verb, thing), option, "x", token=write.role, status=1)


@EVERY
def test_a_condition_that_is_not_looked_at_can_not_be_set(api, noun, verb):
    for option in {"--if-match", "--if-none-match"} - {o for *c, o in CONDITIONS if c == [noun, verb]}:
        assert f"unrecognized option '{option}'" in call(api, *words(noun, verb, "x"), option, "*", token=WRITES[noun, verb].role, status=2)


def test_a_collector_that_is_not_there(api):
    """All at once, as what may be sent again is."""
    url = f"http://127.0.0.1:{free_port()}"
    env = {"FLEETSTATE_TOKEN": api.tokens["admin"], "PATH": os.environ["PATH"]}
    started = [subprocess.Popen([BIN / "fleetstate", "--url", url, *words(*command, "1")], env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for command in WRITES]
    for process, command in zip(started, WRITES):
        out, error = process.communicate(timeout=60)
        assert (process.returncode, out) == (3, "") and error.startswith(f"fleetstate: {url}: ") and error.count("\n") == 1, (command, error)


def test_a_token_is_no_session(api):
    told = json.loads(call(api, "session", "open", "--json"))
    assert told["tenant"] == "acme" and "csrf" in told
    assert call(api, "session", "close", status=1) == "fleetstate: 404 not-found: A token is no session.\n"


@pytest.mark.parametrize("noun, words, so", [
    ("token", ["role=viewer"], MADE_TOKEN.replace("'acme'", "'globex'")),
    ("trust-anchor", ["certificate={}"], "SELECT count(*) FROM trust_anchor a JOIN tenant t USING (tenant_id) WHERE t.id = 'globex' AND a.name = %s")])
def test_an_operator_says_whose_it_is(api, noun, words, so):
    """As a member of what is sent, or as an option, but not two."""
    for whose in ["tenant=globex"], ["--tenant", "globex"], ["--tenant", "globex", "tenant=globex"]:
        called, filled = name(api), [w.format(authority(api)) for w in words]
        assert "400 bad-body: tenant: " in call(api, noun, "add", *filled, f"name={called}", *whose, "--tenant", "acme", "tenant=globex", token="operator", status=1)
        assert not api.db.one(so, (called,))
        call(api, noun, "add", *filled, f"name={called}", *whose, token="operator")
        assert api.db.one(so, (called,)) == 1
    if noun == "token":
        said = call(api, noun, "add", *words, "name=x", token="operator", status=1)
        assert said.startswith("fleetstate: 400 tenant-required: ") and said.endswith("--tenant ID.\n")


def test_what_is_sent_once_is_done_once(api):
    first = call(api, "maintenance", "add", "title=once", f"until={LATER}", "--idempotency-key", "k", "--json", token="analyst")
    assert call(api, "maintenance", "add", "title=once", f"until={LATER}", "--idempotency-key", "k", "--json", token="analyst") == first
    assert "422 key-reused" in call(api, "maintenance", "add", "title=twice", f"until={LATER}", "--idempotency-key", "k", token="analyst", status=1)
    assert api.db.one("SELECT count(*) FROM maintenance WHERE title = 'once'") == 1


@pytest.mark.parametrize("command, wrong, says", [
    (("device", "change", A), ["labels:=1"], "labels"), (("policy", "put", "x"), ["title=x", "severity=low", "when=$.a == 1"], "when"), (("token", "add"), ["role=root", "name=x"], "role"),
    (("maintenance", "add"), ["title=x", "until=never"], "until"), (("sink", "add"), ["name=x", "kind=pigeon", "target=x"], "kind"), (("alert", "acknowledge-all"), ["ids:=1"], "ids"),
    (("device", "add"), ["ueid=1"], "ueid"), (("token", "add"), ["role=viewer"], "name"), (("token", "add"), ["role=viewer", "name=x", "colour=red"], "colour")])
def test_a_wrong_body_is_told_of(api, command, wrong, says):
    said = call(api, *command, *wrong, token="admin", status=1)
    assert said.startswith("fleetstate: 400 bad-body: ") and says in said
