"""The HTTP interface and the command line on a real PostgreSQL: what each route answers, what it refuses, and that no tenant sees another's."""

import base64
import csv
import hashlib
import hmac
import io
import json
import re
import signal
import socket
import subprocess
import time

import psycopg2
import pytest
import requests
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from prometheus_client.openmetrics import parser as openmetrics

from described import Description, openapi
from parts import BIN, ROOT, Database, Session, await_true, free_port, is_open

DEVICES = 2500
DESCRIPTION = Description()  # whatever Api is answered is held against it


def ueid(tenant, i):
    return "01" + hashlib.sha256(f"{tenant} {i}".encode()).hexdigest()[:32]


SEED = """
INSERT INTO device (tenant_id, ueid, lifecycle, posture, reasons, serial, hwmodel, swname, swversion)
SELECT t.tenant_id, decode(u, 'hex'), CASE WHEN i %% 100 = 99 THEN 'pending' ELSE 'active' END,
	(ARRAY['operational', 'degraded', 'silent', 'unknown', 'untrusted'])[1 + i %% 5], '{}', 'S-' || i, 'model-' || i %% 3, 'os', '1.' || i %% 4
FROM tenant t, unnest(%s::text[]) WITH ORDINALITY AS x (u, i) WHERE t.id = %s ORDER BY i;
INSERT INTO device_hot (device_id, tenant_id, epoch, hi, last_seen, interval_s)
SELECT device_id, tenant_id, 81985529216486895, 9, now(), 60 FROM device ON CONFLICT DO NOTHING;
"""
# One device of each tenant has told all there is: three components, nine reports with a hole, a drop and a fork.
TOLD = """
WITH d AS (SELECT device_id, tenant_id FROM device WHERE ueid = decode(%(ueid)s, 'hex')),
i AS (INSERT INTO inventory (tenant_id, digest, components) SELECT tenant_id, sha256('set'), 3 FROM d RETURNING inventory_id, tenant_id),
c AS (INSERT INTO component (tenant_id, digest, type, name, version, purl) SELECT tenant_id, sha256(n::bytea), 'dpkg', n, '1:2.0-3', NULL
	FROM d, unnest('{openssl,zlib1g,busybox}'::text[]) n RETURNING component_id, tenant_id),
ic AS (INSERT INTO inventory_component SELECT inventory_id, component_id, c.tenant_id FROM i, c),
s AS (INSERT INTO device_state SELECT device_id, tenant_id, 81985529216486895, 1, now(), now(), sha256('state'), sha256('set'),
	'{"boot": {"secure": false}, "unknown": {"boot.lockdown": "no securityfs"}}' FROM d),
h AS (INSERT INTO state_history SELECT device_id, now(), 81985529216486895, 1, tenant_id, now(), sha256('state'), sha256('set'), '{}' FROM d),
e AS (INSERT INTO device_epoch (device_id, epoch, tenant_id, first_seen, duplicates, late, forks)
	SELECT device_id, 81985529216486895, tenant_id, now(), 4, 2, 1 FROM d),
g AS (INSERT INTO report_gap (device_id, epoch, missing, tenant_id) SELECT device_id, 81985529216486895, '[4,6)', tenant_id FROM d),
p AS (INSERT INTO report_drop SELECT device_id, 81985529216486895, '[7,8)', tenant_id, 'overwritten', 8 FROM d),
r AS (INSERT INTO refusal_count SELECT device_id, 'bad-signature', tenant_id, 3 FROM d),
f AS (INSERT INTO refusal (received_at, tenant_id, device_id, ueid, reason, size, sha256, sample)
	SELECT now(), tenant_id, device_id, decode(%(ueid)s, 'hex'), 'bad-signature', 5, sha256('x'), '\\x00ff' FROM d, generate_series(1, 3)),
ch AS (INSERT INTO challenge (device_id, tenant_id, nonce, asked_at, asked_by, expires_at, answered_at, round_trip_ms, report_sha256, epoch, seq, outcome)
	SELECT device_id, tenant_id, '\\x0011223344556677', now(), 'test', now(), now(), 12, sha256('x'), 81985529216486895, 2, 'answered' FROM d),
st AS (INSERT INTO challenge_stray SELECT device_id, tenant_id, 3 FROM d),
v AS (INSERT INTO event (tenant_id, type) SELECT tenant_id, 'test' FROM d),
q AS (INSERT INTO report_quiet SELECT device_id, 81985529216486895, n, now() + n * interval '1 ms', tenant_id, now(),
	sha256((%(ueid)s || n)::bytea), 0, 0, (%(ueid)s || n)::bytea FROM d, unnest('{2,3,6,8,9}'::int[]) n)
INSERT INTO report_full SELECT device_id, 81985529216486895, n, now() + n * interval '1 ms' + f * interval '1 us', tenant_id, now(),
	sha256((%(ueid)s || n || 'f' || f)::bytea), f * 2, 3, (%(ueid)s || n || 'f' || f)::bytea FROM d, (VALUES (1, 0), (3, 1)) x (n, f);
"""
EPOCH = "0123456789abcdef"


class Api:
    def __init__(self, directory, devices=DEVICES, told=True, **settings):
        self.settings = [f"--{name.replace('_', '-')}={value}" for name, value in settings.items()]
        self.db = Database(directory, "fsync=off")
        self.tokens = {}
        for tenant in "acme", "globex":
            self.db.cli("tenant", "add", tenant, tenant.title())
            self.tokens[tenant] = self.db.cli("token", "add", "--tenant", tenant, "--role", "viewer", "test")
            self.db.sql(SEED, ([ueid(tenant, i) for i in range(devices)], tenant))
            if told:
                self.db.sql(TOLD, {"ueid": ueid(tenant, 0)})
        self.tokens["operator"] = self.db.cli("token", "add", "--role", "operator", "test")
        self.start()

    def start(self):
        self.port = free_port()
        self.process = subprocess.Popen([BIN / "serve-alone", self.db.uri("fleetstate_api"), str(self.port), *self.settings])
        await_true(self.is_up, "the server")
        self.session = Session()

    def stop(self):
        self.process.terminate()
        assert self.process.wait(20) == 0

    def close(self):
        self.stop()
        self.db.stop()

    def is_up(self):
        assert self.process.poll() is None
        return is_open(self.port)

    def ask(self, path, token="acme", method="GET", source=None, **more):
        headers = {"Authorization": "Bearer " + self.tokens.get(token, token)} if token else {}
        if source is not None:
            headers["X-Forwarded-For"] = source
        answer = self.session.request(method, f"http://127.0.0.1:{self.port}{path}", headers={**headers, **more.pop("headers", {})}, timeout=20, **more)
        DESCRIPTION.check_answer(answer, None if more.get("stream") else answer.content)
        return answer

    def get(self, path, token="acme"):
        answer = self.ask(path, token)
        assert answer.status_code == 200, (path, answer.status_code, answer.text)
        return answer.json()

    def problem(self, status, name, path, token="acme", **more):
        answer = self.ask(path, token, **more)
        assert (answer.status_code, answer.headers["Content-Type"]) == (status, "application/problem+json"), (path, answer.text)
        assert answer.json()["type"] == "urn:fleetstate:problem:" + name and answer.json()["status"] == status
        return answer

    def raw(self, request):
        """Bytes out, bytes in, until the server closes."""
        with socket.create_connection(("127.0.0.1", self.port), 10) as s:
            s.sendall(request)
            return b"".join(iter(lambda: s.recv(65536), b""))

    def pages(self, path, token="acme", after=None):
        items, cursor = [], after and f"{'&' if '?' in path else '?'}cursor={after}" or ""
        while cursor is not None:
            page = self.get(path + cursor, token)
            items += page["items"]
            cursor = page["next"] and f"{'&' if '?' in path else '?'}cursor={page['next']}"
        return items


