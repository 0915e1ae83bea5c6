"""Personal facts by tenant on a running system: kept, hashed, left out, in all that is stored, shown and sent; what came before; who sees signed bytes; and
a real device's."""

import hashlib
import hmac
import json
import signal
import socket
import threading
import types

import psycopg2
import pytest
import requests

from ingesting import await_true
from namespace import Namespace, why_not
from test_events_live import JOURNALD, LiveEmitter, ssh
from test_tenants import Tenants, heard, name
from device import BOOT, DEFAULT_STATE, LOGIN, LOGIN_FAILED, PRIVILEGE  # found through parts

# Whoever is named: in facts, and in events.
NAMES = ("hostofalice", "alicea", "bobb", "carolc", "davedd", "evee", "malloryy", "192.0.2.77", "strangerr")
STATE = {**DEFAULT_STATE,
         1: {**DEFAULT_STATE[1], 11: "hostofalice"},
         10: {8: ["alicea sudo", "%bobb sudo without password"]},
         11: {2: ["bobb", "alicea"], 3: [], 4: ["carolc"], 5: ["davedd"], 6: ["evee"], 20: ["user malloryy: passwordauthentication yes"]}}
EVENTS = [[LOGIN, ["alicea", "sshd", "192.0.2.77"], 1790000000, 1790000042, 17], [LOGIN_FAILED, None, 1790000000, 1790000042, 3],
          [PRIVILEGE, ["alicea", "bobb", "sudo"], 1790000000, 1790000042, 1], [BOOT, [], 1790000000, 1790000000, 1],
          [4711, ["strangerr", None], 1790000000, 1790000000, 1]]
FORMATS = ("native", "ocsf", "ecs", "cef", "cloudevents")


@pytest.fixture(scope="module")
def system(tmp_path_factory):
    system = Tenants(tmp_path_factory.mktemp("personal"), checkpoint_interval="1s")
    system.tokens["viewer"] = system.database.cli("token", "add", "--role", "viewer", "--tenant", "acme", "who only looks")
    system.tokens["buyer's viewer"] = system.database.cli("token", "add", "--role", "viewer", "--tenant", "buyer", "another who only looks")
    yield system
    system.close()


def change(system, way, token="acme", tenant="acme", **headers):
    return system.ask(f"/v1/tenants/{tenant}", token, "PATCH", headers, json={"personal": way})


def switch(system, way, token="acme", tenant="acme"):
    answer = change(system, way, token, tenant)
    assert (answer.status_code, answer.json().get("personal")) == (200, way), answer.text
    await_true(lambda: system.database.one("SELECT count(*) FROM tenant_veiling") == 0, "what is stored being brought to it")


def told(system, device):
    """It tells its state and what happened. The receipt that accounts for both."""
    device.state = STATE
    return heard(device, device.full(), device.eventful(EVENTS), device.quiet({"receipt": True}))


def seen(system, device, token="viewer"):
    """All that a reader can be shown of what devices told."""
    paths = [f"/v1/devices/{name(device)}{path}" for path in ("", "/state", "/inventory", "/ledger", "/reports", "/alerts", "/events")]
    paths += [f"/v1/events?limit=1000&format={form}" for form in FORMATS] + ["/v1/refusals?limit=1000", "/v1/devices?format=csv", "/v1/devices?format=ndjson"]
    paths += [f"/v1/assets?format={form}" for form in ("csv", "ndjson", "ocsf", "cyclonedx", "netbox", "servicenow")]
    found = {}
    for path in paths:
        answer = system.ask(path, token)
        assert answer.status_code == 200, (path, answer.text)
        found[path] = answer.text
    return found


def named(texts):
    return {(path, n) for path, text in texts.items() for n in NAMES if n in text}


def stored(system, device):
    """The device's present state and those of its history, with the way in which they are stored."""
    return [system.database.sql(f"SELECT s.personal, s.state FROM {table} s JOIN device d USING (device_id) WHERE d.ueid = %s ORDER BY {order}", (device.ueid,))
            for table, order in (("device_state", "d.device_id"), ("state_history", "valid_from, s.seq"))]


def feed(system, device, token="acme"):
    await_true(lambda: system.database.one("SELECT count(*) FROM event WHERE position IS NULL") == 0, "all events having their place")
    return [e["data"] for e in system.get(f"/v1/events?limit=1000&ueid={name(device)}", token)["items"] if e["type"].startswith("device.event.")]


