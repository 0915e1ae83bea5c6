"""Every type of event in every format, over HTTP, as a stream and through the sinks: each holds to its own standard, and no text of a device's changes its meaning."""

import csv
import datetime
import json
import os
import re

import jsonschema
import psycopg2
import pytest
import requests

from ingesting import System, await_true
from parts import free_port
from receiver import Rsyslog, Webhook, structured_data
from test_dashboard import VECTORS
from parts import ROOT

FORMATS = ["native", "ocsf", "ecs", "cef", "cloudevents"]
UEID = "01" + "ab" * 16
# Characters that end something somewhere: fields, headers, lines, values, JSON, the direction of text.
HOSTILE = "a|b=c\\d\\|e\\=f\n\r\t\"'[]{} cs1=forged |10| CEF:0|x\u2028\u202e\u0085\u007f \u00e4\u4f60\U0001f600 \\n<13>1 - % ${jndi:x} \\"
ALERT = {"alert": 7, "policy": "secure-boot", "severity": "high", "title": "Secure boot is off", "element": "DI.1", "state": "open",
         "opened_at": "2026-11-26T08:00:00.000Z", "reasons": ["boot.secure"]}
KEY = {"kid": "0011223344556677", "lifecycle": "active"}
ASKED = {"nonce": "00ff", "asked_at": "2026-11-26T08:00:00.000Z", "by": "Ann"}
CHANGE = {"epoch": "00000000000000aa", "seq": 5, "digest": "ab" * 32, "previous": None}
# Of each type an event as the code writes it. `True`: about a device.
EVENTS = [
    *[(f"device.{kind}", True, KEY) for kind in ("enrolled", "renewed", "rekeyed", "key-retired")],
    ("device.key-revoked", True, {"kid": "0011223344556677", "why": "lost"}),
    ("device.reprovision", True, {"epoch": "00000000000000aa"}),
    *[("device.lifecycle", True, {"lifecycle": word, "by": "Ann"}) for word in ("pending", "active", "retired", "revoked", "transferred", "deleted")],
    *[("device.hold", True, {"change": word, "why": "a dispute", "by": "Ann"}) for word in ("held", "released")],
    *[("tenant.hold", False, {"change": word, "why": "a dispute", "by": "Ann"}) for word in ("held", "released")],
    ("tenant.retention", False, {"quiet_s": 86400, "sections_s": None, "history_s": None, "by": "Ann"}),
    *[("tenant.personal", False, {"personal": way, "previous": "keep", "by": "Ann"}) for way in ("hash", "omit")],
    ("device.labels", True, {"labels": {"site": "north"}, "by": "Ann"}),
    *[("device.posture", True, {"posture": word, "previous": "unknown", "reasons": ["fork", "secure-boot"]})
      for word in ("operational", "degraded", "silent", "unknown", "untrusted")],
    ("device.judgement", True, {"posture": "degraded", "reasons": ["secure-boot"], "unknowns": 3}),
    ("device.state", True, CHANGE), ("device.inventory", True, CHANGE),
    *[(f"device.{kind}", True, {"interval_s": 300, "epoch": "00000000000000aa", "seq": 5, "sha256": "ab" * 32}) for kind in ("epoch", "interval")],
    ("device.refused", True, {"reason": "bad-signature", "n": 1, "total": 1}),
    ("device.fork", True, {"epoch": "00000000000000aa", "seq": 5, "sha256": "ab" * 32}),
    ("device.second-epoch", True, {"epoch": "00000000000000aa", "seq": 1, "sha256": "ab" * 32}),
    *[(f"device.event.{kind}", True, {"kind": kind, "time": "2026-11-26T08:00:00Z", "account": HOSTILE})
      for kind in re.findall(r'^EVENT\(\w+, \d+, "([a-z-]+)"', (ROOT / "schema/events.def").read_text(), re.M)],
    ("device.event.99", True, {"kind": "99"}),
    *[(f"alert.{kind}", True, {**ALERT, "state": state, "by": "Ann"})
      for kind, state in (("opened", "open"), ("reopened", "open"), ("acknowledged", "acknowledged"), ("silenced", "silenced"), ("commented", "open"),
                          ("resolved", "resolved"))],
    ("alert.opened", False, {**ALERT, "devices": 9}),
    *[(f"challenge.{kind}", True, ASKED) for kind in ("asked", "answered", "unanswered", "expired")],
    *[("policy.changed", False, {"policy": "p", "change": word, "by": "Ann"}) for word in ("created", "changed", "deleted", "struck-out")],
    *[("maintenance.changed", False, {"maintenance": 3, "change": word, "by": "Ann"}) for word in ("created", "deleted")],
    *[("audit.change", False, {"kind": "change", "who": "Ann", "role": "admin", "method": method, "target": "/v1/sinks", "number": 1})
      for method in ("POST", "PUT", "PATCH", "DELETE")],
    ("ledger.checkpoint", False, {"number": 1, "devices": 2, "root": "ab" * 32, "sha256": "ab" * 32, "message": "aGVsbG8="}),
    ("something.new", True, {}), ("something.new", False, {"a": [1, {"b": None}]}),
    # What a device made up stands where our own words stand.
    *[(kind, about, {"title": HOSTILE, "posture": HOSTILE, "reason": HOSTILE, "reasons": [HOSTILE, 5, None], "by": HOSTILE, "policy": HOSTILE,
                     "element": HOSTILE, "state": HOSTILE, "severity": HOSTILE, "change": HOSTILE, "method": HOSTILE, "target": HOSTILE, HOSTILE: HOSTILE})
      for kind in ("device.posture", "alert.opened", "policy.changed", "device.refused", "audit.change") for about in (True, False)],
    *[(kind, True, {"title": 5, "posture": [], "reasons": {}, "by": None, "policy": {}, "alert": "x", "lifecycle": 1})
      for kind in ("device.posture", "alert.resolved", "device.lifecycle", "device.fork")],
    ("device.state", True, {"long": ("\u4f60|=\\" * 3000), "list": list(range(3000))}),
]


