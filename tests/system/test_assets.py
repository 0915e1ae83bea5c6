"""The fleet for asset systems: every shape holds to its own schema, and who follows what changes ends with what a whole export says."""

import contextlib
import csv
import io
import hashlib
import json
import random
import subprocess
import threading

import jsonschema
import psycopg2
import pytest

from parts import BIN, provision
from test_dashboard import VECTORS
from test_api import Api, ueid
import proof  # found through parts
from device import Refused

DEVICES = 1500
HOSTILE = ["=cmd|' /C calc'!A0", "+1", "-1", "@SUM(A1)", "\tx", 'a"b', "a,b\r\nc", "\u202eabc", "'", " =1"]


@pytest.fixture(scope="module")
def api(tmp_path_factory):
    directory = tmp_path_factory.mktemp("assets")
    pki = directory / "pki"
    provision("ca", pki)
    api = Api(directory, DEVICES, told=False, receipt_key=pki / "receipt.key", receipt_certificate=pki / "receipt.crt")
    api.pki = pki
    for i, text in enumerate(HOSTILE):
        api.db.sql("UPDATE device SET serial = %s, hwmodel = %s, vendor = %s, kernel = %s WHERE ueid = decode(%s, 'hex')", (text, text, text, text, ueid("acme", i)))
    for i, lifecycle in (20, "retired"), (23, "revoked"), (24, "transferred"):
        api.db.sql("UPDATE device SET lifecycle = %s WHERE ueid = decode(%s, 'hex')", (lifecycle, ueid("acme", i)))
    yield api
    api.close()


def export(api, query="", token="acme"):
    answer = api.ask("/v1/assets" + query, token)
    assert answer.status_code == 200, answer.text
    answer.encoding = "utf-8"
    return answer, int(answer.headers["Fleetstate-Position"])


def schema(path):
    file = VECTORS / path
    if not file.exists():
        pytest.skip(f"{path} is not in VECTORS")
    return json.loads(file.read_text())


def test_native_shapes(api):
    listed = api.pages("/v1/devices?limit=1000")
    lines = [json.loads(line) for line in export(api)[0].text.splitlines()]
    assert lines == listed and len(lines) == DEVICES
    rows = list(csv.DictReader(io.StringIO(export(api, "?format=csv")[0].text, newline="")))
    assert [r["ueid"] for r in rows] == [d["ueid"] for d in listed] and {r["gone"] for r in rows} == {""}
    for row, text in zip(rows, HOSTILE):
        formula = text.lstrip(" ")[0] in "=+-@\t\r\n"
        assert row["serial"] == ("'" + text if formula else text)
    for row, device in zip(rows, listed):
        for name, value in device.items():
            told = "" if value is None else " ".join(value) if isinstance(value, list) else str(value)
            assert row[name] in (told, "'" + told), name


def test_hostile_texts_to_the_brim(api):
    """More than one answer may hold: it comes in more pieces, and whole."""
    api.db.sql("UPDATE device SET serial = s, vendor = s, hwmodel = s, hwversion = s, swname = s, kernel = s FROM (SELECT repeat(chr(1), 1024) AS s) x"
               " WHERE tenant_id = (SELECT tenant_id FROM tenant WHERE id = 'globex')")
    for path in ("/v1/assets", "/v1/devices?format=ndjson"):
        answer = api.ask(path, "globex")
        lines = [json.loads(line) for line in answer.content.splitlines()]
        assert [d["ueid"] for d in lines] == [ueid("globex", i) for i in range(DEVICES)] and len(answer.content) > 3 * 16 * 2**20
        assert {d["kernel"] for d in lines} == {"\1" * 1024}