def hashed(system, tenant, word):
    [(inner, outer)] = system.database.sql("SELECT inner_pad, outer_pad FROM tenant_secret JOIN tenant USING (tenant_id) WHERE id = %s", (tenant,))
    key = bytes(b ^ 0x36 for b in bytes(inner))
    assert bytes(b ^ 0x5C for b in bytes(outer)) == key and len(key) == 64 and key[:32].strip(b"\0") and key[32:] == bytes(32)
    return "hmac:" + hmac.new(key, word.encode(), hashlib.sha256).hexdigest()[:16]


def test_only_known_ways_and_only_by_whom_it_concerns(system):
    def changed():
        return system.database.one("SELECT count(*) FROM tenant_secret"), [e for e in system.events("acme") if e["type"] == "tenant.personal"]

    switch(system, "keep")
    await_true(lambda: system.database.one("SELECT count(*) FROM event WHERE position IS NULL") == 0, "all events having their place")
    before = changed()
    first = system.ask("/v1/tenants/acme")
    assert first.json()["personal"] == "keep"
    for wrong in ("", "Keep", "hash ", "omitted", "keep,hash", None, True, 1, ["hash"], {"way": "hash"}):
        assert change(system, wrong).status_code == 400, wrong
    assert system.ask("/v1/tenants/acme", method="PATCH", json={"personal": "hash", "personals": "hash"}).status_code == 400
    # Both or none.
    assert system.ask("/v1/tenants/acme", method="PATCH", json={"personal": "none", "legal_hold": {"reason": "x"}}).status_code == 400
    assert system.ask("/v1/tenants/acme", method="PATCH", json={"personal": "hash", "legal_hold": {}}).status_code == 400
    assert change(system, "hash", "viewer").status_code == 403 and system.ask("/v1/tenants/acme", "viewer").status_code == 403
    for token, tenant in (("buyer", "acme"), ("acme", "buyer"), ("acme", "nobody"), ("operator", "nobody")):
        assert change(system, "hash", token, tenant).status_code == 404, (token, tenant)
    assert change(system, "hash", **{"If-Match": '"99"'}).status_code == 412
    for words, status in ((("acme", "none"), 1), (("acme",), 2), (("acme", "hash", "omit"), 2), (("nobody", "hash"), 1)):
        system.database.cli("tenant", "personal", *words, status=status)
    now = system.ask("/v1/tenants/acme")
    assert (now.json(), now.headers["ETag"]) == (first.json(), first.headers["ETag"])
    assert changed() == before
    # The secret is the owner's: neither who serves nor who stores can read it, or ask for hashes of another's.
    for role in "fleetstate_api", "fleetstate_ingest":
        for table in "tenant_secret", "tenant_veiling":
            assert system.database.one("SELECT has_table_privilege(%s, 'fleetstate.' || %s, 'SELECT, INSERT, UPDATE, DELETE')", (role, table)) is False
    for function in "veil_state(jsonb, int, text)", "veil_event(jsonb, int, text, boolean)", "veil_stored(int)", "make_tenant_secret(int)":
        assert system.database.one("SELECT has_function_privilege('fleetstate_api', 'fleetstate.' || %s, 'EXECUTE')", (function,)) is False