@pytest.fixture(scope="module")
def api(tmp_path_factory):
    directory = tmp_path_factory.mktemp("api")
    api = Api(directory)
    yield api
    api.close()


@pytest.fixture(scope="module")
def described():
    return openapi()


A, B = ueid("acme", 0), ueid("globex", 0)
DEVICE_ROUTES = ["", "/state", "/inventory", "/ledger", "/challenges", "/reports", f"/reports/{EPOCH}/2"]
TENANT_ROUTES = ["/v1/fleet", "/v1/devices", *(f"/v1/devices/{A}{r}" for r in DEVICE_ROUTES), "/v1/refusals", "/v1/events",
                 "/v1/reports/" + hashlib.sha256(f"{A}2".encode()).hexdigest()]
OPEN_ROUTES = ["/healthz", "/readyz", "/openapi.yaml", "/", "/app.js"]
LISTS = ["/v1/devices", f"/v1/devices/{A}/inventory", f"/v1/devices/{A}/reports", "/v1/refusals"]


ROUTES = re.findall(r'^ROUTE\("([A-Z]+)", "([^"]+)", (\w+), (\w+), \w+, "([^"]*)", (\w+)\)$', (ROOT / "collector/routes.def").read_text(), re.M)


def test_table_and_description_agree(described):
    rows = {}
    for method, path, role, scope, parameters, how in ROUTES:
        assert (method.lower(), path) not in rows
        rows[method.lower(), path] = (role, set(parameters.split()), how)
    assert set(rows) == {(method, path) for path, operations in described["paths"].items() for method in operations}
    for (method, path), (role, parameters, how) in rows.items():
        operation = described["paths"][path][method]
        assert (operation.get("security") == []) == (role == "NONE"), path
        assert how != "WRITES" or role not in ("NONE", "VIEWER") or path == "/v1/session", path
        assert ("requestBody" not in operation) or method != "get", path
        known = described["components"]["parameters"]
        listed = [known[p["$ref"].rsplit("/", 1)[1]] if "$ref" in p else p for p in operation.get("parameters", [])]
        assert {p["name"] for p in listed if p["in"] == "query"} == parameters | ({"tenant"} if role != "NONE" else set()), path
        assert {p["name"] for p in listed if p["in"] == "path"} == set(re.findall(r"\{(\w+)\}", path))
        assert role in ("NONE", "VIEWER") or f"Role {role.lower()}" in operation["description"], f"{path} does not say who may"


def test_problems_are_described(described):
    names = re.findall(r'^PROBLEM\(\w+, "([^"]+)"', (ROOT / "collector/problems.def").read_text(), re.M)
    text = described["components"]["responses"]["Problem"]["description"]
    assert names and all(re.search(rf"\b{n}\b", text) for n in names)


def check(value, schema, described, at="answer"):
    """As much of JSON Schema as the description uses; members that it does not name are errors here."""
    if "$ref" in schema:
        node = described
        for step in schema["$ref"].lstrip("#/").split("/"):
            node = node[step]
        return check(value, node, described, at)
    if "allOf" in schema:
        names = set()
        for part in schema["allOf"]:
            names |= check(value, part, described, at) or set()
        return names
    if "enum" in schema:
        assert value in schema["enum"], (at, value)
    if "const" in schema:
        assert value == schema["const"], (at, value)
    kinds = schema.get("type", [])
    kinds = [kinds] if isinstance(kinds, str) else kinds
    kind = {dict: "object", list: "array", str: "string", bool: "boolean", int: "integer", type(None): "null"}[type(value)]
    assert not kinds or kind in kinds, (at, value, kinds)
    if isinstance(value, str):
        assert re.search(schema.get("pattern", ""), value), (at, value)
        if schema.get("format") == "date-time":
            assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", value), (at, value)
    if isinstance(value, int) and "minimum" in schema:
        assert value >= schema["minimum"], (at, value)
    if isinstance(value, list):
        for i, item in enumerate(value):
            check(item, schema.get("items", {}), described, f"{at}[{i}]")
    if isinstance(value, dict):
        assert set(schema.get("required", [])) <= set(value), (at, value)
        for name, part in schema.get("properties", {}).items():
            if name in value:
                check(value[name], part, described, f"{at}.{name}")
        for name in value:
            if "additionalProperties" in schema:
                check(value[name], schema["additionalProperties"], described, f"{at}.{name}")
        return set(schema.get("properties", {})) | (set(value) if "additionalProperties" in schema else set())
    return None


@pytest.mark.parametrize("path", ["/v1/fleet", "/v1/devices", "/v1/devices/{ueid}", *("/v1/devices/{ueid}" + r for r in DEVICE_ROUTES[1:5]),
                                  "/v1/refusals", "/healthz", "/readyz"])
def test_answers_are_as_described(api, described, path):
    answer = api.get(path.replace("{ueid}", A))
    response = described["paths"][path]["get"]["responses"]["200"]
    if "$ref" in response:
        response = described["components"]["responses"][response["$ref"].rsplit("/", 1)[1]]
    names = check(answer, response["content"]["application/json"]["schema"], described)
    assert set(answer) <= names, "members that the description does not name"