def test_cyclonedx(api):
    answer, position = export(api, "?format=cyclonedx")
    bom = answer.json()
    bom_schema = schema("cyclonedx/schema/bom-1.6.schema.json")
    store = {f"http://cyclonedx.org/schema/{name}": schema("cyclonedx/schema/" + name) for name in ("spdx.schema.json", "jsf-0.82.schema.json")}
    resolver = jsonschema.RefResolver(bom_schema["$id"], bom_schema, store=store)
    jsonschema.Draft7Validator(bom_schema, resolver=resolver).validate({**bom, "components": bom["components"][:200]})
    assert len(bom["components"]) == DEVICES and len({c["bom-ref"] for c in bom["components"]}) == DEVICES
    assert bom["metadata"]["properties"] == [{"name": "fleetstate:position", "value": str(position)}]
    assert bom["components"][0]["manufacturer"]["name"] == HOSTILE[0]
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft7Validator(bom_schema, resolver=resolver).validate({**bom, "bomFormat": "x", "components": []})


def test_ocsf(api):
    """What a device is, 5001, and what firmware it says that it runs, 5020."""
    answer, _ = export(api, "?format=ocsf")
    lines = [json.loads(line) for line in answer.text.splitlines()]
    validators = {5001: jsonschema.Draft202012Validator(schema("ocsf/jsonschema-1.8.0/5001_inventory_info.schema.json")),
                  5020: jsonschema.Draft202012Validator(schema("ocsf/jsonschema-1.8.0/5020_software_info.schema.json"))}
    for event in lines:
        validators[event["class_uid"]].validate(event)
    events, software = ([e for e in lines if e["class_uid"] == of] for of in (5001, 5020))
    validator = validators[5001]
    assert [(e["device"]["uid"], e["package"]["name"], e["package"]["version"]) for e in software] == [
        (d["ueid"], d["swname"], d["swversion"] or "unknown") for d in api.pages("/v1/devices?limit=1000") if d["swname"] is not None] and software
    assert not validators[5020].is_valid({**software[0], "package": {"name": "x"}})
    assert {e["device"]["uid"] for e in events} == {ueid("acme", i) for i in range(DEVICES)} and {e["metadata"]["tenant_uid"] for e in events} == {"acme"}
    assert events[11]["device"]["hw_info"]["serial_number"] == "S-12" and events[11]["device"]["os"]["name"] == "os"
    # What people decided about it is nothing that it tells, nor how the event went.
    told = {d["ueid"]: {"lifecycle": d["lifecycle"], "posture": d["posture"]} for d in api.pages("/v1/devices?limit=1000")}
    assert {d["lifecycle"] for d in told.values()} == {"pending", "active", "retired", "revoked", "transferred"}
    assert [e["enrichments"] for e in events] == [[{"name": "device.uid", "value": e["device"]["uid"], "provider": "fleetstate", "data": told[e["device"]["uid"]]}] for e in events]
    assert not any("enrichments" in e or "status" in e for e in software) and not any("status" in e for e in events)
    [enrichment] = events[0]["enrichments"]
    for wrong in {k: v for k, v in enrichment.items() if k != "data"}, {**enrichment, "value": None}, {**enrichment, "lifecycle": "active"}:
        assert not validator.is_valid({**events[0], "enrichments": [wrong]})
    assert not validator.is_valid({**events[0], "type_uid": 1}) and not validator.is_valid({k: v for k, v in events[0].items() if k != "device"})


def test_netbox_and_servicenow(api):
    rows = list(csv.DictReader(io.StringIO(export(api, "?format=netbox")[0].text, newline="")))
    assert len(rows) == DEVICES and all(r[k] for r in rows for k in ("name", "role", "manufacturer", "device_type", "site", "status"))
    assert {r["status"] for r in rows} == {"active", "planned", "decommissioning", "offline"} and len({r["asset_tag"] for r in rows}) == DEVICES
    assert not any(v.lstrip(" ")[:1] in tuple("=+-@\t") and v for r in rows for v in r.values())
    body = export(api, "?format=servicenow")[0].json()
    assert len(body["items"]) == DEVICES and body["relations"] == []
    assert {i["sys_object_source_info"]["source_native_key"] for i in body["items"]} == {ueid("acme", i) for i in range(DEVICES)}
    told = {d["ueid"]: d["lifecycle"] for d in api.pages("/v1/devices?limit=1000")}
    assert {(told[i["internal_id"]], i["values"]["install_status"]) for i in body["items"]} == {("active", "1"), ("pending", "4"), ("retired", "7"), ("revoked", "7"), ("transferred", "7")}
    assert {i["className"] for i in body["items"]} == {"cmdb_ci_hardware"}