@pytest.mark.parametrize("way", ["hash", "omit"])
def test_nobody_is_named_anywhere(system, way):
    """From the answer on in what comes, and soon in what came before; another tenant's is as it was."""
    switch(system, "keep")
    early, device, other = system.device(), system.device(), system.device()
    heard(other, other.full(), other.quiet({"receipt": True}))
    system.transfer(other, "acme", "buyer")
    told(system, early)
    told(system, other)
    assert stored(system, early)[0][0] == ("keep", stored(system, early)[1][0][1]) and "hostofalice" in json.dumps(stored(system, early))
    assert {n for _, n in named(seen(system, early))} == set(NAMES), "the test would see them"

    switch(system, way)
    receipt = told(system, device)
    assert receipt.missing == [] and not receipt.wants, "the digests are of what was signed"
    heard(device, device.full(), device.quiet({"receipt": True}))
    [(how, state)], history = stored(system, device)
    assert how == way and len(history) == 1 and history[0] == (way, state), "the same state makes no second one"
    for one in early, device:
        assert named(seen(system, one)) == set()
        assert stored(system, one)[0][0] == (way, state) and stored(system, one)[1][0][1] == state
    assert system.get(f"/v1/devices/{name(device)}/state", "viewer")["state"] == state and "no efivars" in state["unknown"].values()
    events, before = ({e["kind"]: e for e in feed(system, one)} for one in (device, early))
    parts = [{kind: [e.get(p) for p in ("account", "address", "target", "subject", "service", "program", "count")] for kind, e in of.items()} for of in (events, before)]
    assert parts[0] == parts[1], "those that were told before are as those that are told now"
    assert len(events) == 5 and events["login"]["service"] == "sshd" and events["privilege"]["program"] == "sudo" and events["login-failed"]["others"] is True
    if way == "hash":
        h = {n: hashed(system, "acme", n) for n in (*NAMES, "%bobb")}
        assert state["device"]["hostname"] == h["hostofalice"] and "hostname" not in state["unknown"]
        # In an order that says nothing of the names'.
        assert state["configuration"]["administrators"] == sorted([h["alicea"] + " sudo", h["%bobb"] + " sudo without password"])
        assert state["access"] == {"usable": sorted([h["alicea"], h["bobb"]]), "empty_password": [], "second_root": [h["carolc"]], "weak_password_hash": [h["davedd"]],
                                   "default_password": [h["evee"]], "ssh_match": [f"user {h['malloryy']}: passwordauthentication yes"]}
        assert (events["login"]["account"], events["login"]["address"]) == (h["alicea"], h["192.0.2.77"])
        assert (events["privilege"]["account"], events["privilege"]["target"]) == (h["alicea"], h["bobb"])
        assert events["4711"]["subject"] == [h["strangerr"], None], "of a kind that is not known anything may name somebody"
    else:
        why = "personal: left out by the tenant"
        assert state["unknown"]["device.hostname"] == why and state["unknown"]["access.empty_password"] == why + ", 0 of them"
        assert state["unknown"]["configuration.administrators"] == state["unknown"]["access.usable"] == why + ", 2 of them"
        assert "access" not in state and "configuration" not in state and "hostname" not in state["device"] and state["device"]["serial"] == "SN-0001"
        assert not {"account", "address", "target", "subject"} & {k for e in events.values() for k in e}
    # The other tenant keeps its own, and sees its reports' bytes.
    assert {n for _, n in named(seen(system, other, "buyer's viewer"))} == set(NAMES)
    reports = system.get(f"/v1/devices/{name(other)}/reports", "buyer's viewer")["items"]
    assert reports and {system.ask("/v1/reports/" + r["sha256"], "buyer's viewer").status_code for r in reports} == {200}
    assert json.loads(system.database.cli("audit", "--json", "--device", name(device)).splitlines()[-1])["devices"] == 1, "and the evidence is whole"


def test_equal_names_have_equal_hashes_in_a_tenant_only(system):
    one, two, other = system.device(), system.device(), system.device()
    heard(other, other.full(), other.quiet({"receipt": True}))
    system.transfer(other, "acme", "buyer")
    switch(system, "hash")
    switch(system, "hash", "operator", "buyer")
    for device in one, two, other:
        told(system, device)
    a, b = (stored(system, device)[0][0][1] for device in (one, two))
    assert a == b
    [c] = [state for how, state in stored(system, other)[0] if how == "hash" and state["device"]["serial"] == "SN-0001" and state["device"].get("hostname") == hashed(system, "buyer", "hostofalice")]
    mine, theirs = ({state["device"]["hostname"], *state["access"]["usable"], *state["configuration"]["administrators"]} for state in (a, c))
    assert len(mine) == len(theirs) == 5 and not mine & theirs
    before, events = system.database.sql("SELECT * FROM tenant_secret ORDER BY tenant_id"), feed(system, one)
    # Loosened and tightened again it is the same secret, and nothing is hashed twice.
    switch(system, "keep")
    assert stored(system, one)[0][0] == ("hash", a), "what was hashed comes back with another state only"
    two.state = {**STATE, 5: {1: "dpkg", 2: 3}}
    heard(two, two.full(), two.quiet({"receipt": True}))
    assert stored(system, two)[0][0][1]["device"]["hostname"] == "hostofalice"
    switch(system, "hash")
    assert stored(system, one)[0][0][1] == a and stored(system, two)[0][0][1]["device"] == a["device"]
    assert (system.database.sql("SELECT * FROM tenant_secret ORDER BY tenant_id"), feed(system, one)) == (before, events)
    switch(system, "omit")
    assert {how for row in stored(system, two) for how, _ in row} == {"omit"} and "hmac:" not in json.dumps(stored(system, two))
    switch(system, "hash")
    assert "hmac:" not in json.dumps(stored(system, one)), "what was left out can't be hashed"
    switch(system, "keep", "buyer", "buyer")


