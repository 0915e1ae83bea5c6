"""Devices' lives among tenants on a running system: registered beforehand, approved, retired, revoked, and transferred with a boundary in their history."""

import contextlib
import hashlib
import json
import os
import pathlib
import random
import re
import signal
import socket
import threading
import time

import psycopg2
import pytest
import requests

from ingesting import System, await_true
from parts import Session, provision, watched


class Tenants(System):
    """Two tenants with an administrator each, and an operator."""

    def __init__(self, directory, **settings):
        super().__init__(directory, postgres=["fsync=off"], **settings)
        self.database.cli("tenant", "add", "buyer", "Buyer")
        self.tokens = {t: self.database.cli("token", "add", "--role", "admin", "--tenant", t, f"{t}'s admin") for t in ("acme", "buyer")}
        self.tokens["operator"] = self.database.cli("token", "add", "--role", "operator", "the operator")
        self.session = Session()

    def ask(self, path, token="acme", method="GET", headers=None, **more):
        return self.session.request(method, f"http://127.0.0.1:{self.collector.http}{path}", timeout=20,
                                    headers={"Authorization": "Bearer " + self.tokens[token], **(headers or {})}, **more)

    def get(self, path, token="acme"):
        answer = self.ask(path, token)
        assert answer.status_code == 200, (path, answer.text)
        return answer.json()

    def patch(self, device, token="acme", query="", headers=None, **body):
        return self.ask(f"/v1/devices/{name(device)}{query}", token, "PATCH", headers, json=body)

    def transfer(self, device, seller, buyer):
        answer = self.patch(device, "operator", f"?tenant={seller}", tenant=buyer)
        assert answer.status_code == 200, answer.text

    def events(self, token):
        return self.get("/v1/events?limit=1000", token)["items"]

    def lifecycle(self, device, token="acme"):
        answer = self.ask("/v1/devices/" + name(device), token)
        return answer.json()["lifecycle"] if answer.status_code == 200 else answer.status_code


def name(device):
    return device if isinstance(device, str) else device.ueid.hex()


@pytest.fixture(scope="module")
def system(tmp_path_factory):
    system = Tenants(tmp_path_factory.mktemp("tenants"), checkpoint_interval="30d")
    yield system
    system.close()


def heard(device, *messages):
    """Sends them, and waits for the receipt that accounts for the last."""
    for message in messages:
        device.publish(message)
    return device.receipt_up_to(device.seq)


def view(system, device, token):
    """All that a tenant sees of a device, by path."""
    found = {}
    for path in ("", "/state", "/inventory", "/ledger", "/reports", "/alerts", "/events", "/challenges"):
        answer = system.ask(f"/v1/devices/{name(device)}{path}", token)
        found[path] = answer.json() if answer.status_code == 200 else answer.status_code
    return found


def test_that_it_begins_is_told(system):
    """Where a device stands in its reports is no news, but that it begins an epoch is, that it will report at another interval, and that its new owner hears
    it first: who follows the changes has nothing else to know it by."""
    device = system.device()

    def told():
        await_true(lambda: system.database.one("SELECT count(*) FROM event WHERE position IS NULL") == 0, "events numbered")
        return [(e["type"].removeprefix("device."), e["data"]["epoch"], e["data"]["interval_s"], e["data"]["seq"]) for e in system.events("acme")
                if e["ueid"] == name(device) and e["type"] in ("device.epoch", "device.interval")]

    def followed():
        answer = system.ask(f"/v1/assets?format=ndjson&changed_since={position}")
        return [(row["epoch"], row["interval_s"]) for row in map(json.loads, answer.text.splitlines()) if row["ueid"] == name(device)]

    heard(device, device.full())
    first = device.epoch.hex()
    expected = [("epoch", first, 300, 1)]
    assert told() == expected
    forged = bytearray(device.quiet({"interval": 5}, keep=True))
    forged[-1] ^= 1
    device.publish(bytes(forged))
    await_true(lambda: "device.refused" in [e["type"] for e in system.events("acme") if e["ueid"] == name(device)], "its refusal")
    assert told() == expected
    position = int(system.ask("/v1/assets?format=csv").headers["Fleetstate-Position"])
    heard(device, device.quiet(), device.quiet({"receipt": True}))
    assert told() == expected and followed() == []
    heard(device, device.quiet({"interval": 60, "receipt": True}))
    expected.append(("interval", first, 60, device.seq))
    assert told() == expected and followed() == [(first, 60)]

    position = int(system.ask("/v1/assets?format=csv").headers["Fleetstate-Position"])
    heard(device, lost := device.quiet({"interval": 60}), device.quiet({"interval": 60, "receipt": True}))
    device.publish(lost)
    heard(device, device.quiet({"interval": 60, "receipt": True}))
    assert told() == expected and followed() == []
    system.transfer(device, "acme", "buyer")
    system.transfer(device, "buyer", "acme")
    told()
    position = int(system.ask("/v1/assets?format=csv").headers["Fleetstate-Position"])
    heard(device, device.quiet({"interval": 60, "receipt": True}))
    expected.append(("epoch", first, 60, device.seq))
    assert told() == expected and followed() == [(first, 60)]

    # A clone's beginning is none, what an operator expects is one.
    heard(device, device.full(meta={"interval": 60}))
    device.renew()
    heard(device, device.full(meta={"interval": 5}))
    assert told() == expected
    system.database.cli("device", "reprovision", name(device))
    device.renew()
    heard(device, device.full(meta={"interval": 5}))
    assert told() == [*expected, ("epoch", device.epoch.hex(), 5, 1)] and followed() == [(device.epoch.hex(), 5)]