@pytest.fixture(scope="module")
def system(tmp_path_factory):
    directory = tmp_path_factory.mktemp("formats")
    key = directory / "secret.key"
    key.write_text(os.urandom(32).hex() + "\n")
    key.chmod(0o640)
    system = System(directory, postgres=["fsync=off"], secret_key=key, sink_networks="127.0.0.1/32", sink_http="yes", sink_timeout="2s")
    system.key = key
    yield system
    system.close()


class Feed:
    def __init__(self, system):
        token = system.database.cli("token", "add", "--tenant", "acme", "--role", "admin", "t")
        self.url, self.headers = f"http://127.0.0.1:{system.collector.http}", {"Authorization": f"Bearer {token}"}
        # What comes first: that each sink was made is an event, too.
        self.hooks, pki = {}, system.broker.pki
        both = system.directory / "both.crt"
        both.write_text((pki / "operator-ca.crt").read_text() + (pki / "collectors-ca.crt").read_text())
        self.rsyslog = {}
        for name in FORMATS:
            self.hooks[name] = Webhook()
            self.sink(system, name, "webhook", self.hooks[name].url, name)
            directory = system.directory / name
            directory.mkdir()
            self.rsyslog[name] = Rsyslog(directory, free_port(), both, pki / "broker.crt", pki / "broker.key", "collector")
            self.rsyslog[name].start()
            self.sink(system, "log-" + name, "syslog", f"localhost:{self.rsyslog[name].port}", name, ca=(pki / "operator-ca.crt").read_text(),
                      certificate=(pki / "collectors/collector.crt").read_text(), key=(pki / "collectors/collector.key").read_text())
        # Nobody can ask for what there is not; a newer collector's sinks may have it.
        assert system.collector.stop() == 0
        system.database.sql("UPDATE sink SET types = types || '{something.*}'")
        system.collector.start()
        with psycopg2.connect(system.database.uri("fleetstate_owner")) as db, db.cursor() as c:
            c.execute("LOCK event IN SHARE ROW EXCLUSIVE MODE")  # so that nothing comes between them
            numbers = []
            for kind, about, data in EVENTS:
                c.execute("INSERT INTO event (tenant_id, type, ueid, data) SELECT tenant_id, %s, CASE WHEN %s THEN decode(%s, 'hex') END, %s FROM tenant"
                          " WHERE id = 'acme' RETURNING event_id", (kind, about, UEID, json.dumps(data)))
                numbers += c.fetchone()
        db.close()
        self.rows = await_true(lambda: (rows := system.database.sql(
            "SELECT position, event_id, type, encode(ueid, 'hex'), data, time FROM event WHERE position > 0 AND event_id = ANY (%s) ORDER BY position",
            (numbers,))) and len(rows) == len(EVENTS) and rows, "the events' positions")
        self.after = self.rows[0][0] - 1
        assert self.rows[-1][0] == self.after + len(EVENTS)

    def sink(self, system, name, kind, target, form, **more):
        made = requests.post(self.url + "/v1/sinks", headers=self.headers, timeout=20,
                             json={"name": name, "kind": kind, "target": target, "format": form, "types": [f"{t}.*" for t in (
                                 "device", "alert", "challenge", "policy", "maintenance", "ledger", "tenant")], **more})
        assert made.status_code == 201, made.text

    def get(self, path, **parameters):
        answer = requests.get(self.url + path, headers=self.headers, params=parameters, timeout=20)
        assert answer.status_code == 200, answer.text
        return answer

    def items(self, form):
        """All of them, page by page."""
        items, after = [], self.after
        while True:
            answer = self.get("/v1/events", format=form, after=after, limit=20)
            assert answer.headers["Content-Type"] == "application/json" and b"\n" not in answer.content
            items += answer.json()["items"]
            after = answer.json()["next"]
            if len(items) >= len(EVENTS):
                return items[:len(EVENTS)]