def test_texts_that_are_not_as_usual(system):
    """Whatever a device makes up: nothing of it is shown, and the rest of its state is not lost."""
    switch(system, "hash")

    def veiled(way, **state):
        return system.database.one("SELECT veil_state(%s, tenant_id, %s) FROM tenant WHERE id = 'acme'", (json.dumps(state), way))

    def h(word):
        return hashed(system, "acme", word)

    for text, expected in (("", ""), (" ", " "), ("a  b", f"{h('a')}  {h('b')}"), ("sudo", h("sudo")), ("hmac:0123456789abcdef", h("hmac:0123456789abcdef")),
                           ("\u4f60\u2028x\ny", h("\u4f60\u2028x\ny")), ("a: b", f"{h('a:')} {h('b')}"), ("x" * 255, h("x" * 255))):
        assert veiled("hash", device={"hostname": text, "serial": text}) == {"device": {"hostname": expected, "serial": text}}, text
    for text, expected in (("User bob: x 9", f"User {h('bob')}: x 9"), ("user a: b: c", f"user {h('a:')} {h('b')}: c"), (": said", ": said"), ("bob", h("bob")),
                           ("bob:said", h("bob:said")), ("user bob\n: x", f"user {h('bob' + chr(10))}: x")):
        assert veiled("hash", access={"ssh_match": [text]}) == {"access": {"ssh_match": [expected]}}, text
    assert veiled("hash", configuration={"administrators": ["SUDO Group bob"]}) == {"configuration": {"administrators": [f"SUDO Group {h('bob')}"]}}
    # What facts.def does not say they are.
    for state in {}, {"access": None}, {"access": 5}, {"access": ["usable"]}, {"access": {"usable": 5}}, {"accesses": {"usable": ["bob"]}}:
        assert veiled("hash", **state) == veiled("omit", **state) == state
    for value in [1], ["a", None], [["a"]], [{"a": "bob"}], {"a": "bob"}, None:
        for way in "hash", "omit":
            left = veiled(way, access={"usable": value, "locked": 3}, unknown={"x.y": "because"})
            assert left["access"] == {"locked": 3} and left["unknown"]["x.y"] == "because" and left["unknown"]["access.usable"].startswith("personal: left out by the tenant")


def test_signed_bytes_are_the_administrators(system):
    switch(system, "keep")
    device = system.device()
    device.state = STATE
    message = device.full()
    heard(device, message, device.quiet(), device.full())
    digest = hashlib.sha256(message).hexdigest()
    ways = [f"/v1/reports/{digest}", f"/v1/devices/{name(device)}/reports/{device.epoch.hex()}/1"]
    damaged = device.report(device.full_claims(), payload=lambda data: data + b"\0", keep=True)
    device.publish(damaged)
    await_true(lambda: system.get("/v1/refusals?ueid=" + name(device), "viewer")["items"], "a sample of what was refused")
    assert [system.ask(way, "viewer").content for way in ways] == [message, message] and system.get("/v1/refusals?ueid=" + name(device), "viewer")["items"][0]["sample"]
    for way in "hash", "omit":
        switch(system, way)
        for path in ways:
            refused = system.ask(path, "viewer")
            assert (refused.status_code, refused.json()["type"]) == (403, "urn:fleetstate:problem:forbidden") and "role admin" in refused.json()["detail"]
            assert system.ask(path, "viewer", headers={"If-None-Match": f'"{digest}"'}).status_code == 403
            assert system.ask(path, "buyer").status_code == system.ask(path, "buyer's viewer").status_code == 404
            assert system.ask(path).content == message and system.ask(path + "?tenant=acme", "operator").content == message
        assert system.ask("/v1/reports/" + "0" * 64, "viewer").status_code == 404, "what is not there is not there for anybody"
        assert [r["sample"] for r in system.get("/v1/refusals?ueid=" + name(device), "viewer")["items"]] == [None]
        assert all(r["sample"] for r in system.get("/v1/refusals?ueid=" + name(device))["items"])
        assert [r["seq"] for r in system.get(f"/v1/devices/{name(device)}/reports", "viewer")["items"]] == [1, 2, 3], "which there are everybody may know"

    def entries(kind, who):
        return [e for e in system.get(f"/v1/audit?kind={kind}&limit=1000")["items"] if e.get("who") == who and digest in e["target"]]

    await_true(lambda: entries("read", "acme's admin") and entries("read", "the operator") and entries("refused", "who only looks"), "the log telling who read it")
    # A proof leads over other reports, which it has in it.
    number = system.database.one("SELECT coalesce(max(number), 0) FROM checkpoint")
    await_true(lambda: system.database.one("SELECT coalesce(max(number), 0) FROM checkpoint") > number + 1, "a checkpoint that covers it")
    whole, proof = (system.ask(f"/v1/reports/{digest}/proof", token) for token in ("acme", "viewer"))
    assert whole.status_code == 200 and (proof.status_code == 403) == (b"hostofalice" in whole.content), "a checkpoint may have come before the others"
    assert b"hostofalice" not in proof.content
    switch(system, "keep")
    assert system.ask(ways[0], "viewer").content == message