def test_what_its_owner_hears_first_may_be_late(system):
    """A number that was missing in an epoch which the device left, when its owner has it back: it was heard, so that where it stands is known again. And an interval
    is told with the report that has it, not with one that comes late behind it."""
    device = system.device()
    heard(device, device.full())
    lost = device.quiet()
    heard(device, device.quiet({"receipt": True}))
    system.database.cli("device", "reprovision", name(device))
    device.renew()
    heard(device, device.full())
    system.transfer(device, "acme", "buyer")
    system.transfer(device, "buyer", "acme")

    def whole():
        position = system.ask("/v1/assets?format=csv").headers["Fleetstate-Position"]
        [row] = [row for row in map(json.loads, system.ask("/v1/assets?format=ndjson").text.splitlines()) if row["ueid"] == name(device)]
        return position, row["epoch"]

    def followed(position):
        await_true(lambda: system.database.one("SELECT count(*) FROM event WHERE position IS NULL") == 0, "events numbered")
        answer = system.ask(f"/v1/assets?format=ndjson&changed_since={position}")
        return [row["epoch"] for row in map(json.loads, answer.text.splitlines()) if row["ueid"] == name(device)]

    await_true(lambda: system.database.one("SELECT bool_and(v.rules = j.revision) FROM device_verdict v JOIN device d USING (device_id), judging j"
                                           " WHERE d.ueid = %s AND j.tenant_id = 0", (device.ueid,)), "what the transfers changed being judged")
    followed(0)
    position, epoch = whole()
    assert epoch is None and followed(position) == []
    n = len(system.stored(device))
    device.publish(lost)
    system.await_stored(device, n + 1)
    assert followed(position) == [whole()[1]] == [device.epoch.hex()]

    late = device.quiet()
    device.publish(other := device.quiet({"interval": 60}))
    device.publish(late)
    system.await_stored(device, n + 3)
    [told] = [e["data"] for e in system.events("acme") if e["ueid"] == name(device) and e["type"] == "device.interval"]
    assert (told["interval_s"], told["seq"], told["sha256"]) == (60, device.seq, hashlib.sha256(other).hexdigest())


def test_a_transfer_is_a_boundary(system):
    device = system.device()
    early = [device.full(), *(device.quiet() for _ in range(3)), device.eventful()]
    lost = device.quiet()
    heard(device, *early, device.quiet({"receipt": True}))
    assert system.patch(device, labels={"site": "berlin"}).status_code == 200
    await_true(lambda: len(system.get(f"/v1/devices/{name(device)}/events")["items"]) == 3, "its events")
    before = view(system, device, "acme")
    told = [e for e in system.events("acme") if e["ueid"] == name(device)]
    assert set(view(system, device, "buyer").values()) == {404}

    system.transfer(device, "acme", "buyer")
    # The seller keeps what there was, and that it left.
    after = view(system, device, "acme")
    assert after[""]["lifecycle"] == "transferred"
    for path in ("/state", "/inventory", "/ledger", "/reports", "/events"):
        assert (path, after[path]) == (path, before[path])
    # The buyer has a device of which nothing is known.
    bought = view(system, device, "buyer")
    assert (bought[""]["lifecycle"], bought[""]["tenant"], bought[""]["posture"], bought[""]["reasons"]) == ("active", "buyer", "unknown", ["no-state"])
    assert not any(bought[""][k] for k in ("serial", "vendor", "hwmodel", "swversion", "first_seen", "last_seen", "epoch", "seq", "labels", "state_digest"))
    assert (bought["/state"], bought["/inventory"], bought["/ledger"]["epochs"], bought["/ledger"]["refused"]) == (404, 404, [], {})
    assert [bought[p]["items"] for p in ("/reports", "/alerts", "/events", "/challenges")] == [[]] * 4

    # Its next report goes on in the chain, and is asked to tell all anew.
    assert "state" in heard(device, device.quiet({"receipt": True})).wants
    receipt = heard(device, device.full())
    assert receipt.wants == set() and receipt.missing == []
    bought = view(system, device, "buyer")
    assert [(e["received"], e["missing"], e["dropped"], e["chain_breaks"]) for e in bought["/ledger"]["epochs"]] == [([[8, 9]], [], [], 0)]
    assert [r["seq"] for r in bought["/reports"]["items"]] == [8, 9]
    assert bought["/inventory"]["complete"] and bought["/state"]["seq"] == 9
    assert bought[""]["first_seen"] and bought[""]["serial"] == "SN-0001"
    # What of before comes only now is nobody's: the seller hears no more, and the buyer was not there.
    heard(device, lost, early[1], device.quiet({"receipt": True}))
    mine_now = view(system, device, "buyer")["/ledger"]["epochs"][0]
    assert (mine_now["received"], mine_now["missing"], mine_now["forks"], mine_now["duplicates"]) == ([[8, 10]], [], 0, 2)
    now = view(system, device, "acme")
    for path in after:
        assert (path, now[path]) == (path, after[path])
    for message in early:
        digest = device_digest(message)
        assert system.ask("/v1/reports/" + digest, "acme").status_code == 200 and system.ask("/v1/reports/" + digest, "buyer").status_code == 404

    # Both hear of it in their feeds and read of it in their logs.
    for token, lifecycle in (("acme", "transferred"), ("buyer", "active")):
        mine = [e for e in system.events(token) if e["ueid"] == name(device)]
        assert {"lifecycle": lifecycle, "by": "the operator"} in [e["data"] for e in mine if e["type"] == "device.lifecycle"]
        assert all(e["tenant"] == token for e in mine)
        assert any(name(device) in e["target"] and e.get("who") == "the operator" for e in system.get("/v1/audit?kind=change", token)["items"]), token
        assert name(device) in system.ask("/v1/assets?format=ndjson", token).text
    assert [e for e in system.events("acme") if e["ueid"] == name(device) and e["type"] != "device.lifecycle" and not e["type"].startswith("alert.")] == told


