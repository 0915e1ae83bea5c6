"""What one device runs, as a bill of materials and as a table: held against CycloneDX's own schema, read back by its own library, and with hostile names."""

import collections
import contextlib
import csv
import gzip
import io
import json
import re
import threading

import jsonschema
import psycopg2
import pytest
import requests

from ingesting import resident
from npm import node
from test_api import Api, ueid
from test_assets import HOSTILE, explain, plans, schema

PURL = "pkg:deb/debian/openssl@3.0.15-1?arch=amd64&distro=debian-12"
# type, name, version, architecture, source, source version, purl
COMPONENTS = [
    ("dpkg", "openssl", "3.0.15-1", "amd64", None, None, PURL),
    ("dpkg", "libssl3", "3.0.15-1", "amd64", "openssl", None, "pkg:deb/debian/libssl3@3.0.15-1?arch=amd64&distro=debian-12"),
    ("apk", "busybox", "1.36.1-r2", None, None, None, "pkg:apk/alpine/busybox@1.36.1-r2"),
    ("image", "sensor", "2026.1", None, None, None, None),
    ("container", "app", "1", None, None, None, None),
    ("kernel-module", "wifi", "", None, None, None, None),
    ("firmware", "modem", "7", None, None, None, "no purl at all"),
    ("something-new", "x", "1", None, None, None, None),
    *(("opkg", text, text, text, text, text, None) for text in HOSTILE),
]
SET = """
WITH i AS (INSERT INTO inventory (tenant_id, digest, components) SELECT tenant_id, sha256(%(set)s::bytea), cardinality(%(names)s::text[]) FROM tenant WHERE id = 'acme' RETURNING *),
c AS (INSERT INTO component (tenant_id, digest, type, name, version, architecture, source, source_version, purl)
	SELECT tenant_id, sha256(convert_to(x, 'UTF8')), c[1], c[2], c[3], c[4], c[5], c[6], c[7] FROM i, unnest(%(names)s::text[]) x, LATERAL (SELECT x::text[] AS c) y
	ON CONFLICT (tenant_id, digest) DO UPDATE SET type = EXCLUDED.type RETURNING component_id, tenant_id)
INSERT INTO inventory_component SELECT inventory_id, component_id, c.tenant_id FROM i, c
"""
HAS = """
INSERT INTO device_state SELECT device_id, tenant_id, 1, 1, now(), now(), sha256('state'), sha256(%s::bytea), '{}' FROM device WHERE ueid = decode(%s, 'hex')
"""


def array(component):
    return "{" + ",".join("NULL" if v is None else '"' + v.replace("\\", "\\\\").replace('"', '\\"') + '"' for v in component) + "}"


@pytest.fixture(scope="module")
def api(tmp_path_factory):
    directory = tmp_path_factory.mktemp("inventory")
    api = Api(directory, 30, told=False)
    # The second set is the first in another order of arrival, with one more before it.
    api.db.sql(SET, {"set": "other", "names": [array(("rpm", "first", "1", None, None, None, None))]})
    api.db.sql(SET, {"set": "set", "names": [array(c) for c in COMPONENTS]})
    for device, name in (0, "set"), (1, "set"), (2, "on its way"), (3, "other"):
        api.db.sql(HAS, (name, ueid("acme", device)))
    api.db.sql("UPDATE device SET vendor = %s, hwversion = %s WHERE ueid = decode(%s, 'hex')", ("a\"b", "\x01", ueid("acme", 0)))
    yield api
    api.close()


def whole(api, device, shape):
    answer = api.ask(f"/v1/devices/{ueid('acme', device)}/inventory?format={shape}")
    assert answer.status_code == 200, answer.text
    return answer


def test_as_a_table(api):
    answer = whole(api, 0, "csv")
    rows = list(csv.reader(io.StringIO(answer.content.decode(), newline=""), strict=True))
    assert answer.headers["Content-Type"].startswith("text/csv") and rows[0] == "type name version architecture source source_version purl".split()

    def safe(value):
        return "" if value is None else "'" + value if value.lstrip(" ")[:1] in tuple("=+-@\t\r\n") and value else value

    assert sorted(rows[1:]) == sorted([safe(v) for v in c] for c in COMPONENTS)