def test_a_change_is_told(system):
    switch(system, "keep")
    system.database.cli("tenant", "personal", "acme", "omit")
    assert system.get("/v1/tenants/acme", "operator")["personal"] == "omit" and json.loads(system.database.cli("tenant", "list", "--json"))[0]["personal"] == "omit"
    switch(system, "hash", "operator")
    switch(system, "hash")
    switch(system, "keep")
    mine = await_true(lambda: (m := [e["data"] for e in system.events("acme") if e["type"] == "tenant.personal"])[-1:] and m[-1]["personal"] == "keep" and m, "the feed")
    assert [(e["previous"], e["personal"]) for e in mine[-3:]] == [("keep", "omit"), ("omit", "hash"), ("hash", "keep")]
    assert [e["by"] for e in mine[-2:]] == ["the operator", "acme's admin"]
    changes = [e for e in system.get("/v1/audit?kind=change&limit=1000")["items"] if e["method"] == "PATCH" and e["target"] == "/v1/tenants/acme"]
    assert {e["who"] for e in changes} == {"the operator", "acme's admin"}


def test_what_is_being_stored_and_a_change_wait_for_one_another(system):
    switch(system, "keep")
    device = system.device()
    device.state = STATE
    db = psycopg2.connect(system.database.uri("fleetstate_owner"))
    waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND (classid, objid) = (8259, 20) AND NOT granted"
    with db.cursor() as c:
        c.execute("SELECT tenant_change('acme', %s, 'x', NULL)", (json.dumps({"personal": "hash"}),))
        device.publish(device.full())
        await_true(lambda: system.database.one(waiting) == 1, "the collector waiting for the change")
        assert system.stored(device) == []
        db.commit()
        await_true(lambda: system.stored(device), "the report")
        [(how, state)], history = stored(system, device)
        assert (how, state["device"]["hostname"]) == ("hash", hashed(system, "acme", "hostofalice")) and history == [(how, state)]
        # The other way round.
        c.execute("SELECT lock_personal(false)")
        answers = []
        asking = threading.Thread(target=lambda: answers.append(change(system, "omit").status_code))
        asking.start()
        await_true(lambda: system.database.one(waiting) == 1, "the change waiting for what is being stored")
        assert answers == [] and system.database.one("SELECT personal FROM tenant WHERE id = 'acme'") == "hash"
        db.commit()
        asking.join()
        assert answers == [200]
    db.close()


def test_killed_at_any_time_it_is_one_or_the_other(system):
    """The collector is killed while the switch is made, or while what is stored is brought to it."""
    devices = [system.device() for _ in range(2)]
    for turn, pause in enumerate((0.01, 0.3)):
        system.database.cli("tenant", "personal", "acme", "keep")
        for device in devices:
            device.state = {**STATE, 5: {1: "dpkg", 2: 100 + turn}}
            heard(device, device.full(), device.quiet({"receipt": True}))

        def ask():
            try:
                change(system, "hash")
            except requests.RequestException:
                pass

        asking = threading.Thread(target=ask)
        asking.start()
        asking.join(pause)
        system.collector.stop(signal.SIGKILL)
        asking.join()
        system.collector.start()
        way = system.get("/v1/tenants/acme")["personal"]
        assert way in ("keep", "hash")
        await_true(lambda: system.database.one("SELECT count(*) FROM tenant_veiling") == 0, "what is stored being brought to it")
        for device in devices:
            [(how, state)], history = stored(system, device)
            assert how == way and state["device"]["hostname"] == ("hostofalice" if way == "keep" else hashed(system, "acme", "hostofalice"))
            assert history[-1] == (how, state)
            # And it goes on.
            assert heard(device, device.quiet({"receipt": True})).missing == []
    assert json.loads(system.database.cli("audit", "--json").splitlines()[-1])["findings"] == 0