def device_digest(message):
    return hashlib.sha256(message).hexdigest()


def test_the_chain_is_verified_over_the_boundary(system):
    device = system.device()
    heard(device, device.full(), device.quiet({"receipt": True}))
    system.transfer(device, "acme", "buyer")
    heard(device, device.full(), device.quiet({"receipt": True}))

    def findings(status=0, *words):
        lines = [json.loads(line) for line in system.database.cli("audit", "--device", name(device), "--json", *words, status=status).splitlines()]
        assert lines.pop()["devices"] == 2 or words
        return [(line["finding"], line["first"]) for line in lines]

    assert findings() == [] and findings(0, "--tenant", "buyer") == []
    of_seller = "device_id = (SELECT device_id FROM device d JOIN tenant t USING (tenant_id) WHERE d.ueid = %s AND t.id = 'acme')"
    end = "UPDATE report_drop SET sha256 = sha256('x') WHERE cause = 'transferred' AND device_id IN (SELECT device_id FROM device WHERE ueid = %s)"
    [(kept,)] = system.database.sql("SELECT sha256 FROM report_drop JOIN device USING (device_id) WHERE ueid = %s", (device.ueid,))
    system.database.sql(end, (device.ueid,))
    assert set(findings(1)) == {("chain", 2), ("chain", 3)}
    system.database.sql(end.replace("sha256('x')", "%s"), (kept, device.ueid))
    [gone] = system.database.sql(f"DELETE FROM report_quiet WHERE seq = 2 AND {of_seller} RETURNING *", (device.ueid,))
    assert findings(1) == [("tail", 2)]
    system.database.sql(f"INSERT INTO report_quiet VALUES ({', '.join(['%s'] * len(gone))})", gone)
    assert findings() == []


def test_a_first_report_comes_while_it_is_transferred(system):
    """Whichever is there first: all of it is the seller's, or nothing is."""
    device = system.device()
    assert system.ask("/v1/devices", "acme", "POST", json={"ueid": name(device)}).status_code == 201
    with psycopg2.connect(system.database.uri("fleetstate_owner")) as other:
        cursor = other.cursor()
        cursor.execute("SELECT set_config('fleetstate.role', 'operator', true)")
        cursor.execute("SELECT device_change(%s, %s, 'somebody', NULL)", (device.ueid, json.dumps({"tenant": "buyer"})))
        first = device.full()
        device.publish(first)
        await_true(lambda: system.database.sql("SELECT 1 FROM pg_stat_activity WHERE usename = 'fleetstate_ingest' AND wait_event_type = 'Lock'", (), "postgres"), "it waiting")
    await_true(lambda: system.lifecycle(device, "buyer") == "active", "the transfer")
    # The buyer has no authority of its maker's: it is refused, and stays with the device.
    await_true(lambda: "ueid-owned-elsewhere" in system.get(f"/v1/devices/{name(device)}/ledger", "buyer")["refused"], "it being refused")
    assert system.database.sql("SELECT 1 FROM report WHERE sha256 = sha256(%s)", (first,)) == []
    assert [view(system, device, t)["/reports"]["items"] for t in ("acme", "buyer")] == [[], []]
    system.transfer(device, "buyer", "acme")
    await_true(lambda: device.publish(first) == 0 and [r["seq"] for r in view(system, device, "acme")["/reports"]["items"]] == [1], "it being taken in")

    # What a collector has begun for a device that was never heard is over before it is transferred.
    device = system.device()
    assert system.ask("/v1/devices", "acme", "POST", json={"ueid": name(device)}).status_code == 201
    with psycopg2.connect(system.database.uri("fleetstate_owner")) as other:
        cursor = other.cursor()
        cursor.execute("INSERT INTO device_hot (device_id, tenant_id) SELECT device_id, tenant_id FROM device WHERE ueid = %s", (device.ueid,))
        thread = threading.Thread(target=system.transfer, args=(device, "acme", "buyer"))
        thread.start()
        await_true(lambda: system.database.sql("SELECT 1 FROM pg_stat_activity WHERE usename = 'fleetstate_api' AND wait_event_type = 'Lock'", (), "postgres"), "it waiting")
        assert system.lifecycle(device) == "active"
    thread.join()
    assert system.lifecycle(device, "buyer") == "active"


def test_a_device_comes_back(system):
    device = system.device()
    heard(device, device.full(), device.quiet({"receipt": True}))
    system.transfer(device, "acme", "buyer")
    heard(device, device.full(), device.quiet({"receipt": True}))
    system.transfer(device, "buyer", "acme")
    assert system.lifecycle(device, "buyer") == "transferred"
    back = view(system, device, "acme")
    assert (back[""]["lifecycle"], back[""]["posture"], back["/state"]) == ("active", "unknown", 404)
    assert [r["seq"] for r in back["/reports"]["items"]] == [1, 2]
    assert "state" in heard(device, device.quiet({"receipt": True})).wants
    heard(device, device.full())
    assert view(system, device, "acme")["/ledger"]["epochs"][0]["received"] == [[1, 2], [5, 6]]
    assert view(system, device, "buyer")["/ledger"]["epochs"][0]["received"] == [[3, 4]]
    system.database.cli("audit", "--device", name(device))