def test_fleet(api):
    fleet = api.get("/v1/fleet")
    assert (fleet["tenant"], fleet["total"], fleet["lifecycle"]["pending"]) == ("acme", DEVICES * 99 // 100, DEVICES // 100)
    for key in "posture", "model", "firmware":
        assert sum(fleet[key].values()) == fleet["total"]
    api.db.sql("UPDATE device SET posture = 'silent' WHERE ueid = decode(%s, 'hex')", (ueid("acme", 3),))
    changed = api.get("/v1/fleet")["posture"]
    api.db.sql("SELECT fold_fleet_count()")
    assert changed["silent"] == fleet["posture"]["silent"] + 1 and api.get("/v1/fleet")["posture"] == changed
    api.db.sql("UPDATE device SET posture = 'untrusted' WHERE ueid = decode(%s, 'hex')", (ueid("acme", 3),))
    assert api.get("/v1/fleet") == fleet


def test_one_device(api):
    device = api.get("/v1/devices/" + A)
    assert (device["ueid"], device["tenant"], device["epoch"], device["seq"]) == (A, "acme", EPOCH, 9)
    assert device["ledger"] == {"duplicates": 4, "late": 2, "forks": 1, "chain_breaks": 0, "missing": 2}
    state = api.get(f"/v1/devices/{A}/state")
    assert state["state"]["boot"] == {"secure": False}
    inventory = api.get(f"/v1/devices/{A}/inventory")
    assert (inventory["complete"], inventory["components"]) == (True, 3)
    assert {c["name"] for c in inventory["items"]} == {"openssl", "zlib1g", "busybox"} and "purl" not in inventory["items"][0]
    for part in "/state", "/inventory":
        api.problem(404, "not-found", f"/v1/devices/{ueid('acme', 5)}{part}")
    assert api.get(f"/v1/devices/{ueid('acme', 5)}/reports") == {"items": [], "next": None}


DEVICE_TOLD = """
SELECT v.item::jsonb || jsonb_build_object('challenge', (SELECT challenge_json(c) FROM challenge c WHERE c.device_id = v.device_id ORDER BY challenge_id DESC LIMIT 1),
	'ledger', (SELECT jsonb_build_object('duplicates', coalesce(sum(duplicates), 0), 'late', coalesce(sum(late), 0), 'forks', coalesce(sum(forks), 0),
	'chain_breaks', coalesce(sum(chain_breaks), 0), 'missing', (SELECT coalesce(sum(upper(missing) - lower(missing)), 0) FROM report_gap g WHERE g.device_id = v.device_id))
	FROM device_epoch e WHERE e.device_id = v.device_id), 'legal_hold', device_hold_json(v.device_id)) FROM device_item v WHERE v.ueid = decode(%s, 'hex')
"""
DEVICE_HAS = """
UPDATE device SET vendor = E'q"\\\\\\x01', support_until = '2031-02-03', labels = '{a,b:c}', reasons = '{x}', hold_since = now(), hold_reason = 'why "so"', hold_by = 'who'
	WHERE ueid = decode(%(held)s, 'hex');
UPDATE device_hot SET last_seen = NULL, hi = 0 WHERE device_id = (SELECT device_id FROM device WHERE ueid = decode(%(unheard)s, 'hex'));
INSERT INTO device_epoch (device_id, epoch, tenant_id, first_seen, duplicates, late, forks, chain_breaks) SELECT device_id, n, tenant_id, now(), n, 2 * n, 4503599627370495, 3
	FROM device, generate_series(1, 2) n WHERE ueid = decode(%(held)s, 'hex');
INSERT INTO report_gap (device_id, epoch, missing, tenant_id) SELECT device_id, n, '[1,4503599627370496)', tenant_id FROM device, generate_series(1, 2) n
	WHERE ueid = decode(%(held)s, 'hex');
INSERT INTO challenge (device_id, tenant_id, nonce, asked_at, asked_by, expires_at, outcome) SELECT device_id, tenant_id, '\\x0011223344556677', now(), 'q"', now(), o
	FROM device, unnest('{replaced,NULL}'::text[]) o WHERE ueid = decode(%(held)s, 'hex');
"""


def test_one_device_is_as_the_list_and_the_database_have_it(tmp_path):
    api = Api(tmp_path, 10)
    try:
        held, unheard, plain = (ueid("acme", i) for i in (6, 7, 8))
        api.db.sql(DEVICE_HAS, {"held": held, "unheard": unheard})
        listed = {item["ueid"]: item for item in api.get("/v1/devices")["items"]}
        for by_tenant in False, True:
            if by_tenant:
                api.db.sql("UPDATE tenant SET hold_since = now(), hold_reason = 'all', hold_by = 'who' WHERE id = 'acme'")
            for device in A, held, unheard, plain:
                one = api.get(f"/v1/devices/{device}")
                assert one == api.db.one(DEVICE_TOLD, (device,))
                assert list(one.items())[:len(listed[device])] == list(listed[device].items()), "in this order"
                assert list(one)[len(listed[device]):] == ["challenge", "ledger", "legal_hold"]
                assert (one["legal_hold"] or {}).get("scope") == ("device" if device == held else "tenant" if by_tenant else None)
            assert (one["challenge"], one["legal_hold"] is not None) == (None, by_tenant)
        assert api.get(f"/v1/devices/{B}", "globex")["legal_hold"] is None, "another tenant is held"
        epochs = api.get(f"/v1/devices/{held}/ledger")["epochs"]
        assert [(e["received"], e["missing"]) for e in epochs] == [([], [[1, 4503599627370495]])] * 2, "of which none has come"
        for token, device in ("globex", held), ("acme", B), ("acme", ueid("acme", 11)):
            api.problem(404, "not-found", f"/v1/devices/{device}", token)
    finally:
        api.close()


def test_ledger(api):
    ledger = api.get(f"/v1/devices/{A}/ledger")
    [epoch] = ledger["epochs"]
    assert (epoch["received"], epoch["missing"], epoch["dropped"]) == ([[1, 3], [6, 6], [8, 9]], [[4, 5]], [[7, 7]])
    assert (epoch["epoch"], epoch["forks"], epoch["late"], ledger["refused"]) == (EPOCH, 1, 2, {"bad-signature": 3})


def test_evidence(api):
    reports = api.pages(f"/v1/devices/{A}/reports?limit=2")
    assert [r["seq"] for r in reports] == [1, 2, 3, 3, 6, 8, 9]
    assert [r["flags"] for r in reports if r["flags"]] == [["fork"]]
    assert reports[0]["sections"] == ["state", "inventory"]
    for report in reports:
        answer = api.ask("/v1/reports/" + report["sha256"])
        assert answer.headers["Content-Type"] == "application/eat+cwt" and answer.headers["ETag"] == f'"{report["sha256"]}"'
        assert hashlib.sha256(answer.content).hexdigest() == report["sha256"] and len(answer.content) == report["size"]
    assert api.ask(f"/v1/devices/{A}/reports/{EPOCH}/2").content == f"{A}2".encode()
    fork = api.ask(f"/v1/devices/{A}/reports/{EPOCH}/3")
    assert fork.status_code == 300 and len(fork.json()["items"]) == 2
    assert api.pages(f"/v1/devices/{A}/reports?epoch={EPOCH}&limit=3") == reports
    assert api.get(f"/v1/devices/{A}/reports?epoch={'0' * 16}")["items"] == []
    api.problem(400, "bad-parameter", f"/v1/devices/{A}/reports?epoch=7")
    for path in f"/v1/devices/{A}/reports/{EPOCH}/4", f"/v1/devices/{A}/reports/{EPOCH}/02", f"/v1/devices/{A}/reports/zz/2", "/v1/reports/zz":
        api.problem(404, "not-found", path)


def test_a_report_whose_retention_is_over_is_gone(api):
    """What was never here, or was declared dropped, is not there, before and after."""
    was = ueid("acme", 7)
    api.db.sql("WITH d AS (SELECT device_id, tenant_id FROM device WHERE ueid = decode(%s, 'hex')), g AS (INSERT INTO report_gap (device_id, epoch, missing, tenant_id)"
               " SELECT device_id, 81985529216486895, '[3,5)', tenant_id FROM d), p AS (INSERT INTO report_drop SELECT device_id, 81985529216486895, '[6,7)', tenant_id,"
               " 'overwritten', 8 FROM d) INSERT INTO report_expired SELECT device_id, 81985529216486895, false, tenant_id, 9, sha256('x'), 6 FROM d", (was,))
    for seq in 1, 2, 5, 7, 9:
        api.problem(410, "gone", f"/v1/devices/{was}/reports/{EPOCH}/{seq}")
        api.problem(404, "not-found", f"/v1/devices/{was}/reports/{EPOCH}/{seq}", "globex")
    for seq in 3, 4, 6, 10:
        api.problem(404, "not-found", f"/v1/devices/{was}/reports/{EPOCH}/{seq}")
    api.problem(404, "not-found", f"/v1/devices/{was}/reports/0123456789abcdee/1")
    api.db.sql("DELETE FROM report_gap WHERE device_id = (SELECT device_id FROM device WHERE ueid = decode(%s, 'hex'))", (was,))


def test_an_answer_is_compressed_for_who_wants_it_and_not_sent_to_who_has_it(api):
    def ask(path, **headers):
        headers = {"Authorization": "Bearer " + api.tokens["acme"], **{k.replace("_", "-"): v for k, v in headers.items()}}
        return requests.get(f"http://127.0.0.1:{api.port}{path}", headers=headers, stream=True, timeout=20)

    plain = ask("/v1/devices?limit=500", Accept_Encoding="identity")
    text = plain.raw.read()
    assert "Content-Encoding" not in plain.headers and plain.headers["Vary"] == "Accept-Encoding"
    for coding, unpack in ("gzip", ["gzip", "-dc"]), ("zstd", ["zstd", "-dcq"]):
        packed = ask("/v1/devices?limit=500", Accept_Encoding=coding)
        raw = packed.raw.read(decode_content=False)
        assert packed.headers["Content-Encoding"] == coding and packed.headers["ETag"] == plain.headers["ETag"]
        assert int(packed.headers["Content-Length"]) == len(raw) < len(text) / 4
        assert subprocess.run(unpack, input=raw, capture_output=True, check=True).stdout == text
        again = ask("/v1/devices?limit=500", Accept_Encoding=coding, If_None_Match=f'"x", {plain.headers["ETag"]}')
        assert again.status_code == 304 and again.raw.read() == b"" and again.headers["ETag"] == plain.headers["ETag"]
    assert ask("/v1/devices?limit=499", If_None_Match=plain.headers["ETag"]).status_code == 200
    head = requests.head(f"http://127.0.0.1:{api.port}/v1/devices?limit=500", headers=dict(plain.request.headers), timeout=20)
    assert (head.status_code, head.headers["ETag"], int(head.headers["Content-Length"])) == (200, plain.headers["ETag"], len(text))
    # Evidence is sent as it was signed, and need not be fetched twice either.
    sha256 = api.get(f"/v1/devices/{A}/reports?limit=1")["items"][0]["sha256"]
    signed = ask("/v1/reports/" + sha256, Accept_Encoding="gzip, zstd")
    assert hashlib.sha256(signed.raw.read(decode_content=False)).hexdigest() == sha256 and "Content-Encoding" not in signed.headers
    assert ask("/v1/reports/" + sha256, If_None_Match=f'"{sha256}"').status_code == 304
    # A stream is one whole too, of one piece and of many.
    for path in "/v1/assets?format=csv", "/v1/assets?format=cyclonedx", "/v1/devices?format=ndjson", "/v1/devices?format=csv&model=none":
        whole = ask(path, Accept_Encoding="identity").raw.read()
        for coding, unpack in ("gzip", ["gzip", "-dc"]), ("zstd", ["zstd", "-dcq"]):
            packed = ask(path, Accept_Encoding=coding)
            assert (packed.headers["Content-Encoding"], packed.headers["Vary"]) == (coding, "Accept-Encoding")
            raw = packed.raw.read(decode_content=False)
            unpacked = subprocess.run(unpack, input=raw, capture_output=True, check=True).stdout
            assert re.sub(b'"(serialNumber|timestamp)":"[^"]*"', b"", unpacked) == re.sub(b'"(serialNumber|timestamp)":"[^"]*"', b"", whole)
            assert len(raw) < len(whole) / 3 or len(whole) < 1000
    # What is refused is told in full, whoever has what.
    assert ask("/v1/devices?limit=0", If_None_Match="*").json()["status"] == 400
    assert requests.get(f"http://127.0.0.1:{api.port}/v1/devices", headers={"If-None-Match": "*"}, timeout=20).status_code == 401


def test_what_is_got_is_what_if_match_names(api):
    """By strong comparison (RFC 9110 13.1.1, 13.2.2), of streams and of HEAD too."""
    def told(path, token="acme", method="GET", **headers):
        answer = api.ask(path, token, method, headers={k.replace("_", "-"): v for k, v in headers.items()})
        assert answer.status_code != 412 or "ETag" not in answer.headers and (method == "HEAD" or answer.json()["type"] == "urn:fleetstate:problem:precondition-failed")
        return answer.status_code

    sha256 = api.get(f"/v1/devices/{A}/reports?limit=1")["items"][0]["sha256"]
    streams = "/v1/assets", "/v1/assets?format=csv&changed_since=0", "/v1/devices?format=ndjson", "/v1/events/stream"
    for path in f"/v1/devices/{A}", "/v1/reports/" + sha256, "/v1/tenants/acme":
        tag = api.ask(path, "operator" if "tenants" in path else "acme").headers["ETag"]
        for method in "GET", "HEAD":
            for good in tag, "*", f'"x", {tag}', f"W/{tag}, {tag}":
                assert told(path, "operator" if "tenants" in path else "acme", method, If_Match=good) == 200, (path, good)
            for bad in '"x"', f"W/{tag}", tag[:-1], tag.strip('"'), "", "x, *", f"{tag}, x":
                assert told(path, "operator" if "tenants" in path else "acme", method, If_Match=bad) == 412, (path, bad)
        assert told(path, "operator" if "tenants" in path else "acme", If_Match=tag, If_None_Match=tag) == 304
        assert told(path, "operator" if "tenants" in path else "acme", If_Match='"x"', If_None_Match=tag) == 412, "this one counts first"
    for path in "/v1/fleet", "/v1/devices", "/v1/alerts?format=csv", "/app.js", *streams[:3]:
        tag = api.ask(path).headers.get("ETag", 'W/"x"')
        assert told(path, If_Match="*") == 200
        for bad in tag, tag.removeprefix("W/"), '"x"':
            assert told(path, If_Match=bad) == told(path, method="HEAD", If_Match=bad) == 412, path
    assert told(streams[3], If_Match='"x"') == 412
    # What would be no 200 is told as it is.
    for path, token, status in ("/v1/devices?limit=0", "acme", 400), (f"/v1/devices/{B}", "acme", 404), ("/v1/tenants", "acme", 403), ("/v1/devices", "fst_x", 401):
        assert told(path, token, If_Match='"x"') == status
    # Nor is anything done that looks at no revision.
    before = api.db.one("SELECT count(*) FROM api_token WHERE revoked_at IS NULL")
    number = api.db.one("SELECT min(token_id) FROM api_token WHERE role = 'operator'")
    assert told(f"/v1/tokens/{number}", "operator", "DELETE", If_Match='"1"') == told("/v1/tokens/999999", "operator", "DELETE", If_Match='W/"1"') == 412
    assert told("/v1/tokens/999999", "operator", "DELETE", If_Match="*") == 404 and told(f"/v1/tokens/{number}", "acme", "DELETE", If_Match='"1"') == 403
    assert api.ask("/v1/tokens", "operator", "POST", json={"role": "operator", "name": "x"}, headers={"If-Match": '"1"'}).status_code == 412
    assert api.db.one("SELECT count(*) FROM api_token WHERE revoked_at IS NULL") == before


def test_the_head_of_a_stream_is_nothing_but_a_head(api):
    """Whatever came behind it would be taken for the next answer on the connection."""
    for path in "/v1/assets", "/v1/devices?format=csv", "/v1/events/stream", "/v1/fleet":
        lines = [f"HEAD {path} HTTP/1.1", "Host: x", "Authorization: Bearer " + api.tokens["acme"]] + ["Connection: close"] * (path == "/v1/fleet")
        told = api.raw("\r\n".join(lines + ["", ""]).encode())
        assert told.startswith(b"HTTP/1.1 200 ") and told.index(b"\r\n\r\n") == len(told) - 4, told


def test_the_whole_list_as_a_stream(api):
    listed = api.pages("/v1/devices?limit=1000")
    answer = api.ask("/v1/devices?format=ndjson")
    assert answer.headers["Content-Type"] == "application/x-ndjson" and "Content-Length" not in answer.headers
    assert [json.loads(line) for line in answer.text.splitlines()] == listed and len(listed) == DEVICES
    answer = api.ask("/v1/devices?format=csv")
    assert answer.headers["Content-Type"] == "text/csv; charset=utf-8; header=present" and answer.text.endswith("\r\n")
    rows = list(csv.DictReader(io.StringIO(answer.text, newline="")))
    assert [r["ueid"] for r in rows] == [d["ueid"] for d in listed]
    assert set(rows[0]) == set(listed[0]) and all(r["posture"] == d["posture"] and r["seq"] == str(d["seq"]) for r, d in zip(rows, listed))
    silent = [json.loads(line) for line in api.ask("/v1/devices?format=ndjson&posture=silent&model=model-1").text.splitlines()]
    assert silent == [d for d in listed if (d["posture"], d["hwmodel"]) == ("silent", "model-1")]
    assert api.ask("/v1/devices?format=ndjson&model=none").text == "" and api.ask("/v1/devices?format=csv&model=none").text.count("\r\n") == 1
    for query in "format=xml", "format=", "format=csv&limit=10", "format=ndjson&cursor=x", "format=csv&posture=fine":
        api.problem(400, "bad-parameter", "/v1/devices?" + query)
    api.problem(401, "unauthorized", "/v1/devices?format=csv", "nobody's")


def test_a_stream_that_is_not_whole_does_not_look_whole(api):
    """Its token is revoked while it is read: what has come is no list of all devices, and the client is told."""
    token = api.db.cli("token", "add", "--tenant", "acme", "--role", "viewer", "short-lived")
    with socket.create_connection(("127.0.0.1", api.port), 10) as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        s.sendall(f"GET /v1/devices?format=ndjson HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n\r\n".encode())
        got = s.recv(4096)
        assert got.startswith(b"HTTP/1.1 200")
        api.db.sql("UPDATE api_token SET revoked_at = now() WHERE name = 'short-lived'")
        got += b"".join(iter(lambda: s.recv(65536), b""))
    assert 0 < got.count(b'"ueid"') < DEVICES and not got.endswith(b"0\r\n\r\n")


def test_refusals(api):
    items = api.pages("/v1/refusals?limit=2&reason=bad-signature&ueid=" + A)
    assert len(items) == 3 and base64.b64decode(items[0]["sample"]) == b"\x00\xff"
    assert api.get("/v1/refusals?reason=malformed")["items"] == []


@pytest.mark.parametrize("filters, keep", [
    ("", lambda i: True),
    ("posture=degraded", lambda i: i % 5 == 0),
    ("model=model-2", lambda i: (i + 1) % 3 == 2),
    ("firmware=1.3&posture=degraded", lambda i: (i + 1) % 4 == 3 and i % 5 == 0),
    ("lifecycle=pending", lambda i: (i + 1) % 100 == 99),
    ("q=s-77", lambda i: str(i + 1).startswith("77")),
    ("component=openssl", lambda i: i == 0),
    ("component=openssl&component_version=1%3A2.0-3", lambda i: i == 0),
    ("component=openssl&component_version=2", lambda i: False),
])
@pytest.mark.parametrize("limit", [7, 1000])
def test_every_device_once(api, filters, keep, limit):
    """In order of enrolment, across pages, whatever leads."""
    if limit == 7 and not filters:
        limit = 97
    got = [d["ueid"] for d in api.pages(f"/v1/devices?limit={limit}&{filters}")]
    assert got == [ueid("acme", i) for i in range(DEVICES) if keep(i)]


def test_a_device_that_enrols_while_paging_is_seen_and_none_twice(api):
    first = api.get("/v1/devices?limit=1000")
    new = ueid("acme", "late")
    api.db.sql("INSERT INTO device (tenant_id, ueid, lifecycle) SELECT tenant_id, decode(%s, 'hex'), 'retired' FROM tenant WHERE id = 'acme'", (new,))
    rest = api.pages("/v1/devices?limit=1000", after=first["next"])
    seen = [d["ueid"] for d in first["items"] + rest]
    assert len(seen) == len(set(seen)) == DEVICES + 1 and seen[-1] == new
    api.db.sql("DELETE FROM device WHERE ueid = decode(%s, 'hex')", (new,))


def test_links(api):
    answer = api.ask("/v1/devices?limit=2&model=model-1&q=s")
    target = re.fullmatch(r'<(.*)>; rel="next"', answer.headers["Link"])[1]
    assert api.get(target) == api.get(f"/v1/devices?limit=2&model=model-1&q=s&cursor={answer.json()['next']}")
    assert "Link" not in api.ask("/v1/devices?component=openssl").headers


@pytest.mark.parametrize("path", LISTS)
@pytest.mark.parametrize("value", ["0", "1001", "abc", "-1", "1.5", "", "99999999999999999999", "1e2", "%201"])
def test_limits(api, path, value):
    api.problem(400, "bad-parameter", f"{path}?limit={value}")


@pytest.mark.parametrize("path", LISTS)
def test_cursors(api, path):
    good = api.get(path + "?limit=1")["next"]
    assert good and api.ask(f"{path}?limit=2&cursor={good}").status_code == 200, "the limit may change"
    flip = "B" if good[9] != "B" else "C"
    wrong = ["", "x", "*", good[:-1], good + "A", good[:9] + flip + good[10:], good[:-2] + ("BA" if good[-2:] != "BA" else "CA"), "A" * len(good)]
    for cursor in wrong:
        api.problem(400, "bad-cursor", f"{path}?limit=1&cursor={cursor}")
    for other in LISTS:
        if other != path:
            api.problem(400, "bad-cursor", f"{other}?cursor={good}")


def test_a_cursor_is_bound_to_filters_device_and_tenant(api):
    cursor = api.get("/v1/devices?limit=1&model=model-1")["next"]
    for filters in "", "&model=model-2", "&model=model-1&posture=silent", "&q=model-1", "&firmware=model-1":
        api.problem(400, "bad-cursor", f"/v1/devices?cursor={cursor}{filters}")
    api.problem(400, "bad-cursor", f"/v1/devices?cursor={cursor}&model=model-1", "globex")
    reports = api.get(f"/v1/devices/{A}/reports?limit=1")["next"]
    api.problem(400, "bad-cursor", f"/v1/devices/{ueid('acme', 5)}/reports?cursor={reports}")


def test_a_cursor_outlives_the_collector(api):
    cursor = api.get("/v1/devices?limit=1")["next"]
    api.stop()
    api.start()
    assert api.get("/v1/devices?limit=1&cursor=" + cursor)["items"][0]["ueid"] == ueid("acme", 1)


def etag_hash(secret, body):
    key = hmac.digest(secret, b"etag", "sha256")
    return hashlib.sha256(key[16:] + (body if len(body) <= 8192 else AESGCM(key[:16]).encrypt(bytes(12), b"", body))).hexdigest()


def test_a_tag_outlives_the_collector_and_is_made_with_the_database_s_secret(api):
    """So whichever collector answers, it is the same; and who chooses what is in an answer can't find another with its tag."""
    paths = "/v1/devices?limit=500", f"/v1/devices/{ueid('acme', 5)}", "/healthz", "/", "/openapi.yaml"
    secret = bytes(api.db.one("SELECT secret FROM cursor_secret"))
    was = {path: api.ask(path) for path in paths}
    assert len(was[paths[0]].content) > 8192 > len(was[paths[1]].content)
    assert was[paths[0]].headers["ETag"] == f'W/"{etag_hash(secret, was[paths[0]].content)[:32]}"'
    revision, _, rest = was[paths[1]].headers["ETag"][1:-1].partition(".")
    assert (revision.isdigit(), rest) == (True, etag_hash(secret, was[paths[1]].content)[:16])
    for path in paths:
        api.stop()
        api.start()  # its first answer has it already
        now = api.ask(path)
        assert (now.content, now.headers["ETag"]) == (was[path].content, was[path].headers["ETag"])
        assert api.ask(path, headers={"If-None-Match": now.headers["ETag"]}).status_code == 304


@pytest.mark.parametrize("path", [*TENANT_ROUTES, "/metrics"])
def test_tokens(api, path):
    assert api.ask(path).status_code == 200
    unknown = "fst_" + "A" * 43
    for token in None, "x", "fst_", unknown, unknown + "A", unknown[:-1] + "B", api.tokens["acme"][:-1], "fst_" + "A" * 9000:
        assert api.problem(401, "unauthorized", path, token).headers["WWW-Authenticate"].startswith("Bearer")
    basic = {"Authorization": "Basic " + base64.b64encode(b"a:b").decode()}
    assert requests.get(f"http://127.0.0.1:{api.port}{path}", headers=basic, timeout=10).status_code == 401


@pytest.mark.parametrize("header, says", [
    (None, "shows a token as"), ("", "Bearer is missing"), ("fst_" + "A" * 43, "Bearer is missing"), ("Bearer", "Bearer is missing"), ("Basic eDp4", "Bearer is missing"),
    ("Bearer x", "form of a token"), ("Bearer fst_" + "A" * 42, "form of a token"), ("Bearer fst_" + "A" * 43, "not known")])
def test_a_401_says_what_is_wanted(api, header, says):
    answer = requests.get(f"http://127.0.0.1:{api.port}/v1/fleet", headers={} if header is None else {"Authorization": header}, timeout=10)
    assert (answer.status_code, answer.json()["type"]) == (401, "urn:fleetstate:problem:unauthorized") and says in answer.json()["detail"]
    assert "Bearer <token>" in answer.json()["detail"] or says not in ("shows a token as", "Bearer is missing")
    assert header is None or len(header) < 12 or header[-12:] not in answer.text


def test_tokens_end(api):
    revoked = api.db.cli("token", "add", "--tenant", "acme", "--role", "admin", "short")
    api.get("/v1/fleet", revoked)
    number = next(t["number"] for t in json.loads(api.db.cli("token", "list", "--json")) if t["name"] == "short")
    api.db.cli("token", "revoke", str(number))
    api.problem(401, "unauthorized", "/v1/fleet", revoked)
    expired = api.db.cli("token", "add", "--tenant", "acme", "--role", "viewer", "--expires", "1", "old")
    api.get("/v1/fleet", expired)
    api.db.sql("UPDATE api_token SET expires_at = now() - interval '1 second' WHERE name = 'old'")
    api.problem(401, "unauthorized", "/v1/fleet", expired)


@pytest.mark.parametrize("route", DEVICE_ROUTES)
def test_another_tenants_device_is_not_there(api, route):
    there = api.problem(404, "not-found", f"/v1/devices/{B}{route}").content
    assert there == api.problem(404, "not-found", f"/v1/devices/{ueid('nobody', 0)}{route}").content
    assert api.ask(f"/v1/devices/{B}{route}", "globex").status_code == 200


def test_another_tenants_evidence_is_not_there(api):
    digest = hashlib.sha256(f"{B}2".encode()).hexdigest()
    assert api.ask("/v1/reports/" + digest, "globex").status_code == 200
    api.problem(404, "not-found", "/v1/reports/" + digest)
    assert api.get("/v1/refusals?ueid=" + B)["items"] == [] and api.get("/v1/devices?q=" + B)["items"] == []


def test_operators_name_a_tenant(api):
    api.problem(400, "tenant-required", "/v1/fleet", "operator")
    assert api.get("/v1/fleet?tenant=globex", "operator")["tenant"] == "globex"
    api.problem(404, "not-found", "/v1/fleet?tenant=nobody", "operator")
    assert api.get("/v1/fleet?tenant=acme")["tenant"] == "acme"
    api.problem(404, "not-found", "/v1/fleet?tenant=globex")
    assert api.ask("/metrics", "operator").status_code == 200
    page = api.ask("/v1/devices?limit=1&tenant=globex", "operator")
    assert "tenant=globex" in page.headers["Link"]
    api.problem(400, "bad-cursor", f"/v1/devices?tenant=acme&cursor={page.json()['next']}", "operator")


@pytest.mark.parametrize("path", [*TENANT_ROUTES, *OPEN_ROUTES, "/metrics"])
def test_unknown_parameters_are_named(api, path):
    assert api.problem(400, "unknown-parameter", path + "?colour=red").json()["detail"] == "colour"
    for query in "=x", "=", "&=x":
        assert api.problem(400, "unknown-parameter", f"{path}?{query}").json()["detail"] == "Parameter 1 has no name."


def test_a_parameter_without_a_name_has_a_number(api):
    assert api.problem(400, "unknown-parameter", "/v1/devices?limit=1&q=x&=y&model=z").json()["detail"] == "Parameter 3 has no name."
    assert api.problem(400, "bad-target", "/v1/devices?limit=1&=y&=z").json()["detail"] == "Parameter 3 is there twice."


@pytest.mark.parametrize("path", [*TENANT_ROUTES, *OPEN_ROUTES, "/metrics"])
def test_methods(api, path):
    # The numbers of metrics may grow a digit between two answers.
    head, get = api.ask(path, method="HEAD"), api.ask(path)
    assert head.status_code == get.status_code == 200 and head.content == b""
    assert set(head.headers) == set(get.headers) and head.headers["Content-Length"] == get.headers["Content-Length"]
    writes = {f"/v1/devices/{A}": ", PATCH, DELETE", "/v1/devices": ", POST"}.get(path, "")
    for method in {"POST", "PUT", "PATCH", "DELETE", "OPTIONS"} - set(writes.split(", ")):
        assert api.problem(405, "method-not-allowed", path, method=method).headers["Allow"] == "GET, HEAD" + writes
    assert api.ask(path, method="POST", data=b"x" * 300000).status_code == (415 if "POST" in writes else 405)


@pytest.mark.parametrize("target, detail, position", [
    ("/v1/devices/%00", "Segment 3 of the path, from character 1 on: it is a control character.", 1), ("/v1/devices?q", "q has no = behind it.", None),
    ("/v1/devices?firmware=%00", "firmware, from character 1 on: it is a control character.", 1), ("/v1/devices?q=a%c3%a9%0a", "q, from character 3 on: it is a control character.", 3),
    ("/v1/devices?model=x&firmware=1.0%ff", "firmware, from character 4 on: it is no UTF-8.", 4), ("/v1/devices?component=%c0%80", "component, from character 1 on: it is no UTF-8.", 1),
    ("/v1/devices?label=%ed%a0%80", "label, from character 1 on: it is no UTF-8.", 1),
    ("/v1/devices?q=1&q=2", "q is there twice.", None), ("/v1/devices?" + "&".join(f"a{i}=1" for i in range(25)), "More than 24 parameters.", None),
    ("/v1/devices?%00=1", "The name of parameter 1, from character 1 on: it is a control character.", 1)])
def test_bad_targets(api, target, detail, position):
    problem = api.problem(400, "bad-target", target).json()
    assert (problem["detail"], problem.get("position")) == (detail, position)


def test_a_long_name_is_cut_between_characters(api):
    for name in "é" * 40, "x" + "é" * 40, "x" + "😀" * 40:
        detail = api.problem(400, "unknown-parameter", f"/v1/devices?{name}=1").json()["detail"]
        assert name.startswith(detail) and 60 < len(detail.encode()) <= 64


def test_targets_on_the_wire(api):
    def status(target, *headers):
        lines = [b"GET " + target + b" HTTP/1.1", b"Host: x", b"Connection: close", b"Authorization: Bearer " + api.tokens["acme"].encode(), *headers]
        return int(api.raw(b"\r\n".join(lines) + b"\r\n\r\n").split(b" ", 2)[1])

    assert status(b"/v1/%64evices?limit=1") == 200
    assert status(b"/v1%2fdevices") == 404
    assert status(b"/v1/devices/") == 404 and status(b"//v1/devices") == 404 and status(b"/v1/devices/../fleet") == 404
    assert status(b"/" + b"a" * 5000) == 414
    assert status(b"/" + b"a" * 60000) in (414, 431)
    assert status(b"/healthz", b"X: " + b"a" * 60000) == 431
    assert status(b"/healthz", *(b"X%d: a" % i for i in range(20000))) in (400, 413, 431)
    assert status(b"*") == 400
    assert status(b"/%") == status(b"/%0") == status(b"/%zz") == status(b"/v1/devices?q=%4") == status(b"/v1/devices?q=\xff") == 400
    assert status(b"/healthz") == 200


def test_page_and_headers(api):
    page = api.ask("/", None)
    assert page.headers["Content-Type"].startswith("text/html")
    for reference in re.findall(r'(?:src|href)="(/?[\w.]+)"', page.text):
        assert api.ask("/" + reference.lstrip("/"), None).status_code == 200, reference
    for path in [*OPEN_ROUTES, "/nothing", "/v1/devices", "/v1/fleet"]:
        headers = api.ask(path, None).headers
        policy = headers["Content-Security-Policy"]
        assert policy.startswith("default-src 'none'") and "unsafe" not in policy and "*" not in policy
        assert headers["X-Content-Type-Options"] == "nosniff" and headers["Referrer-Policy"] == "no-referrer"


def test_metrics(api):
    text = api.ask("/metrics").text
    for reason in re.findall(r'^REASON\(\w+, "([^"]+)"', (ROOT / "schema/reasons.def").read_text(), re.M)[1:]:
        assert f'fleetstate_refused_total{{reason="{reason}"}}' in text
    for name in re.findall(r'^COUNTER\(\w+, "([^"]+)"', (ROOT / "collector/counters.def").read_text(), re.M):
        assert re.search(rf"^fleetstate_{name}(_total)? [\d.]+$", text, re.M), name


def drawn(text, family):
    return {m[0]: int(m[1]) for m in re.findall(rf"^fleetstate_{family}{{(.*)}} (\d+)$", text, re.M)}


def test_metrics_of_the_fleet(api):
    """A tenant's token draws its own devices, an operator's those of all, and the counts are the fleet's."""
    for token, query, seen in (("acme", "", {"acme"}), ("operator", "", {"acme", "globex"}), ("operator", "?tenant=globex", {"globex"})):
        text = api.ask("/metrics" + query, token).text
        for family in "devices", "devices_by_lifecycle", "reports_missing":
            assert {re.match('tenant="(.*?)"', labels)[1] for labels in drawn(text, family)} == seen
        for tenant in seen:
            fleet = api.get(f"/v1/fleet?tenant={tenant}", "operator")
            assert {p: drawn(text, "devices")[f'tenant="{tenant}",posture="{p}"'] for p in fleet["posture"]} == fleet["posture"]
            assert {x: drawn(text, "devices_by_lifecycle")[f'tenant="{tenant}",lifecycle="{x}"'] for x in fleet["lifecycle"]} == fleet["lifecycle"]
            assert drawn(text, "reports_missing")[f'tenant="{tenant}"'] == 2
    assert drawn(text, "ready") == {'check="pipeline"': 1}
    api.problem(404, "not-found", "/metrics?tenant=globex", "acme")
    api.problem(404, "not-found", "/metrics?tenant=nobody", "operator")
    api.problem(401, "unauthorized", "/metrics", "fst_" + "A" * 43)


def test_metrics_in_both_spellings(api):
    """As others read them: promtool, and the parser of Prometheus' own Python client."""
    text = api.ask("/metrics")
    assert text.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    checked = subprocess.run(["promtool", "check", "metrics"], input=text.content, capture_output=True)
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, b"", b"")
    headers = {"Authorization": "Bearer " + api.tokens["acme"], "Accept": "application/openmetrics-text; version=1.0.0, text/plain;q=0.5"}
    modern = api.session.get(f"http://127.0.0.1:{api.port}/metrics", headers=headers)
    assert modern.headers["Content-Type"].startswith("application/openmetrics-text")
    families = {f.name: f for f in openmetrics.text_string_to_metric_families(modern.text)}
    assert families["fleetstate_report_latency_seconds"].type == "histogram" and families["fleetstate_store_seconds"].unit == "seconds"
    names = set(re.findall(r"^(fleetstate_\w+)", text.text, re.M))
    assert names == {sample.name for family in families.values() for sample in family.samples}