def test_what_netbox_is_not_told(api):
    """Its import keeps what stands there, an apostrophe too, and is refused as a whole for one serial number of more than 50 characters."""
    def told(column, value, name=ueid("acme", 21)):
        api.db.sql(f"UPDATE device SET {column} = %s WHERE ueid = decode(%s, 'hex')", (value, name))
        return next(r for r in csv.DictReader(io.StringIO(export(api, "?format=netbox")[0].text, newline="")) if r["name"] == name)

    for good in "s" * 50, "\u00e4" * 50, "5-5", "'-5", "x=1", '"', "a, b", "":
        row = told("serial", good)
        assert row["serial"] == good and "," not in row["description"], good
    for bad in "s" * 51, "\u00e4" * 51, "-5", "=1+1", "+49", "@x", " =1", "\t5", "\r5", "\uff1d1", "-" * 50:
        row = told("serial", bad)
        assert row["serial"] == "" and row["description"].endswith(", serial left out"), bad
        assert next(d for d in api.pages("/v1/devices?limit=1000") if d["ueid"] == row["name"])["serial"] == bad
        plain = next(r for r in csv.DictReader(io.StringIO(export(api, "?format=csv")[0].text, newline="")) if r["ueid"] == row["name"])
        assert plain["serial"] == ("" if bad[0] == "s" or bad[0] == "\u00e4" else "'") + bad, "that is for spreadsheets"
    told("serial", None)
    for column, cell, instead in (("vendor", "manufacturer", "unknown"), ("hwmodel", "device_type", "unknown"), ("swname", "platform", "")):
        before = told(column, "x")[cell]
        row = told(column, "=1+1")
        assert (before, row[cell]) == ("x", instead) and row["description"].endswith(f", {cell} left out")
        told(column, None)


def sequence(api):
    """As the collector's sequencer numbers what was committed."""
    while api.db.sql("SELECT number_events()")[0][0]:
        pass


def change(api, i, **columns):
    names = ", ".join(f"{c} = %s" for c in columns)
    api.db.sql(f"WITH d AS (UPDATE device SET {names} WHERE ueid = decode(%s, 'hex') RETURNING tenant_id, ueid)"
               " INSERT INTO event (tenant_id, type, ueid, data) SELECT tenant_id, 'device.state', ueid, '{}' FROM d", (*columns.values(), ueid("acme", i)))


def test_changes_only(api):
    sequence(api)
    _, position = export(api)
    assert export(api, f"?changed_since={position}")[0].text == ""
    for i in 30, 31, 30:
        change(api, i, swversion="2.0")
    api.db.sql("INSERT INTO event (tenant_id, type, ueid, data) SELECT tenant_id, t, ueid, '{}' FROM device, unnest('{device.event.login,device.refused,x}'::text[]) t"
               " WHERE ueid = decode(%s, 'hex')", (ueid("acme", 32),))
    sequence(api)
    answer, after = export(api, f"?changed_since={position}")
    assert [json.loads(line)["ueid"] for line in answer.text.splitlines()] == [ueid("acme", 31), ueid("acme", 30)] and after > position
    assert export(api, f"?changed_since={after}")[0].text == "" and export(api, f"?changed_since={position}", "globex")[0].text == ""
    # One that is another tenant's meanwhile.
    moved = "UPDATE device SET tenant_id = (SELECT tenant_id FROM tenant WHERE id = %s) WHERE ueid = decode(%s, 'hex')"
    api.db.sql("WITH e AS (INSERT INTO event (tenant_id, type, ueid, data) SELECT tenant_id, 'device.lifecycle', ueid, '{}' FROM device WHERE ueid = decode(%s, 'hex')) " + moved,
               (ueid("acme", 33), "globex", ueid("acme", 33)))
    sequence(api)
    gone = {"ueid": ueid("acme", 33), "gone": True}
    assert [json.loads(line) for line in export(api, f"?changed_since={after}")[0].text.splitlines()] == [gone]
    validator = jsonschema.Draft202012Validator(schema("ocsf/jsonschema-1.8.0/3004_entity_management.schema.json"))
    validator.validate(export(api, f"?changed_since={after}&format=ocsf")[0].json())
    [row] = csv.DictReader(io.StringIO(export(api, f"?changed_since={after}&format=csv")[0].text, newline=""))
    assert (row["ueid"], row["gone"]) == (ueid("acme", 33), "true")
    api.db.sql(moved, ("acme", ueid("acme", 33)))


