"""Every operation of openapi.yaml on a running collector: whatever it answers, and whatever it refuses, is as it is described; and the description is one."""

import csv
import hashlib
import json
import re
import subprocess

import pytest

from described import CSV, NDJSON, SAMPLE
from ingesting import Collector
from npm import node
from parts import ROOT, Broker, Session, await_true
from test_api import A, B, DESCRIPTION, EPOCH, ROUTES, Api, ueid
from test_api_writes import GOOD, LATER
from test_inventory import HAS, SET, array

LINT = """
const { createConfig, lintFromString } = require("@redocly/openapi-core");
createConfig({extends: ["recommended-strict"], rules: {"operation-4xx-response": "off"}}).then(config =>
    lintFromString({source: require("fs").readFileSync(0, "utf8"), absoluteRef: "openapi.yaml", config})).then(found =>
        console.log(JSON.stringify(found.map(p => [p.ruleId, p.message, p.location[0].pointer]))));
"""


def test_the_description_is_one_of_openapi():
    """By a tool that is not ours, with its strictest rules; what is refused is described by `default`."""
    text = (ROOT / "schema/openapi.yaml").read_text()
    assert node(LINT, text) == []
    for wrong in text.replace("title: fleetstate", "titel: fleetstate"), text.replace("operationId: getFleet", "operationId: getDevice"), text.replace("in: path", "in: road"):
        assert node(LINT, wrong) != []


class Running(Api):
    """A whole collector, with a broker, on the rows of Api and those that its seed leaves out."""

    def start(self):
        for role in "analyst", "admin":
            self.tokens[role] = self.db.cli("token", "add", "--tenant", "acme", "--role", role, role)
        # An alert with a note, something that a device told, a manifest, a refusal that names nobody. Nobody falls silent meanwhile.
        self.db.sql("UPDATE device_hot SET interval_s = 86400")
        self.db.sql("INSERT INTO alert (tenant_id, device_id, policy_id, opened_at, reasons) SELECT d.tenant_id, device_id, policy_id, now(), '{x}' FROM device d, policy p"
                    " WHERE p.id IN ('silent', 'fork') AND ueid IN (decode(%s, 'hex'), decode(%s, 'hex'))", (A, ueid("acme", 1)))
        for device, name in (1, "one"), (2, "other"):
            self.db.sql(SET, {"set": name, "names": [array(("dpkg", "nano", name, "amd64", None, None, None))]})
            self.db.sql(HAS, (name, ueid("acme", device)))
        self.db.sql("SELECT number_events()")
        self.broker = Broker(self.directory)
        self.collector = Collector(self.directory, self.db, self.broker, **self.whole).start()
        self.process, self.port, self.session = self.collector.process, self.collector.http, Session()
        self.export = hashlib.sha256(self.ask("/v1/assets?manifest=true&format=csv").content).hexdigest()

    def __init__(self, directory, devices, **settings):
        self.directory, self.whole = directory, settings
        super().__init__(directory, devices)

    def close(self):
        assert self.collector.stop() == 0, self.collector.log()[-2000:]
        self.broker.stop()
        self.db.stop()


@pytest.fixture(scope="module")
def api(tmp_path_factory):
    directory = tmp_path_factory.mktemp("description")
    secret = directory / "secret.key"
    secret.write_text("5" * 64 + "\n")
    secret.chmod(0o600)
    api = Running(directory, 120, secret_key=secret, guess_free=0, quota_requests=0, quota_bytes=0, quota_exports=0)
    DESCRIPTION.sample = None
    yield api
    DESCRIPTION.sample = SAMPLE
    api.close()


LISTS = [(method, path, kind, media) for (method, path), o in DESCRIPTION.operations.items() for answer in o["responses"].values()
         for kind, media in DESCRIPTION.resolve(answer).get("content", {}).items() if kind in (CSV, NDJSON)]


def test_what_is_no_json_is_described_too():
    assert len(LISTS) == 8
    for method, path, kind, media in LISTS:
        assert ("x-line" in media, "x-row" in media) == (kind == NDJSON, kind == CSV), (method, path)