SHARED = {"policy", "policy_item", "judging", "alert", "alert_item", "alert_note"}  # the operator's and the system's own rows are everyone's


def granted(api):
    return [t for (t,) in api.db.sql("SELECT table_name FROM information_schema.role_table_grants WHERE grantee = 'fleetstate_api' "
                                     "AND privilege_type = 'SELECT' AND table_schema = 'fleetstate'", role="fleetstate_api")]


JUDGED = """
    SELECT set_config('fleetstate.tenant', %(tenant)s, true);
    SELECT policy_put('own', '{"title": "own", "severity": "low", "when": "strict $.a == 1"}', 'test');
    SELECT maintenance_put(NULL, '{"title": "roll-out", "until": "2099-01-01T00:00:00Z", "from": "2098-12-01T00:00:00Z"}', 'test');
    INSERT INTO alert (device_id, tenant_id, policy_id) SELECT device_id, tenant_id, 1 FROM device WHERE tenant_id = %(tenant)s::int LIMIT 2;
    SELECT alert_acknowledge(NULL, '{}', 'test');
    INSERT INTO verdict_pending (device_id, policy_id, tenant_id, epoch, seq, reports, due_at)
        SELECT device_id, 1, tenant_id, 1, 1, 1, now() FROM device WHERE tenant_id = %(tenant)s::int LIMIT 2;
    INSERT INTO export_manifest VALUES (%(tenant)s::int, sha256('export'), now(), 'x');
    INSERT INTO report_expired SELECT device_id, 1, false, tenant_id, 1, sha256('x'), 1 FROM device WHERE tenant_id = %(tenant)s::int LIMIT 2;
    INSERT INTO report_quiet_kept SELECT device_id, 1, 1, now(), tenant_id, now(), sha256('x'), 0, 0, 'x' FROM device WHERE tenant_id = %(tenant)s::int
        ORDER BY device_id DESC LIMIT 2;
    INSERT INTO report_full_kept SELECT * FROM report_quiet_kept WHERE tenant_id = %(tenant)s::int;
    INSERT INTO device_violation SELECT tenant_id, 'own', device_id FROM device WHERE tenant_id = %(tenant)s::int LIMIT 2;
    INSERT INTO device_mark SELECT tenant_id, 'own', device_id FROM device WHERE tenant_id = %(tenant)s::int LIMIT 2;
"""