def test_who_may_transfer_what(system):
    device = system.device()
    heard(device, device.full())
    for token, query, status in (("acme", "", 403), ("buyer", "", 404), ("operator", "?tenant=buyer", 404), ("operator", "", 400)):
        assert system.patch(device, token, query, tenant="buyer").status_code == status, token
    assert system.patch(device, "operator", "?tenant=acme", tenant="nobody").status_code == 400
    assert system.patch(device, "operator", "?tenant=acme", tenant="acme").status_code == 409
    assert system.patch(device, "operator", "?tenant=acme", tenant="buyer", lifecycle="retired").status_code == 400
    assert system.patch(device, lifecycle="retired").status_code == 200
    assert system.patch(device, "operator", "?tenant=acme", tenant="buyer").status_code == 409
    system.database.cli("device", "transfer", name(device), "buyer", status=1)
    assert set(view(system, device, "buyer").values()) == {404}


def test_who_registers_anothers_device_sees_nothing_of_it(system):
    """A name may be known to who has not the device. What comes under it goes to nobody, but for how much was refused and why."""
    device = system.device()
    assert system.ask("/v1/devices", "buyer", "POST", json={"ueid": name(device)}).status_code == 201
    device.publish(device.full())
    device.publish(device.quiet(chain=()))
    await_true(lambda: set(system.get(f"/v1/devices/{name(device)}/ledger", "buyer")["refused"]) >= {"ueid-owned-elsewhere", "unknown-key"}, "both refused")
    assert system.get(f"/v1/refusals?ueid={name(device)}", "buyer")["items"] == system.get(f"/v1/refusals?ueid={name(device)}")["items"] == []
    seen = view(system, device, "buyer")
    assert (seen["/state"], seen["/reports"]["items"], seen["/ledger"]["epochs"], seen[""]["first_seen"]) == (404, [], [], None)
    assert system.database.one("SELECT count(*) FROM refusal WHERE ueid = %s AND tenant_id IS NULL", (device.ueid,)) >= 2
    # The operator finds it and decides, and then it is as if nothing had been.
    found = system.database.sql("SELECT DISTINCT encode(r.ueid, 'hex'), t.id FROM refusal r JOIN device d ON d.ueid = r.ueid AND d.lifecycle <> 'transferred'"
                                " JOIN tenant t ON t.tenant_id = d.tenant_id WHERE r.reason = 'ueid-owned-elsewhere' AND d.first_seen IS NULL")
    assert (name(device), "buyer") in found
    system.transfer(device, "buyer", "acme")
    await_true(lambda: device.publish(device.full()) == 0 and view(system, device, "acme")["/reports"]["items"], "its enrolment")
    assert system.lifecycle(device, "buyer") == "transferred" and view(system, device, "buyer")["/reports"]["items"] == []


def test_a_devices_life(system):
    """Registered, held until it is approved, retired, revoked; and each change that can't be has its reason."""
    ueid = provision("device", system.broker.pki)[0]
    document = {"ueid": ueid, "serial": "S-1", "model": "gate", "labels": {"site": "bonn"}, "lifecycle": "pending"}
    made = system.ask("/v1/devices", method="POST", json=document)
    assert made.status_code == 201 and made.headers["Location"] == "/v1/devices/" + ueid
    item = made.json()
    assert (item["serial"], item["hwmodel"], item["labels"], item["lifecycle"], item["first_seen"]) == ("S-1", "gate", ["site=bonn"], "pending", None)
    for token in ("acme", "buyer"):
        assert system.ask("/v1/devices", token, "POST", json={"ueid": ueid}).status_code == 409
    for wrong in ({}, {"ueid": "x"}, {"ueid": "02" + "0" * 32}, {"ueid": ueid.upper()}, {"ueid": ueid[:-1] + "0", "lifecycle": "retired"},
                  {"ueid": ueid[:-1] + "0", "serial": ""}, {"ueid": ueid[:-1] + "0", "labels": {"A": "b"}}, {"ueid": ueid[:-1] + "0", "colour": "red"}):
        assert system.ask("/v1/devices", method="POST", json=wrong).status_code == 400, wrong

    device = system.device(ueid=ueid)
    heard(device, device.full())
    item = system.get("/v1/devices/" + ueid)
    assert (item["lifecycle"], item["labels"], item["serial"]) == ("pending", ["site=bonn"], "SN-0001") and item["first_seen"]
    tag = system.ask("/v1/devices/" + ueid).headers["ETag"]
    assert system.patch(device, lifecycle="active", headers={"If-Match": '"99"'}).status_code == 412
    for made_up in tag.split(".")[0] + '"', tag.split(".")[0] + '.x"', tag.split(".")[0] + '."', tag[:-1] + '0"', tag[:-2] + '"', tag[:-2] + 'g"', tag.upper():
        assert system.patch(device, lifecycle="active", headers={"If-Match": made_up}).status_code == 412, made_up
    for tags, status in (("W/" + tag, 412), ('"99", W/' + tag, 412), (tag + " " + tag, 400), (tag[:-1], 400), ("*, " + tag, 400)):
        assert system.patch(device, lifecycle="active", headers={"If-Match": tags}).status_code == status, tags
    for tags in "*", tag, '"99", W/' + tag:
        assert system.patch(device, lifecycle="active", headers={"If-None-Match": tags}).status_code == 412, tags
    # What it reports does not stand in the way of who decides about it.
    heard(device, device.quiet({"receipt": True}))
    changed = system.patch(device, lifecycle="active", headers={"If-Match": '"99", ' + tag})
    assert changed.status_code == 200 and changed.headers["ETag"].split(".")[0] != tag.split(".")[0]
    assert system.patch(device, lifecycle="active", headers={"If-Match": tag}).status_code == 412
    heard(device, device.quiet({"receipt": True}))

    def refused(becomes, detail):
        answer = system.patch(device, lifecycle=becomes)
        assert (answer.status_code, answer.json()["type"], answer.json()["detail"]) == (409, "urn:fleetstate:problem:conflict", detail)

    def counted(reason):
        return system.get(f"/v1/devices/{ueid}/ledger")["refused"].get(reason, 0)

    refused("active", "The device is active already.")
    refused("pending", "A device that is active can't become pending.")
    assert system.patch(device, lifecycle="transferred").status_code == system.patch(device, lifecycle="gone").status_code == system.patch(device).status_code == 400
    assert system.patch(device, lifecycle="retired", labels={"site": None}).json()["labels"] == []
    await_true(lambda: device.publish(device.quiet()) == 0 and counted("device-retired") > 0, "a retired device's report refused")
    refused("active", "A device that is retired can't become active.")
    assert system.patch(device, lifecycle="revoked").status_code == 200
    await_true(lambda: device.publish(device.quiet()) == 0 and counted("device-revoked") > 0, "a revoked device's report refused")
    for becomes in ("active", "retired"):
        refused(becomes, f"A device that is revoked can't become {becomes}.")
    lives = [e["data"]["lifecycle"] for e in system.events("acme") if e["ueid"] == ueid and e["type"] == "device.lifecycle"]
    assert lives == ["pending", "active", "retired", "revoked"]
    assert [json.loads(line)["ueid"] for line in system.ask("/v1/assets?format=ndjson&changed_since=0").text.splitlines() if ueid in line] == [ueid]