def test_as_a_bill_of_materials(api):
    answer = whole(api, 0, "cyclonedx")
    bom = answer.json()
    bom_schema = schema("cyclonedx/schema/bom-1.6.schema.json")
    store = {f"http://cyclonedx.org/schema/{name}": schema("cyclonedx/schema/" + name) for name in ("spdx.schema.json", "jsf-0.82.schema.json")}
    validator = jsonschema.Draft7Validator(bom_schema, resolver=jsonschema.RefResolver(bom_schema["$id"], bom_schema, store=store))
    validator.validate(bom)
    assert not validator.is_valid({**bom, "components": [{"type": "x", "name": "y"}]})
    assert answer.headers["Content-Type"].startswith("application/vnd.cyclonedx+json")
    assert len(bom["components"]) == len(COMPONENTS) == len({c["bom-ref"] for c in bom["components"]})
    of = bom["metadata"]["component"]
    assert (of["type"], of["bom-ref"], of["name"], of["manufacturer"]["name"]) == ("device", ueid("acme", 0), "model-1", 'a"b')
    found = {}
    for c in bom["components"]:
        more = {p["name"].removeprefix("fleetstate:"): p["value"] for p in c.get("properties", ())}
        found[more["type"], c["name"]] = (c, more)
        assert "licenses" not in c
    for kind, name, version, architecture, source, source_version, purl in COMPONENTS:
        c, more = found[kind, name]
        assert (c.get("version", ""), more.get("architecture"), more.get("source"), more.get("source-version")) == (version, architecture, source, source_version)
        assert c.get("purl", more.get("purl")) == purl and ("purl" in c) == (purl or "").startswith("pkg:")
    assert {kind: c["type"] for (kind, _), (c, _) in found.items()} == {
        "dpkg": "library", "apk": "library", "opkg": "library", "something-new": "library", "image": "operating-system", "container": "container",
        "kernel-module": "device-driver", "firmware": "firmware"}


def test_as_events(api):
    """Of OCSF: what it runs, a Software Inventory Info for each component."""
    answer = whole(api, 0, "ocsf")
    validator = jsonschema.Draft202012Validator(schema("ocsf/jsonschema-1.8.0/5020_software_info.schema.json"))
    events = [json.loads(line) for line in answer.content.decode().split("\n")[:-1]]
    for event in events:
        validator.validate(event)
    assert not validator.is_valid({**events[0], "package": {"name": "x"}}) and answer.headers["Content-Type"] == "application/x-ndjson"
    assert {(e["device"]["uid"], e["device"]["hw_info"]["serial_number"], e["metadata"]["tenant_uid"]) for e in events} == {(ueid("acme", 0), "S-1", "acme")}

    def told(kind, name, version, architecture, source, source_version, purl):
        kinds = {"package_manager": kind} if kind in ("dpkg", "apk", "opkg", "rpm") else {"type_id": 2} if kind == "image" else {"type_id": 99, "type": kind}
        return {k: v for k, v in {"name": name, "version": version or "unknown", "architecture": architecture, "purl": purl, **kinds}.items() if v is not None}

    def key(package):
        return json.dumps(package, sort_keys=True)

    assert sorted((e["package"] for e in events), key=key) == sorted((told(*c) for c in COMPONENTS), key=key)