def test_rows_are_guarded_in_the_database_itself(api):
    """As the API's role, whatever SQL it were made to run."""
    tables = granted(api)
    assert {"device", "device_state", "report_quiet", "report_full", "report", "device_item", "fleet_count", "refusal"} <= set(tables)
    tenants = dict(api.db.sql("SELECT id, tenant_id FROM tenant"))
    for tenant in tenants.values():
        api.db.sql(JUDGED, {"tenant": str(tenant)})

    def of_all(table):
        return dict(api.db.sql(f"SELECT tenant_id, count(*) FROM {table} GROUP BY 1", role="fleetstate_owner"))

    with psycopg2.connect(api.db.uri("fleetstate_api")) as db, db.cursor() as c:
        for table in tables:
            whole = of_all(table)
            if table not in ("device_key", "device_item"):
                assert set(tenants.values()) <= set(whole), f"{table} has no rows to tell apart"
            c.execute("SET LOCAL fleetstate.context = ''")
            c.execute(f"SELECT count(*) FROM {table}")
            assert c.fetchone() == (0,), f"{table} without a tenant"
            for name, tenant in tenants.items():
                c.execute("SELECT sign_in(sha256(%s), NULL)", (api.tokens[name].encode(),))
                c.execute(f"SELECT tenant_id, count(*) FROM {table} GROUP BY 1")
                seen, later = dict(c.fetchall()), of_all(table)  # what others note meanwhile comes to it
                assert set(seen) == {k for k in whole if k == tenant or table in SHARED and not k}, table
                assert all(whole[k] <= n <= later[k] for k, n in seen.items()), table
        db.commit()
        c.execute("SELECT count(*) FROM device")
        assert c.fetchone() == (0,), "the tenant outlives its transaction"