def test_a_device_of_another_tenants_anchor(system):
    """One authority may be two tenants' anchor: registration says whose a device is, and else the first has it."""
    pki = system.broker.pki

    def change(*words):
        seen = system.collector.log().count("trust anchors read")
        out = system.database.cli("trust-anchor", *words)
        await_true(lambda: system.collector.log().count("trust anchors read") > seen, "the collector reading the trust anchors")
        return out

    number = change("add", "--tenant", "buyer", pki / "maker-ca.crt")
    ueid = provision("device", pki)[0]
    assert system.ask("/v1/devices", "buyer", "POST", json={"ueid": ueid}).status_code == 201
    device = system.device(ueid=ueid)
    heard(device, device.full())
    assert (system.lifecycle(device, "buyer"), system.lifecycle(device)) == ("active", 404)
    other = system.device()
    heard(other, other.full())
    assert (system.lifecycle(other, "buyer"), system.lifecycle(other)) == (404, "active")
    change("remove", number)


def test_tenants_and_trust_anchors(system):
    def ask(path, method="GET", token="operator", **body):
        return system.ask(path, token, method, json=body or None)

    made = ask("/v1/tenants", "POST", id="third", name="The third")
    assert made.status_code == 201 and (made.json()["id"], made.json()["devices"]) == ("third", 0)
    assert ask("/v1/tenants", "POST", id="third", name="Again").status_code == 409
    assert [t["id"] for t in ask("/v1/tenants").json()["items"]] == ["acme", "buyer", "third"]
    assert [t["id"] for t in ask("/v1/tenants?tenant=buyer").json()["items"]] == ["buyer"]
    for wrong in ({"id": "Third", "name": "x"}, {"id": "", "name": "x"}, {"id": "x"}, {"id": "x", "name": ""}, {"id": "x" * 64, "name": "x"}):
        assert ask("/v1/tenants", "POST", **wrong).status_code == 400, wrong
    for path in ("/v1/tenants", "/v1/trust-anchors"):
        assert ask(path, token="acme").status_code == 403
        assert ask(path, "POST", "acme", id="x", name="x").status_code == 403
    system.tokens["narrow"] = system.database.cli("token", "add", "--role", "operator", "--scopes", "tenants", "narrow")
    assert ask("/v1/tenants", token="narrow").status_code == 200 and ask("/v1/tenants", "POST", "narrow", id="x", name="x").status_code == 403
    pem = (system.broker.pki / "maker-ca.crt").read_text()
    device = (system.broker.pki / f"devices/{provision('device', system.broker.pki)[0]}.crt").read_text()
    for wrong in ("", "x", pem * 2, device, pem[:200]):
        assert ask("/v1/trust-anchors?tenant=third", "POST", name="ca", certificate=wrong).status_code == 400, wrong
    assert ask("/v1/trust-anchors?tenant=third", "POST", name="ca", certificate=pem, enrol="maybe").status_code == 400
    assert ask("/v1/trust-anchors", "POST", name="ca", certificate=pem).status_code == 403
    made = ask("/v1/trust-anchors", "POST", tenant="third", name="ca", certificate=pem, enrol="hold")
    assert made.status_code == 201 and (made.json()["tenant"], made.json()["enrol"]) == ("third", "hold")
    assert ask("/v1/trust-anchors?tenant=third", "POST", name="ca", certificate=pem).status_code == 409
    assert made.json() in ask("/v1/trust-anchors").json()["items"] and [made.json()] == ask("/v1/trust-anchors?tenant=third").json()["items"]
    number = made.json()["id"]
    assert ask(f"/v1/trust-anchors/{number}?tenant=acme", "DELETE").status_code == 404
    assert ask(f"/v1/trust-anchors/{number}", "DELETE").status_code == 204
    assert ask(f"/v1/trust-anchors/{number}", "DELETE").status_code == 404
    log = system.database.cli("audit", "--log")
    assert " 0 findings" in log