DEVICE = {"ueid": A, "tenant": "acme", "serial": "S-1", "vendor": None, "hwmodel": "m", "hwversion": None, "oemid": None, "swname": "os", "swversion": "1.0", "kernel": None,
          "lifecycle": "active", "posture": "operational", "reasons": ["a", "b"], "posture_since": "2026-01-01T00:00:00Z", "first_seen": None, "last_seen": None, "epoch": EPOCH, "seq": 9,
          "interval_s": 60, "support_until": None, "end_of_life": None, "state_digest": None, "inventory_digest": None, "unknowns": 0, "labels": []}
OCSF = {"class_uid": 5001, "category_uid": 5, "activity_id": 2, "type_uid": 500102, "severity_id": 1, "time": 1, "metadata": {"version": "1.8.0", "product": {}, "tenant_uid": "acme"}}
ROW = {name: " ".join(value) if isinstance(value, list) else "" if value is None else str(value) for name, value in DEVICE.items()}


def ndjson(*items):
    return "".join(json.dumps(item) + "\n" for item in items)


def table(*rows):
    return "".join(",".join(row) + "\r\n" for row in (rows[0], *(row.values() for row in rows)))


GOOD_BODIES = [
    ("/v1/devices?format=ndjson", ndjson(DEVICE)), ("/v1/devices?format=ndjson", ""), ("/v1/devices?format=ndjson&fields=ueid", ndjson({"ueid": A})), ("/v1/assets", ndjson(DEVICE, {"ueid": A, "gone": True})),
    ("/v1/assets?format=ocsf", ndjson(OCSF)), ("/v1/devices?format=csv", table(ROW)), ("/v1/devices?format=csv&fields=seq,ueid", table({"ueid": A, "seq": "9"})),
    ("/v1/assets?format=csv", table({**ROW, "gone": ""}, {**dict.fromkeys(ROW, ""), "ueid": A, "gone": "true"}))]
BAD_BODIES = [
    ("/v1/devices?format=ndjson", ndjson(DEVICE).rstrip()), ("/v1/devices?format=ndjson", ndjson({"ueid": A})), ("/v1/devices?format=ndjson", ndjson(DEVICE, {**DEVICE, "colour": "red"})),
    ("/v1/devices?format=ndjson", ndjson({**DEVICE, "seq": "9"})), ("/v1/devices?format=ndjson", ndjson({"ueid": A, "gone": True})), ("/v1/devices?format=ndjson&fields=ueid", ndjson({"colour": 1})),
    ("/v1/devices?format=ndjson", ndjson(DEVICE) + "\n"), ("/v1/assets", ndjson(OCSF)), ("/v1/assets", ndjson({"ueid": A, "gone": False})), ("/v1/assets?format=ocsf", ndjson(DEVICE)),
    ("/v1/assets?format=ocsf", ndjson({**OCSF, "class_uid": 1})), ("/v1/devices?format=csv", table(ROW)[:-2]), ("/v1/devices?format=csv", table(ROW).replace("\r", "")),
    ("/v1/devices?format=csv", table({**ROW, "gone": ""})), ("/v1/devices?format=csv", table(dict(reversed(ROW.items())))), ("/v1/devices?format=csv", table(ROW) + "x\r\n"),
    ("/v1/devices?format=csv", table({**ROW, "posture": "fine"})), ("/v1/devices?format=csv", table({**ROW, "ueid": ""})), ("/v1/devices?format=csv", table({**ROW, "seq": "nine"})),
    ("/v1/devices?format=csv", table({**ROW, "first_seen": "today"})), ("/v1/devices?format=csv&fields=seq,ueid", table({"seq": "9", "ueid": A})), ("/v1/devices?format=csv&fields=seq", table(ROW)),
    ("/v1/assets?format=csv", table(ROW)), ("/v1/assets?format=csv", table({**ROW, "gone": "no"})), ("/v1/assets?format=netbox", table({**ROW, "gone": ""}))]


def look(target, text):
    kind = CSV if re.search("csv|netbox", target) else NDJSON
    DESCRIPTION.check("GET", target, 200, {"content-type": kind, "fleetstate-position": "1"} if "assets" in target else {"content-type": kind}, text.encode() or None)


@pytest.mark.parametrize("target, text", GOOD_BODIES, ids=range(len(GOOD_BODIES)))
def test_a_body_that_is_described(target, text):
    look(target, text)


@pytest.mark.parametrize("target, text", BAD_BODIES, ids=range(len(BAD_BODIES)))
def test_a_body_that_is_not(target, text):
    with pytest.raises((AssertionError, ValueError, csv.Error)):
        look(target, text)