@pytest.mark.parametrize("statement", [
    "SET ROLE fleetstate_owner", "SET ROLE fleetstate_ingest", "SET SESSION AUTHORIZATION fleetstate_owner",
    "SELECT * FROM api_token", "SELECT * FROM trust_anchor", "SELECT * FROM cursor_secret", "SELECT make_partitions(1)", "SELECT number_events()",
    "SELECT fold_fleet_count()", "UPDATE device SET posture = 'operational'", "DELETE FROM report_full", "INSERT INTO tenant (id, name) VALUES ('x', 'x')",
    "CREATE TABLE fleetstate.x (i int)", "CREATE TEMP VIEW api_token AS SELECT 1", "CREATE TEMP TABLE event (i int)", "ALTER TABLE device DISABLE ROW LEVEL SECURITY", "COPY device TO PROGRAM 'true'",
    "SELECT * FROM report_quiet_{day}", "SELECT * FROM report_full_{day}"])
def test_what_the_apis_role_may_not(api, statement):
    [(day,)] = api.db.sql("SELECT to_char(now() AT TIME ZONE 'UTC', 'YYYYMMDD')")
    with pytest.raises(psycopg2.errors.InsufficientPrivilege):
        api.db.sql(statement.format(day=day), role="fleetstate_api")


def test_owners_functions_look_into_no_temporary_schema_first(api):
    rows = api.db.sql("SELECT proname, proconfig FROM pg_proc WHERE prosecdef AND pronamespace = 'fleetstate'::regnamespace")
    assert len(rows) >= 7
    assert [name for name, settings in rows if "search_path=fleetstate, pg_catalog, pg_temp" not in settings] == []
    assert api.db.sql("SELECT proname FROM pg_proc p WHERE prosecdef AND pronamespace = 'fleetstate'::regnamespace"
                      " AND has_function_privilege('public', p.oid, 'EXECUTE')") == []