# Lists.

def rows(n, first=0, **more):
    return [["01" + hashlib.sha256(f"imported {first + i}".encode()).hexdigest()[:32], f"S-{i}", more.get("model", "gate"), "site=bonn door=A", more.get("lifecycle", "")]
            for i in range(n)]


def listed(lines, head="ueid,serial,model,labels,lifecycle"):
    return "\r\n".join([head, *(",".join(line) for line in lines), ""])


def send(system, text, token="acme", query="", kind="text/csv"):
    return system.ask("/v1/devices" + query, token, "POST", {"Content-Type": kind}, data=text if isinstance(text, bytes) else text.encode())


def count(system, tenant="acme"):
    return sum(system.get("/v1/fleet", tenant)["lifecycle"].values())


def test_a_list_is_taken_in_as_a_whole(system, tmp_path):
    def made_changes():
        return len([e for e in system.get("/v1/audit?kind=change&limit=1000")["items"] if "status" not in e])

    before, told = count(system), made_changes()
    lines = rows(2500)
    lines[7][4] = "pending"
    # One that is only tried takes nothing that others wait for, and is read of in the log.
    with psycopg2.connect(system.database.uri("fleetstate_owner")) as other:
        other.cursor().execute("INSERT INTO device (tenant_id, ueid, lifecycle) VALUES (2, decode(%s, 'hex'), 'active')", (lines[0][0],))
        numbers = "SELECT last_value FROM pg_sequences WHERE sequencename = 'device_device_id_seq'"
        number = system.database.one(numbers)
        dry = send(system, listed(lines), query="?dry_run=true")
        assert (dry.status_code, dry.json()) == (200, {"devices": 2500, "dry_run": True}) and count(system) == before
        assert system.database.one(numbers) == number
        other.rollback()
    await_true(lambda: [e["who"] for e in system.get("/v1/audit?kind=read")["items"] if e["target"] == "/v1/devices?dry_run=true"] == ["acme's admin"], "its entry")
    twice = send(system, listed([*lines, lines[3]]), query="?dry_run=true")
    assert [(e["line"], e["column"]) for e in twice.json()["errors"]] == [(2502, "ueid")]
    made = send(system, listed(lines), kind="text/csv; charset=utf-8")
    assert (made.status_code, made.json()) == (201, {"devices": 2500, "dry_run": False}) and count(system) == before + 2500
    one = system.get("/v1/devices/" + lines[7][0])
    assert (one["serial"], one["hwmodel"], one["labels"], one["lifecycle"]) == ("S-7", "gate", ["door=A", "site=bonn"], "pending")
    assert made_changes() == told + 1
    # All of it is there already, in whatever tenant.
    for token in "acme", "buyer":
        again = send(system, listed(lines), token)
        errors = again.json()["errors"]
        assert (again.status_code, again.json()["type"], again.json()["detail"]) == (400, "urn:fleetstate:problem:bad-import", "2500 things are wrong.")
        assert len(errors) == 100 and errors[0] == {"line": 2, "column": "ueid", "problem": "ueid: that name is taken"}
    # The command line does the same.
    cli, file = system.database.cli, tmp_path / "list.csv"
    file.write_text(listed(rows(1200, 5000)))
    assert cli("device", "import", "--tenant", "buyer", "--dry-run", file) == "1200 devices would be registered" and count(system, "buyer") < 100
    assert cli("device", "import", "--tenant", "buyer", file) == "1200 devices" and count(system, "buyer") >= 1200
    cli("device", "import", "--tenant", "buyer", file, status=1)
    # Whoever watches it sees how far it is, and then what is wrong.
    file.write_text(listed([*rows(1100, 8000), ["x", "", "", "", ""]]))
    status, out, told = watched("--database", system.database.uri("fleetstate_owner"), "device", "import", "--tenant", "buyer", file)
    assert (status, out) == (1, "") and re.search(r"^\r1000 devices \r1101 devices \r\x1b\[Kline 1102: ueid: .*\r\n.*: 1 thing is wrong, and nothing was taken", told), told
    cli("device", "import", "--tenant", "nobody", file, status=1)
    cli("device", "import", "--tenant", "buyer", tmp_path / "absent", status=2)