@pytest.mark.parametrize("form", ["native", "ocsf", "ecs", "cef", "cloudevents"])
def test_an_event_in_another_format_is_not(form):
    items = {"native": {"position": 1, "id": 1, "type": "x", "time": "2026-01-01T00:00:00Z", "tenant": "acme", "ueid": None, "data": {}}, "ocsf": OCSF, "cef": "CEF:0|x",
             "ecs": {"@timestamp": "2026-01-01T00:00:00.000000Z", "ecs": {"version": "9.4.0"}, "event": {}}, "cloudevents": {"specversion": "1.0", "id": "1", "source": "x", "type": "y"}}

    def look(item):
        DESCRIPTION.check("GET", f"/v1/events?format={form}", 200, {"content-type": "application/json", "etag": "W/x"}, json.dumps({"items": [item], "next": "1"}))

    look(items.pop(form))
    for item in (*items.values(), {}, "", None):
        with pytest.raises(AssertionError):
            look(item)


def made(api, path, token="admin", **body):
    """The id of what is made by a POST."""
    answer = api.ask(path, token, "POST", json=body)
    assert answer.status_code == 201, answer.text
    return answer.json()["id"]


def opened(api):
    """The number of an alert that is open."""
    return api.db.one("INSERT INTO alert (tenant_id, device_id, policy_id) SELECT d.tenant_id, device_id, policy_id FROM device d, policy p WHERE p.id = 'silent'"
                      " AND ueid = decode(%s, 'hex') RETURNING alert_id", (ueid("acme", 3),))