def test_the_command_line(api):
    cli = api.db.cli
    cli(status=2)
    cli("tenant", "add", "Bad Id", "x", status=2)
    cli("tenant", "add", "acme", "again", status=1)
    cli("token", "add", "--role", "viewer", "x", status=2)
    cli("token", "add", "--role", "operator", "--tenant", "acme", "x", status=2)
    cli("token", "add", "--role", "viewer", "--tenant", "nobody", "x", status=1)
    cli("device", "show", "0100", status=2)
    cli("device", "show", ueid("nobody", 0), status=1)
    assert json.loads(cli("device", "show", A, "--json"))["ueid"] == A
    assert len(json.loads(cli("device", "list", "--tenant", "globex", "--posture", "silent", "--json"))) == DEVICES // 5
    for command in re.findall(r'^\t\{"([\w-]+)", (?:"([\w-]+)"|NULL), \w+', (ROOT / "collector/cli/main.c").read_text(), re.M):
        words = [w for w in command if w]
        assert cli(*words, "--help").startswith("usage: fleetstate " + " ".join(words))
        assert ".It Ic " + " ".join(words) in (ROOT / "collector/cli/fleetstate.1").read_text()


def test_approval_is_heard(api):
    waits = ueid("acme", 98)
    listener = psycopg2.connect(api.db.uri("fleetstate_ingest"))
    listener.autocommit = True
    listener.cursor().execute("LISTEN fleetstate_device")
    assert api.get("/v1/devices/" + waits)["lifecycle"] == "pending"
    api.db.cli("device", "approve", waits)
    api.db.cli("device", "approve", waits, status=1)
    assert api.get("/v1/devices/" + waits)["lifecycle"] == "active"
    api.db.cli("device", "retire", waits)
    assert api.get("/v1/devices/" + waits)["lifecycle"] == "retired"
    api.db.cli("device", "reprovision", waits, status=1)
    listener.poll()
    assert [n.payload for n in listener.notifies] == [waits, waits]
    listener.close()
    told = api.db.sql("SELECT type, data ->> 'lifecycle' FROM event WHERE ueid = decode(%s, 'hex') ORDER BY event_id", (waits,))
    assert told == [("device.lifecycle", "active"), ("device.lifecycle", "retired")]
    api.db.cli("device", "reprovision", A, "--hours", "2")
    assert api.db.sql("SELECT reprovision_until > now() + interval '1 hour' FROM device WHERE ueid = decode(%s, 'hex')", (A,)) == [(True,)]
    api.db.sql("UPDATE device SET lifecycle = 'pending' WHERE ueid = decode(%s, 'hex')", (waits,))


