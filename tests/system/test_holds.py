"""Deleting devices and legal holds on a running system: what is gone, what stays, what is kept from whom, and that an audit can tell one from the other."""

import hashlib
import json

import psycopg2
import pytest

from ingesting import await_true
from test_retention import age
from test_tenants import Tenants, heard, name, view

ROWS = ("report", "state_history", "device_history", "device_state", "report_gap", "report_expired", "refusal_count", "challenge", "challenge_stray", "alert",
        "verdict_pending", "device_kept", "device_purge")


@pytest.fixture(scope="module")
def system(tmp_path_factory):
    system = Tenants(tmp_path_factory.mktemp("holds"), checkpoint_interval="1s")
    yield system
    system.close()


def hold(system, device, reason, token="acme", **more):
    return system.patch(device, token, legal_hold={"reason": reason}, **more)


def delete(system, device, token="acme", query="", **headers):
    return system.ask(f"/v1/devices/{name(device)}{query}", token, "DELETE", headers)


def left(system, device):
    """Of which tables are rows left of it."""
    mine = "(SELECT device_id FROM device WHERE ueid = %s)"
    return {t for t in ROWS if system.database.one(f"SELECT count(*) FROM {t} WHERE device_id IN {mine}", (device.ueid,))}


def await_purged(system, device):
    await_true(lambda: left(system, device) == set(), "all of it gone")


def findings(system, device=None, status=0):
    lines = [json.loads(line) for line in system.database.cli("audit", "--json", *(["--device", name(device)] if device else []), status=status).splitlines()]
    lines.pop()
    return [(line["finding"], line["first"], line["last"]) for line in lines if "finding" in line]


def counted(system, reason):
    return sum(e["data"]["n"] for e in system.events("acme") if e["type"] == "device.refused" and e["data"]["reason"] == reason)


def told(system, device, token="acme"):
    return [e for e in system.events(token) if e["ueid"] == name(device)]