def test_what_is_wrong_with_a_list(system):
    good = rows(1, 9000)[0]
    ueid = good[0]
    other = rows(1, 9001)[0][0]
    before = count(system)
    cases = [
        ("\r\n", [(1, None)]), ("serial,model\r\nx,y\r\n", [(1, "ueid")]), ("ueid,ueid\r\n", [(1, "ueid")]), (f"ueid,colour\r\n{ueid},red\r\n", [(1, "colour")]),
        (f"ueid\r\n{ueid}\r\n\r\nx\r\n", [(4, "ueid")]), (f"ueid,serial\r\n{ueid}\r\n", [(2, None)]), (f"ueid,serial\r\n{ueid},a,b\r\n", [(2, None)]),
        (f"ueid\r\n{ueid}\r\n{ueid}\r\n", [(3, "ueid")]), (f'ueid,serial\r\n{ueid},"open\r\n', [(2, None)]), (f'ueid,serial\r\n{ueid},a"b\r\n', [(2, None)]),
        (f'ueid,serial\r\n{ueid},"a\nb"\r\n', [(2, "serial")]), (f"ueid,serial\r\n{ueid},a\0b\r\n", [(2, "serial")]),
        (f"ueid,serial\r\n{ueid},".encode() + b"\xff\r\n", [(2, "serial")]), (f"ueid,serial\r\n{ueid},{'x' * 300}\r\n", [(2, "serial")]),
        (f"ueid,serial\r\n{ueid},{'x' * 5000}\r\n", [(2, "serial")]), (f"ueid,labels\r\n{ueid},site\r\n", [(2, "labels")]),
        (f"ueid,labels\r\n{ueid},a=b a=c\r\n", [(2, "labels")]), (f"ueid,labels\r\n{ueid},A=b\r\n", [(2, "labels")]),
        (f"ueid,labels\r\n{ueid},{' '.join(f'k{i}=v' for i in range(17))}\r\n", [(2, "labels")]),
        (f"ueid,lifecycle\r\n{ueid},retired\r\n{other},gone\r\n,active\r\n", [(2, "lifecycle"), (3, "lifecycle"), (4, "ueid")]),
    ]
    for text, expected in cases:
        answer = send(system, text)
        assert answer.status_code == 400, (text, answer.text)
        assert [(e["line"], e["column"]) for e in answer.json()["errors"]] == expected, (text, answer.text)
    # One that is wrong at its very end leaves nothing of what stood before it.
    answer = send(system, listed([*rows(3000, 20000), ["x", "", "", "", ""]]))
    assert [(e["line"], e["column"]) for e in answer.json()["errors"]] == [(3002, "ueid")] and count(system) == before
    assert system.ask("/v1/devices/" + rows(1, 20000)[0][0]).status_code == 404
    assert send(system, "ueid\r\n" + "\r\n" * 9_000_000).status_code == 413 and send(system, listed([good]), query="?dry_run=maybe").status_code == 400
    assert send(system, listed([good]), kind="application/csv").status_code == send(system, "{}", kind="text/plain").status_code == 415
    assert system.ask("/v1/devices?dry_run=true", method="POST", json={"ueid": ueid}).status_code == 400
    assert system.ask("/v1/policies/x", "acme", "PUT", {"Content-Type": "text/csv"}, data=b"ueid").status_code == 415
    assert count(system) == before
    assert send(system, "\ufeff" + listed([[*good[:2], '"a ""b"", c"', *good[3:]]]).replace("\r\n", "\n")).json()["devices"] == 1
    assert system.get("/v1/devices/" + ueid)["hwmodel"] == 'a "b", c'


@contextlib.contextmanager
def begun(system, token, size=1000, text="ueid\r\n", query=""):
    """A list of which only the beginning comes."""
    with socket.create_connection(("127.0.0.1", system.collector.http), 20) as s:
        s.sendall(f"POST /v1/devices{query} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nContent-Type: text/csv\r\nContent-Length: {size}\r\n\r\n{text}".encode())
        yield s