SINK = {"name": "hook", "kind": "webhook", "target": "https://example.com/", "types": ["device.fork"]}  # none of which there will be
ANCHOR = {"name": "ca", "certificate": (ROOT / "tests/vectors/known-ca.pem").read_text()}
REPORT = hashlib.sha256(f"{A}2".encode()).hexdigest()
ALERT = "1"
# Of each operation that needs more than its device: the path's variables, a query, a body, and how it is answered (without it, 200). A call is made anew.
GOOD_ONES = {
    "listDevices": [{"query": q} for q in ("", "?limit=2", "?fields=ueid,posture", "?format=csv", "?format=ndjson", "?format=csv&fields=seq,labels,ueid", "?format=ndjson&fields=ueid", "?sort=-last_seen&posture=unknown&q=S-", "?where=strict%20$.boot.secure%20%3D%3D%20false")],
    "addDevice": [{"body": {"ueid": ueid("new", 1), "serial": "n", "labels": {"a": "b"}}, "status": 201}, {"text": f"ueid,serial\n{ueid('new', 2)},x\n", "status": 201},
                  {"text": f"ueid\n{ueid('new', 3)}\n", "query": "?dry_run=true"}],
    "changeDevice": [{"body": {"labels": {"site": "north"}}}, {"body": {"lifecycle": "retired"}, "path": {"ueid": ueid("acme", 7)}}],
    "getInventory": [{}, {"query": "?format=csv"}, {"query": "?format=cyclonedx"}, {"query": "?format=ocsf"}, {"query": "?limit=1"}],
    "listDeviceAlerts": [{}, {"query": "?format=csv"}], "listAlerts": [{}, {"query": "?format=csv"}, {"query": "?state=open&severity=high,critical&limit=1"}],
    "challengeDevice": [{"path": {"ueid": ueid("acme", 1)}, "body": {}, "status": 201}, {"path": {"ueid": ueid("acme", 1)}, "body": {}}],
    "getReportBySeq": [{"path": {"seq": "2"}}, {"path": {"seq": "3"}, "status": 300}],
    "listComponents": [{}, {"query": "?name=openssl"}, {"query": "?name=openssl&version=vers:deb/*"}, {"query": "?limit=1"}],
    "diffInventories": [{"query": f"?a={ueid('acme', 1)}&b={ueid('acme', 2)}"}],
    "exportAssets": [{"query": f"?format={f}"} for f in ("csv", "ndjson", "ocsf", "cyclonedx", "netbox", "servicenow")] + [{"query": "?changed_since=1"}],
    "getManifest": [{"path": {"sha256": lambda api: api.export}}], "getReport": [{"path": {"sha256": REPORT}}], "getProof": [{"path": {"sha256": REPORT}, "status": 404}],
    "previewPolicy": [{"body": {"when": "strict $.boot.secure == false"}}],
    "getPolicy": [{"path": {"id": "silent"}}], "putPolicy": [{"path": {"id": "mine"}, "body": GOOD, "status": 201}, {"path": {"id": "mine"}, "body": {**GOOD, "title": "y"}}],
    "deletePolicy": [{"path": {"id": lambda api: api.ask("/v1/policies/goes", "admin", "PUT", json=GOOD).json()["id"]}, "status": 204}],
    "acknowledgeAlerts": [{"body": {"ids": [1, 2]}}], "silenceAlerts": [{"body": {"filter": {"policy": "fork"}, "until": LATER}}],
    "getAlert": [{"path": {"id": ALERT}}], "acknowledgeAlert": [{"path": {"id": ALERT}, "body": {"comment": "mine"}}],
    "silenceAlert": [{"path": {"id": ALERT}, "body": {"until": LATER}}], "resolveAlert": [{"path": {"id": lambda api: opened(api)}, "body": {}}],
    "commentAlert": [{"path": {"id": ALERT}, "body": {"comment": "x"}}],
    "addMaintenance": [{"body": {"title": "x", "until": LATER, "scope": {"model": "model-1"}}, "status": 201}],
    "deleteMaintenance": [{"path": {"id": lambda api: made(api, "/v1/maintenance", "analyst", title="x", until=LATER)}, "status": 204}],
    "listEvents": [{"query": f"?format={f}&limit=5"} for f in ("native", "ocsf", "ecs", "cef", "cloudevents")], "streamEvents": [{"query": "?after=0"}],
    "addSink": [{"body": SINK, "status": 201}], "deleteSink": [{"path": {"id": lambda api: made(api, "/v1/sinks", **{**SINK, "name": "other"})}, "status": 204}],
    "addTenant": [{"body": {"id": "third", "name": "Third"}, "status": 201}],
    "addTrustAnchor": [{"body": {**ANCHOR, "tenant": "acme"}, "status": 201}],
    "removeTrustAnchor": [{"path": {"id": lambda api: made(api, "/v1/trust-anchors", "operator", **ANCHOR, tenant="globex")}, "status": 204}],
    "getTenant": [{"path": {"id": "acme"}}], "changeTenant": [{"path": {"id": "acme"}, "body": {"legal_hold": None}}, {"path": {"id": "acme"}, "body": {"personal": "keep"}}],
    "deleteDevice": [{"path": {"ueid": ueid("acme", 30)}, "status": 204}],
    "addToken": [{"body": {"role": "viewer", "name": "x", "scopes": ["fleet"]}, "status": 201}],
    "revokeToken": [{"path": {"id": lambda api: made(api, "/v1/tokens", role="viewer", name="y")}, "status": 204}],
    "openSession": [{"status": 201}], "closeSession": [{"status": 404}],  # a token is no session
    "getMetrics": [{}, {"headers": {"Accept": "application/openmetrics-text"}}], "getPageFile": [{"path": {"file": f}} for f in ("app.js", "style.css", "openapi.html", "icon.svg")],
}
USUAL = {"ueid": A, "epoch": EPOCH, "seq": "1", "id": "1"}
# What the seed does not bring about; tests of their own do, and hold the answer against the description too.
ELSEWHERE = {("DELETE", "/v1/session", 204), ("GET", "/v1/reports/{sha256}/proof", 200), ("GET", "/v1/assets", 410), ("GET", "/v1/events", 410), ("GET", "/v1/events/stream", 410),
             ("GET", "/v1/devices", 410), ("GET", "/v1/devices/{ueid}/reports/{epoch}/{seq}", 410), ("GET", "/readyz", 503)}
OPERATIONS = [(method, path, operation) for (method, path), operation in DESCRIPTION.operations.items()]


def role_of(operation):
    return {"none": None, "viewer": "acme"}.get(operation["x-role"], operation["x-role"])


def ask(api, method, path, operation, call, token, **more):
    variables = {**USUAL, **call.get("path", {})}
    target = re.sub(r"\{(\w+)\}", lambda m: str(v(api) if callable(v := variables[m[1]]) else v), path) + call.get("query", "")
    more["headers"] = {**call.get("headers", {}), **more.get("headers", {})}
    if "body" in call:
        more["json"] = call["body"]
    if "text" in call:
        more["data"], more["headers"]["Content-Type"] = call["text"], "text/csv"
    answer = api.ask(target, token, method, **{"stream": operation["operationId"] == "streamEvents", **more})
    if answer.status_code == 200 and operation["operationId"] == "streamEvents":
        answer.close()
    return answer