def test_manifest(api, tmp_path):
    """Two calls with curl: the export, and the collector's word on those bytes. Checked by us and by a second implementation."""
    def verified(file, manifest, ca=api.pki / "operator-ca.crt"):
        words = ["verify", "--json", "--manifest", file, "--operator-ca", ca, manifest]
        done = subprocess.run([BIN / "fleetstate", *map(str, words)], capture_output=True, text=True)
        told = json.loads(done.stdout)
        assert done.returncode == (0 if told["verified"] else 1), done.stderr
        return told

    sequence(api)
    change(api, 40, swversion="3.0")
    sequence(api)
    last, all_rows = None, len(api.pages("/v1/devices?limit=1000"))
    for query, since, rows in (("format=csv", None, all_rows), ("format=cyclonedx", None, all_rows), ("format=ndjson&changed_since={}", -1, 1), ("format=csv&changed_since={}", 0, 0)):
        asked = query.format(last + since if since is not None else "")
        answer, last = export(api, f"?{asked}&manifest=true")
        digest = hashlib.sha256(answer.content).hexdigest()
        got = api.ask(f"/v1/assets/manifests/{digest}")
        assert (got.status_code, got.headers["Content-Type"]) == (200, "application/cwt"), got.text
        file, manifest = tmp_path / "export", tmp_path / "manifest"
        file.write_bytes(answer.content)
        manifest.write_bytes(got.content)
        told = verified(file, manifest)
        shape = query.split("&")[0].split("=")[1]
        expected = {"tenant": "acme", "format": shape, "rows": rows, "size": len(answer.content), "sha256": digest, "position": last,
                    "since": None if since is None else last + since}
        assert expected.items() <= told.items() and told["verified"]
        assert proof.verify_manifest(got.content, answer.content, api.pki / "operator-ca.crt")._asdict().items() >= {**expected, "sha256": bytes.fromhex(digest)}.items()
        api.problem(404, "not-found", f"/v1/assets/manifests/{digest}", "globex")
    # What is not what it says.
    for change_to in (answer.content + b"x", answer.content[:-1], b"X" + answer.content[1:]):
        file.write_bytes(change_to)
        assert not verified(file, manifest)["verified"]
        with pytest.raises(Refused):
            proof.verify_manifest(got.content, change_to, api.pki / "operator-ca.crt")
    file.write_bytes(answer.content)
    for i in range(0, len(got.content), 7):
        forged = got.content[:i] + bytes([got.content[i] ^ 1]) + got.content[i + 1:]
        manifest.write_bytes(forged)
        assert not verified(file, manifest)["verified"], i
        with pytest.raises(Refused):
            proof.verify_manifest(forged, answer.content, api.pki / "operator-ca.crt")
    manifest.write_bytes(got.content)
    assert not verified(file, manifest, api.pki / "maker-ca.crt")["verified"] and verified(file, manifest)["verified"]
    # Only what was asked for with it has one.
    plain, _ = export(api, "?format=netbox")
    api.problem(404, "not-found", f"/v1/assets/manifests/{hashlib.sha256(plain.content).hexdigest()}")
    for name in "0" * 64, "x", digest.upper(), digest + "00":
        api.problem(404, "not-found", f"/v1/assets/manifests/{name}")
    api.problem(400, "bad-parameter", "/v1/assets?manifest=yes")


def test_a_thousand_manifests_are_kept(api):
    api.db.sql("INSERT INTO export_manifest (tenant_id, sha256, message, made_at) SELECT tenant_id, sha256(i::text::bytea), '', now() - i * interval '1 min'"
               " FROM tenant, generate_series(1, 1200) i WHERE id = 'acme'")
    export(api, "?manifest=true")
    assert api.db.one("SELECT count(*) FROM export_manifest") == 1000