def test_the_same_inventory_is_the_same_bill(api):
    def text(device):
        return whole(api, device, "cyclonedx").text

    api.db.sql("UPDATE device_state SET received_at = now() - interval '1 day'")
    first = text(0)
    told_at = api.db.one("SELECT to_char(received_at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"') FROM device_state JOIN device USING (device_id) WHERE ueid = decode(%s, 'hex')",
                         (ueid("acme", 0),))
    assert json.loads(first)["metadata"]["timestamp"] == told_at, "which is not when it is asked for: who has it is told so"
    for shape in "cyclonedx", "ocsf", "csv":
        tag = whole(api, 0, shape).headers["ETag"]
        assert api.ask(f"/v1/devices/{ueid('acme', 0)}/inventory?format={shape}", headers={"If-None-Match": tag}).status_code == 304
    bills = [json.loads(first), json.loads(text(1)), json.loads(text(3))]
    assert bills[0]["components"] == bills[1]["components"] and len({b["serialNumber"] for b in bills}) == 3
    # Heard of in another order, and so under other numbers.
    api.db.sql(SET, {"set": "again", "names": [array(c[:1] + (c[1] + "x",) + c[2:]) for c in reversed(COMPONENTS[:5])]})
    api.db.sql(HAS, ("again", ueid("acme", 5)))
    names = [c["name"] for c in json.loads(text(5))["components"]]
    assert names == sorted(names) and len(names) == 5
    assert re.fullmatch("urn:uuid:[0-9a-f]{8}-[0-9a-f]{4}-8[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", bills[0]["serialNumber"])


def test_what_is_not_there_is_no_empty_list(api):
    for shape in "csv", "cyclonedx", "ocsf":
        for device in 2, 9:
            api.problem(404, "not-found", f"/v1/devices/{ueid('acme', device)}/inventory?format={shape}")
        api.problem(404, "not-found", f"/v1/devices/{ueid('acme', 0)}/inventory?format={shape}", "globex")
        api.problem(404, "not-found", f"/v1/devices/{ueid('nobody', 0)}/inventory?format={shape}")
        api.problem(404, "not-found", f"/v1/devices/x/inventory?format={shape}")
        for more in "limit=1", "cursor=x":
            api.problem(400, "bad-parameter", f"/v1/devices/{ueid('acme', 0)}/inventory?format={shape}&{more}")
    for shape in "", "xml", "spdx", "CSV":
        api.problem(400, "bad-parameter", f"/v1/devices/{ueid('acme', 0)}/inventory?format={shape}")


READ_BACK = """
const C = require("@cyclonedx/cyclonedx-library"), { PackageURL } = require("packageurl-js");
const text = require("fs").readFileSync(0, "utf8"), purls = JSON.parse(text).components.filter(c => c.purl).map(c => c.purl);
new C.Validation.JsonStrictValidator(C.Spec.Version.v1dot6).validate(text)
    .then(fault => console.log(JSON.stringify({fault, names: purls.map(p => PackageURL.fromString(p).name)})));
"""


def test_read_back_by_its_own_library(api):
    """CycloneDX's and package-url's: the bill of one device, and the fleet's."""
    bom, fleet = whole(api, 0, "cyclonedx").json(), api.ask("/v1/assets?format=cyclonedx").json()
    assert node(READ_BACK, json.dumps(bom)) == {"fault": None, "names": [c["name"] for c in bom["components"] if "purl" in c]}
    assert node(READ_BACK, json.dumps(fleet)) == {"fault": None, "names": []} and len(fleet["components"]) == 30
    for wrong in bom, fleet:
        assert node(READ_BACK, json.dumps({**wrong, "serialNumber": "x"}))["fault"]


MOST = 20000  # LIMIT_COMPONENTS
LARGE = """
WITH i AS (INSERT INTO inventory (tenant_id, digest, components) SELECT tenant_id, sha256(%(set)s::bytea), %(n)s FROM tenant WHERE id = 'acme' RETURNING *),
c AS (INSERT INTO component (tenant_id, digest, type, name, version, purl) SELECT tenant_id, sha256((%(set)s || n)::bytea), 'dpkg', 'component-' || n %% (%(n)s / 3), n, repeat('p', 80)
	FROM i, generate_series(1, %(n)s) n RETURNING component_id, tenant_id)
INSERT INTO inventory_component SELECT inventory_id, component_id, c.tenant_id FROM i, c
"""
SHAPES = "csv", "cyclonedx", "ocsf"