UNPACK = {"gzip": ["gzip", "-dc"], "zstd": ["zstd", "-dcq"]}
MOVING = {"getMetrics", "listAudit"}  # they tell of the questions before
LONG = {"listDevices", "exportAssets", "getInventory", "listAlerts", "listReports", "listPolicies", "getMetrics"}  # worth compressing
UNTAGGED = {"/metrics", "/v1/audit", "/v1/reports/{sha256}/proof"}
PACKED = set()


def steady(text):
    """Without what is of the moment at which it was made."""
    return re.sub(rb'"(serialNumber|timestamp|time)": ?("[^"]*"|\d+)', b"", text)


def check_packed(api, method, path, operation, call, plain):
    """Whoever asks for it compressed gets the same."""
    for coding, words in UNPACK.items():
        packed = ask(api, method, path, operation, call, role_of(operation), headers={"Accept-Encoding": coding, **call.get("headers", {})}, stream=True)
        body = packed.raw.read(decode_content=False)
        assert packed.status_code == 200 and packed.headers["Content-Type"] == plain.headers["Content-Type"]
        assert packed.headers.get("ETag") == plain.headers.get("ETag") or operation["operationId"] in MOVING
        if "Content-Encoding" in packed.headers:
            assert packed.headers["Content-Encoding"] == coding and "Accept-Encoding" in packed.headers["Vary"].split(", ")
            PACKED.add((operation["operationId"], coding))
            body = subprocess.run(words, input=body, capture_output=True, check=True).stdout
        headers = {k.lower(): v for k, v in packed.headers.items()}
        DESCRIPTION.check(method, packed.request.path_url, 200, headers, body or None)
        assert steady(body) == steady(plain.content) or operation["operationId"] in MOVING, (call, coding)


def await_still(api, path):
    """Until the collector has nothing left to do of what the answer tells."""
    still = "SELECT NOT EXISTS (SELECT FROM judging WHERE ended_at IS NULL) AND NOT EXISTS (SELECT FROM event WHERE position IS NULL)"
    if path == "/v1/sinks":
        still += " AND NOT EXISTS (SELECT FROM sink_cursor, event_head WHERE sink_cursor.position < top)"
    await_true(lambda: api.db.one(still), "the collector having done all")


def calls(operation):
    return GOOD_ONES.get(operation["operationId"], [{}])


@pytest.mark.parametrize("method, path, operation", OPERATIONS, ids=[o["operationId"] for _, _, o in OPERATIONS])
def test_what_is_answered(api, method, path, operation):
    """And each status that the operation has a line of."""
    if method == "GET":
        await_still(api, path)
    for call in calls(operation):
        token = role_of(operation)
        answer = ask(api, method, path, operation, call, token)
        assert answer.status_code == call.get("status", 200), (call, answer.text)
        if method != "GET" or answer.status_code != 200 or operation["operationId"] == "streamEvents":
            continue
        plain = ask(api, method, path, operation, call, token, headers={"Accept-Encoding": "identity"})
        assert "Content-Encoding" not in plain.headers
        check_packed(api, method, path, operation, call, plain)
        head = ask(api, "HEAD", path, operation, call, token)
        assert (head.status_code, head.headers["Content-Type"]) == (200, answer.headers["Content-Type"]) and not head.content
        assert ("ETag" in head.headers) == ("ETag" in answer.headers) == ("Content-Length" in answer.headers), "what is no stream has an entity tag"
        if "ETag" in answer.headers and path not in ("/metrics", "/v1/audit"):
            same = ask(api, "GET", path, operation, call, token, headers={"If-None-Match": f'"x", {answer.headers["ETag"]}'})
            assert same.status_code == 304 and not same.content, same.text
    assert operation["operationId"] not in LONG or PACKED >= {(operation["operationId"], coding) for coding in UNPACK}
    lines = {(method, path, int(status)) for status in operation["responses"] if status != "default"}
    assert {line for line in lines - ELSEWHERE - DESCRIPTION.seen if line[2] != 304 or path not in UNTAGGED} == set()