def test_a_deleted_device_is_gone_and_the_audit_knows(system):
    device, other = system.device(), system.device()
    messages = [device.full(), device.quiet(), device.eventful(), device.quiet({"receipt": True})]
    heard(device, *messages)
    heard(other, other.full(), other.quiet({"receipt": True}))
    assert system.patch(device, labels={"site": "berlin"}).status_code == 200
    assert system.ask(f"/v1/devices/{name(device)}/challenge", method="POST").status_code == 201
    system.database.sql("INSERT INTO alert (device_id, tenant_id, policy_id) SELECT d.device_id, d.tenant_id, p.policy_id FROM device d, policy p"
                        " WHERE d.ueid = %s AND p.id = 'silent'", (device.ueid,))
    number = system.database.one("SELECT coalesce(max(number), 0) FROM checkpoint")
    await_true(lambda: system.database.one("SELECT coalesce(max(number), 0) FROM checkpoint") > number, "a checkpoint that names it")
    before = sum(system.get("/v1/fleet")["lifecycle"].values())

    tag = system.ask("/v1/devices/" + name(device)).headers["ETag"]
    for token, query, headers, status in (("buyer", "", {}, 404), ("operator", "", {}, 400), ("operator", "?tenant=buyer", {}, 404), ("acme", "", {"If-Match": '"99"'}, 412),
                                          ("acme", "", {"If-Match": "W/" + tag}, 412), ("acme", "", {"If-None-Match": tag}, 412), ("acme", "", {"If-Match": "x"}, 400), ("acme", "?force=yes", {}, 400)):
        assert delete(system, device, token, query, **headers).status_code == status, (token, query, headers)
    assert system.ask("/v1/devices/" + name(device), method="DELETE", json={"why": "x"}).status_code == 400
    answer = delete(system, device, **{"If-Match": tag})
    assert (answer.status_code, answer.text) == (204, "")

    for token, query in (("acme", ""), ("operator", "?tenant=acme")):
        assert set(view(system, device, token).values()) == {404} or query
    assert system.patch(device, labels={"a": "b"}).status_code == delete(system, device).status_code == 404
    for message in messages:
        digest = hashlib.sha256(message).hexdigest()
        assert system.ask("/v1/reports/" + digest).status_code == system.ask(f"/v1/reports/{digest}/proof").status_code == 404
    lists = system.ask("/v1/devices?format=ndjson").text + system.ask("/v1/assets?format=ndjson").text + system.ask("/v1/devices?label=site").text
    assert name(device) not in lists and name(other) in lists and name(device) not in system.database.cli("device", "list")
    assert sum(system.get("/v1/fleet")["lifecycle"].values()) == before - 1
    assert [i for i in system.get("/v1/alerts?state=open")["items"] if i.get("ueid") == name(device)] == []
    # Asset systems are told of the name alone.
    await_true(lambda: [e for e in told(system, device) if e["data"].get("lifecycle") == "deleted"], "the feed telling it")
    [gone] = [json.loads(line) for line in system.ask("/v1/assets?format=ndjson&changed_since=0").text.splitlines() if name(device) in line]
    assert gone == {"ueid": name(device), "gone": True}

    await_purged(system, device)
    assert findings(system) == []
    assert [e["data"]["by"] for e in told(system, device) if e["data"].get("lifecycle") == "deleted"] == ["acme's admin"]
    entries = [e for e in system.get("/v1/audit?kind=change")["items"] if name(device) in e["target"]]
    assert {"ERASE", "DELETE"} <= {e["method"] for e in entries}
    [erased] = [e for e in entries if e["method"] == "ERASE"]
    assert (erased["who"], erased["chain"]) == ("acme's admin", [{"epoch": device.epoch.hex(), "seq": 4, "sha256": hashlib.sha256(messages[-1]).hexdigest()}])
    assert "ERASE" not in json.dumps(system.get("/v1/audit", "buyer"))
    # Whoever asks for this one is told what became of it.
    told_of, totals = map(json.loads, system.database.cli("audit", "--json", "--device", name(device)).splitlines())
    [at] = system.database.sql("SELECT rfc3339(deleted_at) FROM device WHERE ueid = %s", (device.ueid,))
    assert told_of == {"deleted": {"ueid": name(device), "tenant": "acme", "at": at[0], "by": "acme's admin", "entry": erased["number"], "removing": False,
                                   "epochs": [{"epoch": device.epoch.hex(), "seq": 4}]}} and (totals["devices"], totals["findings"]) == (0, 0)
    line = system.database.cli("audit", "--tenant", "acme", "--device", name(device)).splitlines()[0]
    assert line == (f"device {name(device)} of tenant acme was deleted at {at[0]} by acme's admin, entry {erased['number']} of the audit log:"
                    f" its reports are gone, and ended at epoch {device.epoch.hex()} seq 4")
    for words in (["--device", name(device), "--tenant", "buyer"], ["--device", "01" + "9" * 32], ["--tenant", "nobody"]):
        system.database.cli("audit", *words, status=2)


def test_one_that_goes_on_reporting_is_refused_until_it_is_registered_again(system):
    device = system.device()
    early = [device.full(), device.quiet(), device.quiet({"receipt": True})]
    heard(device, *early)
    assert delete(system, device).status_code == 204
    before = counted(system, "device-deleted")
    late = [device.quiet(), device.full()]  # without and with its certificate
    for message in late:
        device.publish(message)
    await_true(lambda: counted(system, "device-deleted") > before, "it being refused by that name")
    await_true(lambda: left(system, device) == {"refusal_count"}, "all else gone")
    assert system.ask("/v1/devices/" + name(device)).status_code == 404 and system.stored(device) == []
    samples = system.database.sql("SELECT DISTINCT length(sample) FROM refusal WHERE ueid = %s AND reason = 'device-deleted'", (device.ueid,))
    assert samples == [(0,)], "nothing of what it tells comes in that way"
    # Nor does it come back as another tenant's.
    for token in "buyer", "operator":
        assert system.ask("/v1/devices" + ("?tenant=buyer" if token == "operator" else ""), token, "POST", json={"ueid": name(device)}).status_code == 409

    assert system.ask("/v1/devices", method="POST", json={"ueid": name(device), "serial": "again"}).status_code == 201
    item = system.get("/v1/devices/" + name(device))
    assert (item["lifecycle"], item["serial"], item["last_seen"], item["seq"], item["labels"]) == ("active", "again", None, None, [])
    assert [view(system, device, "acme")[p] for p in ("/state", "/inventory")] == [404, 404]
    # What was refused is good now, in its place in the chain; what was stored before is known for old.
    await_true(lambda: device.publish(late[0]) == 0 and system.stored(device), "its reports being taken again")
    heard(device, late[1], early[1], device.quiet({"receipt": True}))
    [epoch] = system.get(f"/v1/devices/{name(device)}/ledger")["epochs"]
    assert [epoch[k] for k in ("received", "missing", "dropped", "forks", "chain_breaks")] == [[[4, 6]], [], [], 0, 0] and epoch["duplicates"] >= 1
    assert system.get("/v1/devices/" + name(device))["serial"] == "SN-0001" and findings(system, device) == []
    await_true(lambda: [e["data"]["lifecycle"] for e in told(system, device) if e["type"] == "device.lifecycle"] == ["deleted", "active"], "the feed telling both")
    # And once more, by the command line.
    system.database.cli("device", "delete", name(device))
    system.database.cli("device", "delete", name(device), status=1)
    system.database.cli("device", "show", name(device), status=1)
    await_purged(system, device)
    assert findings(system) == []
    system.database.cli("audit", "--log")