@pytest.fixture
def large(tmp_path, monkeypatch):
    """Devices 0 and 1 have as many components as one may have; the first says as much of itself, which OCSF has in each line. The others have few."""
    monkeypatch.setenv("ASAN_OPTIONS", "quarantine_size_mb=1", prepend=":")
    api = Api(tmp_path, 30, told=False)
    for name, n in ("large", MOST), ("few", 1000), ("fewer", 999):
        api.db.sql(LARGE, {"set": name, "n": n})
    for device, name in (0, "large"), (1, "large"), (2, "few"), (3, "fewer"):
        api.db.sql(HAS, (name, ueid("acme", device)))
    api.db.sql("UPDATE device SET vendor = %s, serial = %s, hwversion = %s WHERE ueid = decode(%s, 'hex')", (*["v" * 1024] * 3, ueid("acme", 0)))
    api.db.sql("ANALYZE")
    yield api
    api.close()


def names(shape, content):
    """What each component is told by, in order."""
    if shape == "csv":
        return [(row[1], row[2]) for row in csv.reader(io.StringIO(content.decode(), newline=""))][1:]
    if shape == "cyclonedx":
        return [(c["name"], c["version"]) for c in json.loads(content)["components"]]
    return [(e["package"]["name"], e["package"]["version"]) for e in map(json.loads, content.decode().splitlines())]


def test_the_largest_inventory_is_a_stream(large):
    expected = sorted((f"component-{n % (MOST // 3)}", str(n)) for n in range(1, MOST + 1))
    for shape in SHAPES:
        path = f"/v1/devices/{ueid('acme', 1)}/inventory?format={shape}"
        answer = whole(large, 1, shape)
        assert names(shape, answer.content) == expected and answer.headers["Transfer-Encoding"] == "chunked"
        tag = answer.headers["ETag"]
        assert tag == whole(large, 1, shape).headers["ETag"]
        assert (tag == whole(large, 0, shape).headers["ETag"]) == (shape == "csv"), "which tells nothing of the device"
        for listed, status in (tag, 304), (f'"x", {tag}', 304), ('"x"', 200), (tag[:-2] + '"', 200):
            again = large.ask(path, headers={"If-None-Match": listed})
            assert (again.status_code, again.headers["ETag"], again.content == (b"" if status == 304 else answer.content)) == (status, tag, True)
        head = large.ask(path, method="HEAD")
        assert (head.status_code, head.content) == (200, b"")
        packed = large.ask(path, headers={"Accept-Encoding": "gzip"}, stream=True)
        assert packed.headers["Content-Encoding"] == "gzip" and gzip.decompress(packed.raw.read(decode_content=False)) == answer.content
        # Few are one answer.
        for device, n in (2, 1000), (3, 999):
            answer = whole(large, device, shape)
            assert ("Content-Length" in answer.headers) == (n < 1000) and len(set(names(shape, answer.content))) == n
            assert large.ask(f"/v1/devices/{ueid('acme', device)}/inventory?format={shape}", headers={"If-None-Match": answer.headers["ETag"]}).status_code == 304


def test_memory_is_flat_whoever_asks_for_the_largest(large):
    """Each answer has more bytes than an answer that is no stream may have."""
    sizes = collections.deque()

    def read():
        with requests.get(f"http://127.0.0.1:{large.port}/v1/devices/{ueid('acme', 0)}/inventory?format=ocsf", stream=True, timeout=300,
                          headers={"Authorization": "Bearer " + large.tokens["acme"], "Accept-Encoding": "identity"}) as answer:
            sizes.append(sum(map(len, answer.iter_content(1 << 16))))

    whole(large, 2, "csv")
    before = resident(large.process.pid)
    readers = [threading.Thread(target=read) for _ in range(8)]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join()
    peak = int(re.search(r"VmHWM:\s+(\d+)", open(f"/proc/{large.process.pid}/status").read())[1]) * 1024
    assert len(sizes) == 8 and len(set(sizes)) == 1 and sizes[0] > 16 << 20
    assert peak - before < 8 * (12 << 20) < sum(sizes) / 4, (peak - before, sizes)


def begin(api, device=0):
    """The largest, of which no more is read than has come. What else there is of it has to wait for that."""
    answer = api.ask(f"/v1/devices/{ueid('acme', device)}/inventory?format=ocsf", headers={"Accept-Encoding": "identity"}, stream=True)
    return answer, answer.raw.read(1000)