def files(system):
    """That have no name. Others may be closed while it is looked."""
    found = []
    for f in pathlib.Path(f"/proc/{system.collector.process.pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            found += [f] if int(f.name) > 2 and "(deleted)" in os.readlink(f) else []
    return found


def test_who_sends_a_list_slowly_keeps_nobody_from_theirs(system):
    """A place for a list is whose it may be: nobody's without a credential, and one tenant's once."""
    viewer = system.database.cli("token", "add", "--role", "viewer", "--tenant", "acme", "viewer")
    first = 30000
    with contextlib.ExitStack() as stack:
        strangers = [stack.enter_context(begun(system, token)) for token in ("x", "fst_" + "A" * 43, viewer, "a.b.c") for _ in range(3)]
        assert send(system, listed(rows(1, first))).status_code == 201 and files(system) == []
        for s, status in zip(strangers[::3], (401, 401, 403, 401)):
            assert s.recv(65536).startswith(b"HTTP/1.1 %d " % status)
        slow = stack.enter_context(begun(system, system.tokens["acme"]))
        await_true(lambda: len(files(system)) == 1, "its place")
        for token, query in ("acme", ""), ("operator", "?tenant=acme"):
            answer = send(system, listed(rows(1, first + 1)), token, query)
            assert (answer.status_code, answer.json()["type"], answer.headers["Retry-After"]) == (429, "urn:fleetstate:problem:too-many-imports", "10")
        assert send(system, listed(rows(1, first + 2)), "buyer").status_code == 201
        slow.close()
        await_true(lambda: files(system) == [], "it being free")
        assert send(system, listed(rows(1, first + 1))).status_code == 201


# Killed on the way: of the collector or of the database's own processes, whatever it was about leaves one state or the other.

class Kill:
    """A change over HTTP, and what may be seen of it afterwards: before it, or after it, and nothing else."""

    def __init__(self, system, number):
        self.system, self.ueids = system, [r[0] for r in rows(self.size, 100000 + 10000 * number)]
        self.begin()

    size = 1

    def register(self):
        assert send(self.system, listed([[u] for u in self.ueids], "ueid")).status_code == 201

    def lives(self, tenant):
        """Of these devices, as the tenant sees them, in the list and one by one, and as the feed and the log have it."""
        seen = {d["ueid"]: d["lifecycle"] for d in self.listed(tenant)}
        assert seen.get(self.ueids[0], 404) == self.system.lifecycle(self.ueids[0], tenant) and seen.get(self.ueids[-1], 404) == self.system.lifecycle(self.ueids[-1], tenant)
        return sorted(seen.values())

    def listed(self, tenant):
        text = self.system.ask("/v1/devices?format=ndjson", tenant).text
        return [d for d in map(json.loads, text.splitlines()) if d["ueid"] in set(self.ueids)]

    def told(self, lifecycle):
        return self.system.database.sql("SELECT t.id FROM event e JOIN tenant t USING (tenant_id) WHERE e.type = 'device.lifecycle' AND e.ueid = decode(%s, 'hex')"
                                        " AND e.data ->> 'lifecycle' = %s AND e.data ->> 'by' <> 'nobody' ORDER BY 1", (self.ueids[0], lifecycle))


class Transfer(Kill):
    begin = Kill.register

    def ask(self):
        return ("PATCH", f"/v1/devices/{self.ueids[0]}?tenant=acme", "operator", {"json": {"tenant": "buyer"}})

    def done(self):
        seen = self.lives("acme"), self.lives("buyer")
        assert seen in ((["active"], []), (["transferred"], ["active"])), seen
        done = seen[1] != []
        assert self.told("transferred") == ([("acme",)] if done else []) and self.told("active") == ([("acme",), ("buyer",)] if done else [("acme",)])
        logged = self.system.database.one("SELECT count(*) FROM audit WHERE line::jsonb ->> 'method' = 'TRANSFER' AND line LIKE %s", (f"%{self.ueids[0]}%",))
        assert logged == done
        return done


class Revocation(Kill):
    begin = Kill.register

    def ask(self):
        return "PATCH", f"/v1/devices/{self.ueids[0]}", "acme", {"json": {"lifecycle": "revoked"}}

    def done(self):
        [life] = self.lives("acme")
        assert life in ("active", "revoked") and self.lives("buyer") == []
        assert (len(self.told("revoked")) == 1) == (life == "revoked")
        return life == "revoked"


class Deletion(Kill):
    begin = Kill.register

    def ask(self):
        return "DELETE", f"/v1/devices/{self.ueids[0]}", "acme", {}

    def done(self):
        lives = self.lives("acme")
        assert lives in (["active"], []) and self.lives("buyer") == []
        done = lives == []
        assert self.told("deleted") == ([("acme",)] if done else [])
        one = self.system.database.one
        assert one("SELECT count(*) FROM audit WHERE line::jsonb ->> 'method' = 'ERASE' AND line LIKE %s", (f"%{self.ueids[0]}%",)) == done
        assert one("SELECT lifecycle = 'deleted' AND deleted_at IS NOT NULL FROM device WHERE ueid = decode(%s, 'hex')", (self.ueids[0],)) == done
        return done


class Import(Kill):
    size = 2000

    def begin(self):
        pass

    def ask(self):
        return "POST", "/v1/devices", "acme", {"data": listed([[u] for u in self.ueids], "ueid").encode(), "headers": {"Content-Type": "text/csv"}}

    def done(self):
        n = len(self.lives("acme"))
        assert n in (0, self.size) and self.lives("buyer") == [] and self.told("active") == ([("acme",)] if n else [])
        return n > 0


def strike(system, what, moment, victim):
    """Asks, and kills that many seconds later; None: while it waits for the last thing before its commit."""
    method, path, token, more = what.ask()
    headers = {"Authorization": "Bearer " + system.tokens[token], **more.pop("headers", {})}

    def ask():
        with contextlib.suppress(requests.RequestException):
            requests.request(method, f"http://127.0.0.1:{system.collector.http}{path}", headers=headers, timeout=20, **more)

    database = system.database

    def activity(condition, *parameters):
        with contextlib.suppress(psycopg2.Error):
            return [pid for pid, in database.sql(f"SELECT pid FROM pg_stat_activity WHERE usename = 'fleetstate_api' AND {condition}", parameters, "postgres")]

    held = psycopg2.connect(database.uri("fleetstate_owner")) if moment is None else None
    if held is not None:
        held.cursor().execute("SELECT FROM audit_head FOR UPDATE")
    thread = threading.Thread(target=ask)
    thread.start()
    if held is not None:
        await_true(lambda: activity("wait_event_type = 'Lock'"), "it waiting to commit")
    else:
        time.sleep(moment)
    backends = activity("true")
    if victim == "collector":
        system.collector.stop(signal.SIGKILL)
    else:
        for pid in backends:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    if held is not None:
        with contextlib.suppress(psycopg2.Error):
            held.rollback()
            held.close()
    thread.join()
    # What the dead collector had begun is over for the database before it is looked at.
    await_true(lambda: activity("pid = ANY (%s) AND state <> 'idle'", backends) == [], "the database being back, and done with it")
    if victim == "collector":
        system.collector.start()
    await_true(system.collector.is_ready, "the collector")


# With FLEETSTATE_KILLS=n, n more at random moments.
KILLS = [("collector", "Transfer", None), ("collector", "Import", 0.1), ("database", "Transfer", 0.003), ("database", "Revocation", 0.001), ("database", "Import", None),
         ("collector", "Deletion", None), ("database", "Deletion", 0.002)]


def test_a_kill_leaves_one_state_or_the_other(system):
    chance, more = random.Random(1), int(os.environ.get("FLEETSTATE_KILLS", 0))
    some = [(chance.choice(["collector", "database"]), chance.choice(["Transfer", "Revocation", "Deletion", "Import"]), 10 ** chance.uniform(-4, 0)) for _ in range(more)]
    for number, (victim, kind, moment) in enumerate(KILLS + some):
        what = {"Transfer": Transfer, "Revocation": Revocation, "Deletion": Deletion, "Import": Import}[kind](system, number)
        strike(system, what, moment, victim)
        done = what.done()
        assert moment is not None or not done, "it had not committed"
        # What was undone can be done, and what was done stays.
        if not done:
            method, path, token, words = what.ask()
            assert system.ask(path, token, method, **words).status_code in (200, 201, 204)
            assert what.done()
    assert " 0 findings" in system.database.cli("audit", "--log")