def test_a_key_that_was_revoked_stays_so(system):
    device = system.device()
    heard(device, device.full())
    kid = system.database.one("SELECT encode(kid, 'hex') FROM device_key JOIN device USING (device_id) WHERE ueid = %s", (device.ueid,))
    system.database.cli("key", "revoke", name(device), kid)
    assert delete(system, device).status_code == 204
    await_purged(system, device)
    assert system.ask("/v1/devices", method="POST", json={"ueid": name(device)}).status_code == 201
    message = device.full()
    await_true(lambda: device.publish(message) == 0 and system.get(f"/v1/devices/{name(device)}/ledger")["refused"].get("key-revoked"), "it being refused")
    assert system.stored(device) == []


def test_what_was_transferred_is_deleted_apart(system):
    device = system.device()
    heard(device, device.full(), device.quiet({"receipt": True}))
    system.transfer(device, "acme", "buyer")
    heard(device, device.full())
    assert delete(system, device).status_code == 204
    assert set(view(system, device, "acme").values()) == {404} and system.lifecycle(device, "buyer") == "active"
    await_true(lambda: [seq for _, seq, _ in system.stored(device)] == [3], "what the former tenant had gone")
    heard(device, device.quiet({"receipt": True}))
    assert system.ask("/v1/devices", method="POST", json={"ueid": name(device)}).status_code == 409, "it is another's"
    assert findings(system, device) == []
    # It comes back, and its former owner's numbers are told nobody.
    system.transfer(device, "buyer", "acme")
    heard(device, device.full())
    assert [r["seq"] for r in system.get(f"/v1/devices/{name(device)}/reports")["items"]] == [5]
    assert findings(system, device) == []


# And how many findings that makes.
FORGERIES = [
    ("UPDATE device SET lifecycle = 'deleted', deleted_at = now() WHERE ueid = %(ueid)s", 1),
    ("DELETE FROM report_quiet r USING device d WHERE d.ueid = %(ueid)s AND r.device_id = d.device_id;"
     " INSERT INTO report_drop SELECT device_id, epoch, '[2,3]', d.tenant_id, 'deleted', (SELECT number FROM audit_head), h.head FROM device_hot h JOIN device d USING (device_id)"
     " WHERE d.ueid = %(ueid)s", 1),
    ("UPDATE report_drop p SET sha256 = sha256('') FROM device d WHERE d.ueid = %(other)s AND p.device_id = d.device_id", 1),
    ("UPDATE report_drop p SET dropped = '[1,1]' FROM device d WHERE d.ueid = %(other)s AND p.device_id = d.device_id", 2),
    ("DELETE FROM report_drop p USING device d WHERE d.ueid = %(other)s AND p.device_id = d.device_id", 1),
]