def test_what_is_reported_meanwhile_changes_nothing_of_it(large):
    expected = whole(large, 0, "ocsf").content
    answer, first = begin(large)
    large.db.sql("UPDATE device_state SET inventory_digest = sha256('few'), received_at = now()")
    assert first + answer.raw.read() == expected
    assert len(names("ocsf", whole(large, 0, "ocsf").content)) == 1000


@pytest.mark.parametrize("lost", [
    "DELETE FROM inventory_component WHERE component_id = (SELECT component_id FROM component WHERE digest = sha256('large19999'))",
    "UPDATE device SET lifecycle = 'deleted', deleted_at = now()",
    "UPDATE api_token SET revoked_at = now()",
])
def test_one_that_can_not_be_finished_does_not_look_whole(large, lost):
    answer, first = begin(large)
    large.db.sql(lost)
    with pytest.raises((requests.exceptions.ChunkedEncodingError, requests.exceptions.ConnectionError)):
        for _ in answer.iter_content(1 << 20):
            pass


def test_a_question_about_one_device_costs_the_same_for_any(tmp_path):
    """By what the database itself says of its plans: the last of 5,000 devices, whose digests are the last as well, has as many pages read as the first."""
    api = Api(tmp_path, 5000, told=False)
    try:
        api.stop()
        api.db.sql("INSERT INTO inventory (tenant_id, digest, components) SELECT tenant_id, decode(lpad(to_hex(device_id), 64, '0'), 'hex'), 0 FROM device")
        api.db.sql("INSERT INTO device_state SELECT device_id, tenant_id, 1, 1, now(), now(), sha256('s'), decode(lpad(to_hex(device_id), 64, '0'), 'hex'), '{}' FROM device")
        api.db.sql("INSERT INTO device_epoch (device_id, epoch, tenant_id, first_seen) SELECT device_id, 1, tenant_id, now() FROM device")
        api.db.sql("INSERT INTO report_gap (device_id, epoch, missing, tenant_id) SELECT device_id, 1, '[1,2)', tenant_id FROM device")
        api.db.sql("INSERT INTO challenge (device_id, tenant_id, nonce, asked_at, asked_by, expires_at) SELECT device_id, tenant_id, '\\x0011223344556677', now(), 'x', now() FROM device")
        api.db.sql("INSERT INTO alert (device_id, tenant_id, policy_id, reasons) SELECT device_id, tenant_id, (SELECT min(policy_id) FROM policy), '{}' FROM device")
        with contextlib.closing(psycopg2.connect(api.db.uri("postgres"))) as db:
            db.autocommit = True
            db.cursor().execute("VACUUM ANALYZE")
        explain(api.db)
        api.start()
        paths = ["", "/state", "/inventory", "/inventory?format=csv", "/ledger", "/challenges", "/reports", "/events", "/alerts"]
        ends = [u for u, in api.db.sql("SELECT encode(d.ueid, 'hex') FROM device d JOIN tenant t USING (tenant_id) WHERE t.id = 'acme' AND device_id IN"
                                       " (SELECT unnest(ARRAY[min(device_id), max(device_id)]) FROM device JOIN tenant USING (tenant_id) WHERE id = 'acme') ORDER BY device_id")]
        for device in *ends, *ends:
            for path in paths:
                assert api.ask(f"/v1/devices/{device}{path}").status_code == 200
            assert api.ask(f"/v1/diff?a={device}&b={ueid('acme', 2500)}").status_code == 200
        api.stop()
        pages = {}
        for plan in plans(tmp_path):
            pages.setdefault(plan["Query Text"], []).append(plan["Plan"]["Shared Hit Blocks"] + plan["Plan"]["Shared Read Blocks"])
        asked = {text: n for text, n in pages.items() if "device d" in text and "$1" in text}
        assert len(asked) > 8
        for text, n in asked.items():
            assert max(n[-len(n) // 4:]) <= max(n[-len(n) // 2:-len(n) // 4]) + 8, (n, text)
    finally:
        api.db.stop()