def explain(database):
    """The database tells the plan of each of the interface's statements, from the next connection on."""
    with contextlib.closing(psycopg2.connect(database.uri("postgres"))) as db:
        db.autocommit = True
        for setting in "session_preload_libraries = 'auto_explain'", "auto_explain.log_min_duration = 0", "auto_explain.log_analyze = on", "auto_explain.log_timing = off", \
                "auto_explain.log_buffers = on", "auto_explain.log_format = json":
            db.cursor().execute("ALTER ROLE fleetstate_api SET " + setting)


def plans(directory):
    return [json.JSONDecoder(strict=False).raw_decode(text.lstrip())[0] for text in (directory / "pg.log").read_text().split("  plan:\n")[1:]]


def test_no_row_is_looked_at_for_each_device(tmp_path):
    """What the database itself says of its plans: a page is not joined to all there is, by whatever statement."""
    api = Api(tmp_path, 3000, told=False)
    try:
        api.stop()
        api.db.sql("INSERT INTO device_state SELECT device_id, tenant_id, 1, 1, now(), now(), sha256('s'), sha256('i'), '{}' FROM device")
        api.db.sql("ANALYZE device, device_hot, device_state, device_words")
        explain(api.db)
        api.start()
        api.db.sql("INSERT INTO event (tenant_id, type, ueid, data) SELECT tenant_id, 'device.state', ueid, '{}' FROM device")
        sequence(api)
        for path in "/v1/assets?format=csv", "/v1/assets?format=ndjson&changed_since=1", "/v1/devices?limit=1000", "/v1/devices?sort=-serial&limit=1000", \
                "/v1/devices?format=csv&posture=unknown&q=s":
            assert len(api.ask(path).content) > 100000, path
        api.stop()
        found = plans(tmp_path)
        texts = [plan["Query Text"] for plan in found if "device_hot" in plan["Query Text"] and "card" in plan["Query Text"]]
        assert len(set(texts)) >= 5
        for plan in found:
            for node in every(plan["Plan"]):
                assert node.get("Rows Removed by Join Filter", 0) * node["Actual Loops"] < 30000, (plan["Query Text"][:300], node)
    finally:
        api.db.stop()


def every(plan):
    yield plan
    for inner in plan.get("Plans", []):
        yield from every(inner)


def test_who_follows_ends_with_the_whole(api):
    """While the fleet changes under it, in many pieces."""
    stop = threading.Event()

    def live():
        draw = random.Random(7)
        while not stop.is_set():
            change(api, draw.randrange(100, DEVICES), swversion=f"{draw.randrange(9)}.{draw.randrange(9)}")
            sequence(api)

    thread = threading.Thread(target=live)
    thread.start()
    try:
        answer, position = export(api)
        known = {d["ueid"]: d for d in map(json.loads, answer.text.splitlines())}
        rounds = 0
        while rounds < 20:
            answer, position = export(api, f"?changed_since={position}")
            known.update((d["ueid"], d) for d in map(json.loads, answer.text.splitlines()))
            rounds += 1
            if rounds == 15:
                stop.set()
                thread.join()
    finally:
        stop.set()
        thread.join()
    whole = {d["ueid"]: d for d in map(json.loads, export(api)[0].text.splitlines())}
    assert known == whole


def test_what_is_refused(api):
    for query in "format=xlsx", "format=", "changed_since=", "changed_since=-1", "changed_since=1x", "changed_since=99999999999999999":
        api.problem(400, "bad-parameter", "/v1/assets?" + query)
    api.problem(400, "bad-cursor", "/v1/assets?changed_since=999999999")
    api.problem(400, "unknown-parameter", "/v1/assets?since=1")
    api.problem(401, "unauthorized", "/v1/assets", None)
    for i in 50, 51:
        change(api, i, swversion="4.0")
    sequence(api)
    api.db.sql("UPDATE event SET time = now() - interval '1 year'; SELECT trim_events(interval '30 days', 1000000)")
    api.problem(410, "gone", "/v1/assets?changed_since=1")