def test_nobody_hides_a_loss_behind_a_deletion(system):
    device, other = system.device(), system.device()
    heard(device, device.full(), device.quiet(), device.quiet({"receipt": True}))
    heard(other, other.full(), other.quiet({"receipt": True}))
    assert delete(system, other).status_code == 204
    await_purged(system, other)
    tables = ("device", "report_quiet", "report_drop")
    for change, expected in FORGERIES:
        with psycopg2.connect(system.database.uri("fleetstate_owner")) as db, db.cursor() as c:
            for table in tables:
                c.execute(f"CREATE TABLE public.{table}_saved AS SELECT * FROM {table}")
            c.execute(change, {"ueid": device.ueid, "other": other.ueid})
        found = [f for f in findings(system, status=1) if f[0] == "deletion"]
        with psycopg2.connect(system.database.uri("fleetstate_owner")) as db, db.cursor() as c:
            c.execute("UPDATE device d SET lifecycle = s.lifecycle, deleted_at = s.deleted_at FROM public.device_saved s WHERE s.device_id = d.device_id"
                      " AND (s.lifecycle, s.deleted_at) IS DISTINCT FROM (d.lifecycle, d.deleted_at); DROP TABLE public.device_saved")
            for table in tables[1:]:
                c.execute(f"DELETE FROM {table}; INSERT INTO {table} SELECT * FROM public.{table}_saved; DROP TABLE public.{table}_saved")
        assert [f[0] for f in found] == ["deletion"] * expected, change
    assert findings(system) == []


# Holds.

def test_what_is_held_is_not_deleted(system):
    device = system.device()
    heard(device, device.full())
    first = system.ask("/v1/devices/" + name(device))
    assert first.json()["legal_hold"] is None
    for wrong in ("x", 1, [], {}, {"reason": ""}, {"reason": 1}, {"reason": "x" * 1025}, {"reason": "x", "by": "me"}, {"since": "2020-01-01"}):
        answer = system.patch(device, legal_hold=wrong)
        assert (answer.status_code, answer.json()["type"]) == (400, "urn:fleetstate:problem:bad-body") and answer.json()["detail"], wrong
    assert hold(system, device, "x", "buyer").status_code == 404
    assert system.patch(device, legal_hold={"reason": "x"}, headers={"If-Match": '"99"'}).status_code == 412
    assert system.get("/v1/devices/" + name(device))["legal_hold"] is None

    held = hold(system, device, "Case 17", headers={"If-Match": first.headers["ETag"]})
    mark = held.json()["legal_hold"]
    assert held.status_code == 200 and (mark["scope"], mark["reason"], mark["by"]) == ("device", "Case 17", "acme's admin") and mark["since"]
    assert held.headers["ETag"] != first.headers["ETag"] and system.patch(device, legal_hold=None, headers={"If-Match": first.headers["ETag"]}).status_code == 412
    assert hold(system, device, "Case 17").headers["ETag"].split(".")[0] == held.headers["ETag"].split(".")[0], "the same again"
    refused = delete(system, device)
    assert (refused.status_code, refused.json()["type"]) == (409, "urn:fleetstate:problem:conflict")
    assert refused.json()["detail"] == f"The device is on legal hold since {mark['since']}: Case 17"
    system.database.cli("device", "delete", name(device), status=1)
    # It reports as before, and may be retired: only nothing of it goes.
    heard(device, device.quiet({"receipt": True}))
    assert system.patch(device, lifecycle="retired").json()["legal_hold"] == mark

    assert system.patch(device, legal_hold=None).json()["legal_hold"] is None
    system.database.cli("device", "hold", name(device), "--reason", "Case 18")
    assert system.get("/v1/devices/" + name(device))["legal_hold"]["reason"] == "Case 18"
    for words in ((), ("--reason", "x", "--release")):
        system.database.cli("device", "hold", name(device), *words, status=2)
    system.database.cli("device", "hold", "01" + "0" * 32, "--release", status=1)
    assert delete(system, device).status_code == 409
    system.database.cli("device", "hold", name(device), "--release")
    await_true(lambda: [(e["data"]["change"], e["data"]["why"]) for e in told(system, device) if e["type"] == "device.hold"] == [
        ("held", "Case 17"), ("released", "Case 17"), ("held", "Case 18"), ("released", "Case 18")], "the feed telling all of it")
    assert sum(name(device) in e["target"] and e["method"] == "PATCH" and "status" not in e for e in system.get("/v1/audit?kind=change&limit=1000")["items"]) >= 3
    assert delete(system, device).status_code == 204