@pytest.mark.skipif(bool(why_not()), reason=why_not())
def test_a_real_device_is_told_of_as_its_tenant_will_have_it(system):
    switch(system, "keep")
    directory = system.directory / "real"
    directory.mkdir()
    with Namespace(system.directory) as ns, ns.forward(system.broker.port):
        ns.forget_updates()
        ns.write("/etc/machine-id", "0123456789abcdef0123456789abcdef\n")
        ns.run("useradd", "--create-home", "--shell", "/bin/sh", "alicea")
        ns.run("chpasswd", input="alicea:right\n")
        ns.write("/etc/sudoers.d/alicea", "alicea ALL=(ALL) NOPASSWD: ALL\n", 0o440)
        ns.run("mkdir", "-p", "/run/systemd/journal", "/run/sshd")
        ns.start(JOURNALD)
        await_true(lambda: ns.path("/run/systemd/journal/dev-log").exists(), "the journal")
        ns.run("ln", "-s", "/run/systemd/journal/dev-log", "/dev/log")
        ns.run("ssh-keygen", "-A")
        ns.start("/usr/sbin/sshd", "-D", "-p", "22", "-o", "PasswordAuthentication=yes")
        ns.within(lambda: await_true(lambda: socket.socket().connect_ex(("127.0.0.1", 22)) == 0, "sshd"))
        emitter = LiveEmitter(ns, system.broker, directory).start()

        def state():
            answer = system.ask(f"/v1/devices/{emitter.ueid}/state", "viewer")
            return answer.json().get("state") or {} if answer.status_code == 200 else {}

        def logins():
            return [e for e in feed(system, emitter.ueid, "viewer") if e["kind"] == "login"]

        def logs_in():
            before = len(logins())
            assert ssh(types.SimpleNamespace(ns=ns), "alicea", "right", "true").returncode == 0
            return await_true(lambda: (found := logins())[before:], "the log-in")

        await_true(lambda: "alicea" in state().get("access", {}).get("usable", ()), "its account")
        await_true(lambda: list(ns.path("/run/log/journal").glob("*/system.journal")), "the journal's file")
        told = state()
        host = ns.run("hostname").stdout.strip()
        assert told["device"]["hostname"] == host and any(a.startswith("alicea ") for a in told["configuration"]["administrators"])
        assert {(e["account"], e["address"]) for e in logs_in()} == {("alicea", "127.0.0.1")}

        switch(system, "hash")
        alice, home = hashed(system, "acme", "alicea"), hashed(system, "acme", "127.0.0.1")
        await_true(lambda: alice in state().get("access", {}).get("usable", ()), "its account's hash")
        assert logs_in() and {(e["account"], e["address"]) for e in logins()} == {(alice, home)}
        assert state()["device"]["hostname"] == hashed(system, "acme", host) and any(a.startswith(alice + " ") for a in state()["configuration"]["administrators"])
        assert "alicea" not in json.dumps([state(), *feed(system, emitter.ueid)])

        switch(system, "omit")
        await_true(lambda: state()["unknown"].get("access.usable", "").startswith("personal: left out by the tenant, "), "its account being left out")
        assert logs_in() and not [e for e in logins() if "account" in e or "address" in e]
        assert not {alice, "alicea", home} & set(json.dumps([state(), *feed(system, emitter.ueid)]).split('"'))

        switch(system, "keep")
        assert {e["account"] for e in logs_in()} == {"alicea"}
        ns.run("useradd", "--create-home", "--shell", "/bin/sh", "bobb")
        ns.run("chpasswd", input="bobb:right\n")
        await_true(lambda: {"alicea", "bobb"} <= set(state().get("access", {}).get("usable", ())), "both accounts")
        assert emitter.stop() == 0
    assert json.loads(system.database.cli("audit", "--json").splitlines()[-1])["findings"] == 0