@pytest.fixture(scope="module")
def feed(system):
    feed = Feed(system)
    yield feed
    for hook in feed.hooks.values():
        hook.close()
    for server in feed.rsyslog.values():
        server.stop()


def vector(path):
    if not (VECTORS / path).exists():
        pytest.skip(f"{path} is not in VECTORS")
    return VECTORS / path


def milliseconds(at):
    return int((at - datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc)) / datetime.timedelta(milliseconds=1))


# What each format has to say, of a row of the database. Independent readers: the official schemas, and the parser of CEF below.

def check_native(feed, items):
    for item, (position, number, kind, ueid, data, at) in zip(items, feed.rows):
        stamp = at.astimezone(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"
        assert item == {"position": position, "id": number, "type": kind, "time": stamp, "tenant": "acme", "ueid": ueid, "data": data}


def check_cloudevents(feed, items):
    validator = jsonschema.Draft7Validator(json.loads(vector("cloudevents/cloudevents/formats/cloudevents.json").read_text()))
    for item, (position, number, kind, ueid, data, at) in zip(items, feed.rows):
        validator.validate(item)
        assert (item["id"], item["type"], item.get("subject"), item["data"], item["tenant"]) == (str(number), kind, ueid, data, "acme")
        assert all(re.fullmatch("[a-z0-9]{1,20}", name) for name in item)
    assert not validator.is_valid({**items[0], "specversion": 1})


CLASSES = {5019: "5019_device_config_state_change", 2003: "2003_compliance_finding", 2004: "2004_detection_finding", 3004: "3004_entity_management"}


def check_ocsf(feed, items):
    validators = {uid: jsonschema.Draft202012Validator(json.loads(vector(f"ocsf/jsonschema-1.8.0/{name}.schema.json").read_text()))
                  for uid, name in CLASSES.items()}
    for item, (position, number, kind, ueid, data, at) in zip(items, feed.rows):
        validators[item["class_uid"]].validate(item)
        assert item["type_uid"] == item["class_uid"] * 100 + item["activity_id"] and item["time"] == milliseconds(at)
        assert item["metadata"]["uid"] == str(number) and item["metadata"]["sequence"] == position and item["metadata"]["event_code"] == kind
        assert item["metadata"]["tenant_uid"] == "acme" and json.loads(item["raw_data"])["data"] == data
        if ueid and item["class_uid"] != 3004:
            assert item["device"]["uid"] == ueid
        if ueid and item["class_uid"] == 3004:
            assert item["entity"]["uid"] == ueid
    of = {}
    for item, (_, _, kind, _, data, _) in zip(items, feed.rows):
        of.setdefault((kind, data.get("posture") or data.get("lifecycle") or data.get("method") or data.get("change")), item) if not any(
            isinstance(v, (list, dict)) for v in (data.get("posture"), data.get("lifecycle"))) else None
    assert {of["alert.opened", None]["class_uid"], of["alert.resolved", None]["class_uid"]} == {2003}
    assert [of[f"alert.{k}", None]["activity_id"] for k in ("opened", "acknowledged", "resolved")] == [1, 2, 3]
    assert [of[f"alert.{k}", None]["status_id"] for k in ("opened", "acknowledged", "silenced", "resolved")] == [1, 2, 3, 4]
    assert [of[f"alert.{k}", None]["compliance"]["status_id"] for k in ("opened", "resolved")] == [3, 1]
    assert of["alert.opened", None]["compliance"]["control"] == "DI.1" and of["alert.opened", None]["finding_info"]["uid"] == "7"
    assert [of["device.posture", p]["security_level_id"] for p in ("operational", "degraded", "untrusted", "silent", "unknown")] == [1, 2, 3, 0, 0]
    assert [of["device.lifecycle", w]["activity_id"] for w in ("pending", "active", "retired", "revoked", "transferred", "deleted")] == [6, 10, 11, 9, 5, 4]
    assert [of["audit.change", m]["activity_id"] for m in ("POST", "PUT", "PATCH", "DELETE")] == [1, 3, 3, 4]
    assert of["device.fork", None]["class_uid"] == 2004 and of["device.fork", None]["severity_id"] == 5 and of["device.fork", None]["is_alert"]
    assert of["device.enrolled", "active"]["class_uid"] == 3004 and of["device.state", None]["class_uid"] == 5019
    assert not validators[5019].is_valid({**of["device.state", None], "device": {"uid": UEID}})


# ECS: which event.type goes with which event.category ("expected event types" of its reference).
EXPECTED = {"authentication": "start end info", "configuration": "access change creation deletion info", "database": "access change info error",
            "file": "access change creation deletion info", "host": "access change end info start",
            "iam": "admin change creation deletion group info user", "intrusion_detection": "allowed denied info",
            "package": "access change deletion info installation start", "session": "start end info"}
KINDS = {"alert", "asset", "enrichment", "event", "metric", "state", "pipeline_error", "signal"}
TYPES = {"keyword": str, "wildcard": str, "match_only_text": str, "date": str, "long": int, "float": (int, float)}


def flat(value, name=""):
    for key, inner in value.items():
        if isinstance(inner, dict):
            yield from flat(inner, f"{name}{key}.")
        else:
            yield name + key, inner


def check_ecs(feed, items):
    with open(vector("ecs/generated/csv/fields.csv"), newline="") as file:
        known = {row["Field"]: row for row in csv.DictReader(file)}
    for item, (position, number, kind, ueid, data, at) in zip(items, feed.rows):
        for name, value in flat(item):
            row = known[name]
            many = row["Normalization"] == "array"
            assert isinstance(value, list) == many, name
            assert all(isinstance(one, TYPES[row["Type"]]) for one in (value if many else [value])), (name, value)
        event = item["event"]
        assert item["ecs"]["version"] == "9.4.0" == next(iter(known.values()))["ECS_Version"]
        assert event["kind"] in KINDS and event.get("outcome", "success") in ("success", "failure", "unknown")
        assert event["category"] and event["type"]
        for word in event["type"]:
            assert any(word in EXPECTED[category].split() for category in event["category"]), (kind, event)
        assert datetime.datetime.fromisoformat(item["@timestamp"].replace("Z", "+00:00")) == at
        assert (event["id"], event["sequence"], event["action"], item["organization"]["id"]) == (str(number), position, kind, "acme")
        assert item.get("host", {}).get("id") == item.get("device", {}).get("id") == ueid and json.loads(event["original"])["data"] == data


def parse_cef(line):
    """By the format's own rules (ArcSight CEF, "Character encoding"), and nothing of ours: header and extension."""
    assert line.startswith("CEF:") and not re.search(r"[\x00-\x1f\x7f\x80-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]", line), line
    parts, at = [""], 4
    while len(parts) < 8:
        if line[at] == "\\":
            assert line[at + 1] in "\\|", line[at:at + 9]
            parts[-1] += line[at + 1]
            at += 2
        elif line[at] == "|":
            parts.append("")
            at += 1
        else:
            parts[-1] += line[at]
            at += 1
    rest, extension, keys = line[at:], {}, []
    for match in re.finditer(r"(?:^| )([A-Za-z0-9_]+)=((?:\\.|[^\\=])*?)(?= [A-Za-z0-9_]+=|$)", rest):
        assert match[1] not in extension, f"{match[1]} stands twice"
        extension[match[1]] = re.sub(r"\\(.)", lambda m: {"n": "\n", "r": "\r"}.get(m[1], m[1]), match[2])
        assert re.fullmatch(r"(?:\\[\\=nr]|[^\\])*", match[2]), match[2]
        keys.append(match[0])
    assert "".join(keys) == rest, "all of it was read"
    return parts[:7], extension


def spelt(text, kept=""):
    return re.sub(r"[\x00-\x1f\x7f\x80-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]", lambda m: m[0] if m[0] in kept else f"\\u{ord(m[0]):04x}", text)


def check_cef(feed, items):
    for item, (position, number, kind, ueid, data, at) in zip(items, feed.rows):
        header, extension = parse_cef(item)
        assert (header[0], header[1], header[2], header[4]) == ("0", "fleetstate", "fleetstate", kind)
        assert int(header[6]) in (1, 3, 5, 8, 10) and len(header[5].encode()) <= 512
        assert (extension["rt"], extension["externalId"], extension.get("deviceExternalId")) == (str(milliseconds(at)), str(number), ueid)
        assert (extension["cs1Label"], extension["cs1"], extension["cn1Label"], extension["cn1"]) == ("tenant", "acme", "position", str(position))
        assert set(extension) <= {"rt", "externalId", "deviceExternalId", "cat", "cs1Label", "cs1", "cn1Label", "cn1", "suser", "reason", "msg"}
        if data.get("by") == HOSTILE:
            assert extension["suser"] == spelt(HOSTILE, "\n\r") and spelt(HOSTILE) in header[5]
        if len(json.dumps(data, ensure_ascii=False)) < 300:
            assert json.loads(extension["msg"]) == data


def check(feed, form, items):
    assert len(items) == len(feed.rows) == len(EVENTS)
    globals()["check_" + form](feed, items)


@pytest.mark.parametrize("form", FORMATS)
def test_the_feed(feed, form):
    check(feed, form, feed.items(form))


def test_no_other_format(feed):
    for path in ("/v1/events", "/v1/events/stream"):
        answer = requests.get(feed.url + path, headers=feed.headers, params={"format": "leef"}, timeout=20)
        assert answer.status_code == 400 and answer.json()["type"] == "urn:fleetstate:problem:bad-parameter"
        assert all(form in answer.json()["detail"] for form in FORMATS)


def test_native_is_what_is_said_without_a_format(feed):
    assert feed.get("/v1/events", after=feed.after, limit=50).json() == feed.get("/v1/events", after=feed.after, limit=50, format="native").json()


@pytest.mark.parametrize("form", FORMATS)
def test_the_stream(feed, form):
    told, one = [], {}
    with requests.get(feed.url + "/v1/events/stream", headers=feed.headers, params={"format": form, "after": feed.after}, stream=True, timeout=20) as answer:
        for line in answer.iter_lines(delimiter=b"\n"):
            name, _, value = line.decode().partition(": ")
            if name:
                one[name] = value
            elif "data" in one:
                told.append(one)
                one = {}
            if len(told) == len(EVENTS):
                break
    assert [int(t["id"]) for t in told] == [r[0] for r in feed.rows] and [t["event"] for t in told] == [r[2] for r in feed.rows]
    check(feed, form, [t["data"] if form == "cef" else json.loads(t["data"]) for t in told])


@pytest.mark.parametrize("form", FORMATS)
def test_webhooks(feed, form):
    """All but the audit's, which tell of the sinks themselves."""
    hook = feed.hooks[form]
    rows = [r for r in feed.rows if not r[2].startswith("audit.")]
    await_true(lambda: len(hook.accepted()) >= len(rows), "the events")
    kind = {"cef": "text/plain; charset=utf-8", "cloudevents": "application/cloudevents-batch+json; charset=utf-8"}.get(form, "application/json")
    assert {r.headers["Content-Type"] for r in hook.requests} == {kind}
    expected = [item for item, row in zip(feed.items(form), feed.rows) if row in rows]
    assert hook.accepted() == expected
    listed = {s["name"]: (s["kind"], s["format"]) for s in feed.get("/v1/sinks").json()["items"]}
    assert listed[form] == ("webhook", form) and listed["log-" + form] == ("syslog", form)


@pytest.mark.parametrize("form", FORMATS[1:])
def test_syslog(feed, form):
    """The message is the format's own; what is too long for one says so. How `native` looks there is told in test_sinks.py."""
    server = feed.rsyslog[form]
    rows = [r for r in feed.rows if not r[2].startswith("audit.")]
    lines = await_true(lambda: len(got := server.lines()) >= len(rows) and got, "the lines")
    expected = [item for item, row in zip(feed.items(form), feed.rows) if row in rows]
    assert len(lines) == len(rows)
    cut = 0
    for line, item, row in zip(lines, expected, rows):
        assert dict(structured_data(line["data"])["fleetstate@32473"])["position"] == str(row[0])
        message = line["message"].lstrip(" ")
        if form == "cef":
            assert message == item
            continue
        told = json.loads(message)
        if told == item:
            continue
        cut += 1
        assert len(json.dumps(row[4])) > 8000 and "truncated" in message
        for name in ("id", "type", "time", "metadata", "class_uid", "@timestamp", "message"):
            if name != "metadata":
                assert told.get(name) == item.get(name)
    assert cut == (0 if form == "cef" else 1)
    assert form != "ocsf" or [json.loads(line["message"])["metadata"].get("is_truncated") for line in lines].count(True) == 1


def test_a_sinks_own_format(system, feed):
    """Without a wish a webhook is sent CloudEvents, and syslog structured data."""
    for kind, target, form in (("webhook", "https://example.com/", "cloudevents"), ("syslog", "example.com:6514", "native")):
        made = requests.post(feed.url + "/v1/sinks", headers=feed.headers, json={"name": "own-" + kind, "kind": kind, "target": target}, timeout=20)
        assert made.status_code == 201, made.text
        assert [s["format"] for s in feed.get("/v1/sinks").json()["items"] if s["name"] == "own-" + kind] == [form]
    refused = requests.post(feed.url + "/v1/sinks", headers=feed.headers, timeout=20,
                            json={"name": "x", "kind": "webhook", "target": "https://example.com/", "format": "leef"})
    assert refused.status_code == 400 and "cloudevents" in refused.json()["detail"]
    number = system.database.cli("sink", "add", "--kind", "webhook", "--tenant", "acme", "--secret-key", system.key, "--format", "ecs", "by-hand",
                                 "https://example.com/").split()[0]
    assert [s["format"] for s in json.loads(system.database.cli("sink", "list", "--json")) if s["number"] == int(number)] == ["ecs"]