def test_all_of_a_tenant_is_held(system):
    device, other = system.device(), system.device()
    for one in device, other:
        heard(one, one.full(), one.quiet({"receipt": True}))
    assert hold(system, other, "Case 22").status_code == 200

    def change(value, token="acme", path="acme", query="", **headers):
        return system.ask(f"/v1/tenants/{path}{query}", token, "PATCH", headers, json={"legal_hold": value})

    first = system.ask("/v1/tenants/acme")
    assert (first.json()["id"], first.json()["legal_hold"]) == ("acme", None)
    for wrong in ("x", {}, {"reason": ""}, {"reason": "x", "by": "me"}):
        assert change(wrong).status_code == 400, wrong
    assert system.ask("/v1/tenants/acme", method="PATCH", json={"name": "x"}).status_code == system.ask("/v1/tenants/acme", method="PATCH", json={}).status_code == 400
    for token, path, query in (("buyer", "acme", ""), ("acme", "buyer", ""), ("acme", "nobody", ""), ("operator", "nobody", ""), ("operator", "acme", "?tenant=buyer"), ("buyer", "acme", "?tenant=buyer")):
        assert change({"reason": "x"}, token, path, query).status_code == system.ask(f"/v1/tenants/{path}{query}", token).status_code == 404, (token, path, query)
    assert change({"reason": "x"}, **{"If-Match": '"99"'}).status_code == 412
    assert system.get("/v1/tenants/acme")["legal_hold"] is None

    held = change({"reason": "Case 23"}, **{"If-Match": first.headers["ETag"]})
    assert (held.status_code, held.json()["legal_hold"]["reason"], held.json()["legal_hold"]["scope"]) == (200, "Case 23", "tenant")
    assert change(None, **{"If-Match": first.headers["ETag"]}).status_code == 412
    assert system.get("/v1/devices/" + name(device))["legal_hold"] == held.json()["legal_hold"]
    assert system.get("/v1/devices/" + name(other))["legal_hold"]["reason"] == "Case 22"
    refused = delete(system, device)
    assert (refused.status_code, refused.json()["detail"]) == (409, f"The tenant is on legal hold since {held.json()['legal_hold']['since']}: Case 23")
    # An operator ends it; what is held by itself stays so.
    assert change(None, "operator").json()["legal_hold"] is None and system.get("/v1/devices/" + name(device))["legal_hold"] is None
    assert delete(system, other).status_code == 409 and delete(system, device).status_code == 204
    system.database.cli("tenant", "hold", "acme", "--reason", "Case 24")
    assert "Case 24" in system.database.cli("tenant", "list") and system.get("/v1/tenants/acme", "operator")["legal_hold"]["reason"] == "Case 24"
    system.database.cli("tenant", "hold", "acme", "--release")
    system.database.cli("tenant", "hold", "nobody", "--release", status=1)
    system.database.cli("tenant", "hold", "acme", status=2)
    await_true(lambda: [e["data"]["why"] for e in system.events("acme") if e["type"] == "tenant.hold"] == ["Case 23"] * 2 + ["Case 24"] * 2, "the feed telling all of it")
    assert [e for e in system.events("buyer") if e["type"] == "tenant.hold"] == []
    assert system.patch(other, legal_hold=None).status_code == 200