@pytest.mark.parametrize("method, path, operation", OPERATIONS, ids=[o["operationId"] for _, _, o in OPERATIONS])
def test_what_is_refused(api, method, path, operation):
    call, token = calls(operation)[0], role_of(operation)
    variables = {k: ("f" * 64 if k == "sha256" else "9" * 9) if callable(v) else v for k, v in call.get("path", {}).items()}
    call = {**call, "path": variables}

    def refused(status, name, words=call, by=token, how=method, **more):
        answer = ask(api, how, path, operation, {**words, "path": {**variables, **words.get("path", {})}}, by, **more)
        assert (answer.status_code, answer.json()["type"]) == (status, "urn:fleetstate:problem:" + name), (words, answer.text)
        return answer.json()

    refused(405, "method-not-allowed", how="TRACE" if path == "/" else "PROPFIND")
    if token is None:
        return
    refused(401, "unauthorized", by=None)
    refused(401, "unauthorized", by="fst_" + "A" * 43)
    more = "&" if call.get("query") else "?"
    refused(400, "unknown-parameter", {**call, "query": call.get("query", "") + more + "colour=red"})
    if token in ("analyst", "admin", "operator"):
        refused(403, "forbidden", by={"analyst": "acme", "admin": "analyst", "operator": "admin"}[token])
    if token != "operator":
        refused(404, "not-found", {**call, "query": call.get("query", "") + more + "tenant=globex"})
    if "{ueid}" in path:
        refused(404, "not-found", {**call, "path": {"ueid": B}})
    for parameter in map(DESCRIPTION.resolve, operation.get("parameters", [])):
        if parameter["in"] != "query":
            continue
        name, schema = parameter["name"], DESCRIPTION.resolve(parameter["schema"])

        def asked(value):
            return {**call, "query": f"?{name}={value}" + (call.get("query", "").replace("?", "&") if name + "=" not in call.get("query", "") else "")}

        for text, fault in ("%00", "it is a control character"), ("%ff", "it is no UTF-8"):
            problem = refused(400, "bad-target", asked("a" + text))
            assert (problem["detail"], problem["position"]) == (f"{name}, from character 2 on: {fault}.", 2)
        if "enum" in schema or schema.get("type") in ("integer", "boolean", "array") or schema.get("format") == "date-time":
            problem = refused(400, "bad-parameter", asked("~"))
            of_two = "goes with a list" in problem["detail"] or "say the same" in problem["detail"]
            assert name in problem["detail"] and problem.get("position") == (None if of_two else 1)
    if "requestBody" in operation:
        refused(415, "unsupported-type", {"text": "x"} if "text/csv" not in operation["requestBody"]["content"] else {}, headers={"Content-Type": "text/plain"}, data="x")
        refused(400, "bad-body", {}, headers={"Content-Type": "application/json"}, data='{"no such member": 1}')


def test_the_same_again(api):
    """Idempotency-Key, If-Match and If-None-Match as they are described."""
    keyed = [(m, p, o) for m, p, o in OPERATIONS if any(x.get("$ref", "").endswith("/idempotency_key") for x in o.get("parameters", []))]
    assert {p for m, p, o in keyed} == {p for m, p, _, _, _, how in ROUTES if m == "POST" and how == "WRITES"} - {"/v1/session"}
    for again in "", "true":
        answer = api.ask("/v1/maintenance", "analyst", "POST", json={"title": "k", "until": LATER}, headers={"Idempotency-Key": "the-same"})
        assert answer.status_code == 201 and answer.headers.get("Idempotency-Replayed", "") == again and answer.headers["Location"].startswith("/v1/maintenance/")
    api.problem(422, "key-reused", "/v1/maintenance", "analyst", method="POST", json={"title": "l", "until": LATER}, headers={"Idempotency-Key": "the-same"})
    matching = {(m, p) for m, p, o in OPERATIONS if any(DESCRIPTION.resolve(x)["name"] == "If-Match" for x in o.get("parameters", []))}
    assert matching >= {(m, p) for m, p, *_ in ROUTES if m in ("PUT", "PATCH")}
    for tag in '"9999.0"', 'W/' + api.ask(f"/v1/devices/{A}").headers["ETag"]:
        api.problem(412, "precondition-failed", f"/v1/devices/{A}", "admin", method="PATCH", json={"labels": {"a": "b"}}, headers={"If-Match": tag})