def test_trust_anchors(api, tmp_path):
    ca = ROOT / "tests/vectors/known-ca.pem"
    number = api.db.cli("trust-anchor", "add", "--tenant", "acme", "--enrol", "hold", str(ca))
    [anchor] = json.loads(api.db.cli("trust-anchor", "list", "--json"))
    assert (str(anchor["number"]), anchor["tenant"], anchor["enrol"], anchor["name"]) == (number, "acme", "hold", "known-ca.pem")
    api.db.cli("trust-anchor", "add", "--tenant", "acme", str(ca), status=1)
    api.db.cli("trust-anchor", "add", "--tenant", "nobody", str(ca), status=1)
    api.db.cli("trust-anchor", "remove", number)
    api.db.cli("trust-anchor", "remove", number, status=1)
    (tmp_path / "no.pem").write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    api.db.cli("trust-anchor", "add", "--tenant", "acme", str(tmp_path / "no.pem"), status=2)


def test_verify_offline():
    vectors = ROOT / "tests/vectors"
    when = "--time=2026-10-01T00:00:00Z"

    def verify(*words, status=0, data=None):
        done = subprocess.run([BIN / "fleetstate", "verify", "--json", *words], input=data, capture_output=True, cwd=vectors,
                              env={"PATH": "/usr/bin:/bin"})
        assert done.returncode == status, (words, done.stdout, done.stderr)
        return json.loads(done.stdout) if status < 2 else None

    ca = ["--ca", "known-ca.pem"]
    good = verify("known-full.cbor", *ca, when)
    whole = (vectors / "known-full.cbor").read_bytes()
    assert good["verified"] and good["sha256"] == hashlib.sha256(whole).hexdigest() and good["claims"]["seq"]
    assert verify("-", *ca, when, data=whole) == good
    assert verify("known-full.cbor", when, status=1)["verified"] is False
    assert verify("known-full.cbor", *ca, "--time=2001-01-01T00:00:00Z", status=1)["reason"] == "certificate-not-yet-valid"
    assert verify("-", *ca, when, status=1, data=whole[:-1])["reason"] == "truncated"
    assert verify("-", *ca, when, status=1, data=whole + b"\0")["reason"] == "trailing-bytes"
    assert verify("-", *ca, when, status=1, data=whole + bytes(2 << 20))["reason"] in ("too-large", "trailing-bytes")
    assert verify("-", *ca, when, status=1, data=whole[:-1] + bytes([whole[-1] ^ 1]))["reason"] == "bad-signature"
    assert verify("known-quiet.cbor", *ca, "--chain", "known-quiet.crt", when)["verified"]
    assert verify("known-quiet.cbor", *ca, "--chain", "known-full.crt", when, status=1)["verified"] is False
    assert verify("known-quiet.cbor", *ca, when, status=1)["verified"] is False
    verify("nothing.cbor", *ca, status=2)
    verify("known-full.cbor", "--ca", "known-full.cbor", status=2)
    verify("known-full.cbor", *ca, "--time=yesterday", status=2)


def test_the_database_goes_and_comes_back(api):
    assert api.get("/readyz") == {"checks": [{"name": "database", "ready": True}, {"name": "pipeline", "ready": True}], "ready": True}
    api.db.stop()
    api.problem(503, "unavailable", "/v1/fleet")
    ready = api.ask("/readyz", None)
    assert ready.status_code == 503 and ready.json()["checks"][0]["ready"] is False
    assert api.ask("/healthz", None).status_code == 200
    api.db.start()
    deadline = time.monotonic() + 20
    while api.ask("/v1/fleet").status_code != 200:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    api.process.send_signal(signal.SIGUSR1)
    while (ready := api.ask("/readyz", None)).status_code != 503:
        assert time.monotonic() < deadline
    assert ready.json()["checks"][1] == {"name": "pipeline", "ready": False, "why": "told so"}
    api.stop()
    api.start()