def test_what_is_held_outlasts_its_retention(system):
    device, other = system.device(), system.device()
    messages = [device.full(), *(device.quiet() for _ in range(3)), device.full(), device.quiet({"receipt": True})]
    heard(device, *messages)
    heard(other, other.full(), other.quiet(), other.quiet({"receipt": True}))
    assert hold(system, device, "Case 19").status_code == 200
    for table, days in (("report_quiet", 100), ("report_full", 2000)):
        age(system, table, days, 6)
    await_true(lambda: system.database.one("SELECT to_regclass('report_quiet_old') IS NULL AND to_regclass('report_full_old') IS NULL"), "that day's partitions gone")
    assert [seq for _, seq, _ in sorted(system.stored(device))] == [1, 2, 3, 4, 5, 6] and system.stored(other) == []
    mine = "JOIN device USING (device_id) WHERE ueid = %s"
    assert [system.database.one(f"SELECT count(*) FROM {table} {mine}", (device.ueid,)) for table in ("report_quiet_kept", "report_full_kept")] == [4, 2]
    # All that reads reports has them.
    assert findings(system) == []
    assert sorted(r["seq"] for r in system.get(f"/v1/devices/{name(device)}/reports")["items"]) == [1, 2, 3, 4, 5, 6]
    for seq, message in enumerate(messages, 1):
        digest = hashlib.sha256(message).hexdigest()
        assert system.ask("/v1/reports/" + digest).content == message == system.ask(f"/v1/devices/{name(device)}/reports/{device.epoch.hex()}/{seq}").content
        assert system.ask("/v1/reports/" + digest, "buyer").status_code == 404
        assert system.ask(f"/v1/reports/{digest}/proof").status_code == 200
    assert system.ask(f"/v1/devices/{name(other)}/reports/{other.epoch.hex()}/1").status_code == 410
    heard(device, messages[2], device.quiet({"receipt": True}))
    assert system.epoch(device) == (1, 0, 0, 0), "what comes again is known"
    # What somebody takes away there is missing as anywhere.
    [row] = system.database.sql("DELETE FROM report_quiet_kept WHERE seq = 3 RETURNING *")
    assert ("missing", 3, 3) in findings(system, status=1)
    system.database.sql(f"INSERT INTO report_quiet_kept VALUES ({', '.join(['%s'] * len(row))})", row)

    # Released, it goes as it would have gone.
    assert system.patch(device, legal_hold=None).status_code == 200
    await_true(lambda: [seq for _, seq, _ in system.stored(device)] == [7], "what is past its retention gone")
    assert findings(system) == [] and left(system, device) & {"device_kept"} == set()
    assert system.get(f"/v1/devices/{name(device)}/ledger")["epochs"][0]["expired"] == 6
    heard(device, device.full())
    assert findings(system) == [] and system.epoch(device)[3] == 0


def test_what_a_held_device_was_outlasts_its_retention(system):
    held, free = system.device(), system.device()
    for device in held, free:
        heard(device, device.full())
        for label in "a=1", "b=2":
            system.database.sql("UPDATE device SET labels = %s WHERE ueid = %s", ([label], device.ueid))
    assert hold(system, held, "Case 20").status_code == 200

    def n(device):
        return system.database.one("SELECT count(*) FROM device_history JOIN device USING (device_id) WHERE ueid = %s AND valid_from < now() - interval '6 years'", (device.ueid,))

    system.database.sql("UPDATE device_history h SET valid_from = valid_from - interval '7 years' FROM device d WHERE h.device_id = d.device_id AND d.ueid IN (%s, %s)",
                        (held.ueid, free.ueid))
    was = n(held)
    system.database.sql("UPDATE device_history_usual SET at = now() - interval '8 years'")
    await_true(lambda: n(free) == 1, "what another took the place of gone")
    assert n(held) == was > 1


def test_a_hold_that_comes_while_a_partition_goes_is_heeded(system):
    """The one who removes and the one who holds take turns: what was there when the hold was answered stays."""
    device = system.device()
    heard(device, device.full(), device.quiet({"receipt": True}))
    await_true(lambda: system.database.one("SELECT count(*) FROM checkpoint"), "a checkpoint, before which no partition goes")
    db, holder = (psycopg2.connect(system.database.uri("fleetstate_owner")) for _ in range(2))
    with db.cursor() as c, holder.cursor() as h:
        c.execute("SELECT pg_advisory_lock(8259, 15)")  # keeps the collector from it
        age(system, "report_quiet", 100, 2, c)
        db.commit()
        h.execute("SELECT device_change(%s, %s, 'x', NULL)", (device.ueid, json.dumps({"legal_hold": {"reason": "Case 21"}})))
        c.execute("SELECT partition, busy FROM expire_reports(false, '90 days', false)")
        assert c.fetchone() == (None, True), "it waits until the hold is there or not"
        db.commit()
        holder.commit()
        c.execute("SELECT partition, busy FROM expire_reports(false, '90 days', false)")
        assert c.fetchone() == ("report_quiet_old", False)
        c.execute("SELECT pg_advisory_unlock(8259, 15)")
        db.commit()
    db.close()
    holder.close()
    assert sorted(seq for _, seq, _ in system.stored(device)) == [1, 2] and findings(system) == []
