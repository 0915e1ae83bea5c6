"""Verdicts on real parts: from a report to posture, alert and event; hysteresis, groups, maintenance, labels. Silence of many is test_thousand.py's."""

import collections
import contextlib
import hashlib
import json
import pathlib
import re
import threading
import time

import psycopg2
import pytest
import requests

from ingesting import System, await_true, processor_seconds
from parts import Database
import device as wire  # found through ingesting

SECURE = {"title": "Secure boot is off", "severity": "high", "element": "SU.2", "when": "strict $.boot.secure == false", "remediation": "Turn it on."}


def put(db, id, **more):
    db.sql("SELECT policy_put(%s, %s, 'test', true)", (id, json.dumps({**SECURE, **more})))


def alerts(db, condition="true"):
    return db.sql(f"SELECT policy, state, encode(ueid, 'hex'), (item::json ->> 'devices')::int, alert_id FROM alert_item WHERE group_id IS NULL AND {condition}"
                  " ORDER BY alert_id")


def events(db, kind="alert.%"):
    return [(t, d.get("policy")) for t, d in db.sql("SELECT type, data FROM event WHERE type LIKE %s ORDER BY event_id", (kind,))]


# --- the rules alone, in the database


@pytest.fixture(scope="module")
def migrated(tmp_path_factory):
    database = Database(tmp_path_factory.mktemp("verdicts"), "fsync=off")
    database.cli("tenant", "add", "acme", "Acme")
    yield database
    database.stop()


@pytest.fixture
def db(migrated):
    return migrated.copy()


def fleet(db, n, interval=30):
    db.sql("INSERT INTO device (tenant_id, ueid, lifecycle, hwmodel) SELECT 1, decode('01' || lpad(to_hex(i), 32, '0'), 'hex'), 'active', 'm' || i %% 2"
           " FROM generate_series(1, %s) i", (n,))
    db.sql("INSERT INTO device_hot (device_id, tenant_id, hi, epoch, interval_s, last_seen) SELECT device_id, 1, 1, 1, %s, now() FROM device", (interval,))
    db.sql("INSERT INTO device_state SELECT device_id, 1, 1, 1, now(), now(), '\\x00', '\\x00', '{\"boot\": {\"secure\": true}}' FROM device")
    judge_all(db)


def judge_all(db):
    while db.sql("SELECT judge_anew(500)", role="fleetstate_ingest")[0][0] > 0:
        pass


def report(db, devices, secure):
    """As ingest does: the state, then its judgement. `secure` None: the fact is missing."""
    state = json.dumps({"boot": {} if secure is None else {"secure": secure}})
    with psycopg2.connect(db.uri("fleetstate_ingest")) as c, c.cursor() as cursor:
        cursor.execute("UPDATE device_hot SET hi = hi + 1 WHERE device_id = ANY (%s)", (devices,))
        cursor.execute("UPDATE device_state SET state = %s, seq = seq + 1 WHERE device_id = ANY (%s)", (state, devices))
        cursor.execute("SELECT judge_states(%s, array_fill(%s::jsonb, ARRAY[%s]))", (devices, state, len(devices)))


def posture(db, device=1):
    return db.sql("SELECT posture, reasons FROM device WHERE device_id = %s", (device,))[0]


def outcome(db, device=1, id="secure"):
    return db.one("SELECT outcome_at(outcomes, slot) FROM device_verdict, policy WHERE device_id = %s AND id = %s", (device, id))


def due(db, later="1 second"):
    db.sql("UPDATE verdict_pending SET due_at = due_at - %s::interval, since = since - %s::interval", (later, later))
    return db.sql("SELECT judge_due(1000)", role="fleetstate_ingest")[0][0]


def test_the_life_of_an_alert(db):
    put(db, "secure")
    fleet(db, 2)
    assert posture(db) == ("operational", []) and alerts(db) == []
    report(db, [1], False)
    assert posture(db) == ("degraded", ["secure"])
    (policy, state, ueid, _, alert), = alerts(db)
    assert (policy, state, len(ueid)) == ("secure", "open", 34)
    report(db, [1], False)
    assert len(alerts(db)) == 1
    item = json.loads(db.one("SELECT item FROM alert_item"))
    assert {k: item[k] for k in ("id", "ueid", "policy", "severity", "state", "title", "element", "remediation")} == {
        "id": alert, "ueid": ueid, "policy": "secure", "severity": "high", "state": "open", "title": SECURE["title"], "element": "SU.2",
        "remediation": "Turn it on."}
    db.cli("alert", "acknowledge", alert, "--comment", "on my way")
    assert json.loads(db.cli("alert", "list", "--json"))[0]["state"] == "acknowledged"
    db.cli("alert", "silence", alert, "--hours", 2)
    assert alerts(db)[0][1] == "silenced"
    db.cli("alert", "comment", alert, "still at it")
    # Not known any more is not healthy again.
    report(db, [1], None)
    assert posture(db) == ("degraded", ["secure"]) and outcome(db) == "u"
    report(db, [1], True)
    assert posture(db) == ("operational", []) and alerts(db)[0][1] == "resolved"
    report(db, [1], False)
    assert alerts(db) == [("secure", "silenced", ueid, None, alert)]  # the same alert, again
    db.cli("alert", "silence", alert, "--hours", 1)
    db.cli("alert", "resolve", alert)
    assert posture(db) == ("degraded", ["secure"])  # words do not turn secure boot on
    db.cli("alert", "resolve", alert, status=1)
    assert [t for t, _ in events(db)] == ["alert.opened", "alert.acknowledged", "alert.silenced", "alert.commented", "alert.resolved", "alert.reopened",
                                          "alert.silenced", "alert.resolved"]
    assert [t for t, _ in events(db, "device.posture")] == ["device.posture"] * 4 + ["device.posture"]
    assert db.one("SELECT count(*) FROM alert_note") == 5


def test_unknown_and_its_weight(db):
    put(db, "secure")
    put(db, "minor", severity="medium", when="strict $.boot.verity == false")
    fleet(db, 1)
    assert posture(db) == ("operational", []) and db.one("SELECT unknowns FROM device") == 1
    report(db, [1], None)
    assert posture(db) == ("unknown", ["secure"]) and db.one("SELECT unknowns FROM device") == 2
    assert alerts(db) == []


def test_an_alert_waits_for_reports_and_for_time(db):
    put(db, "secure", **{"for": {"reports": 3}, "clear_after": {"seconds": 600}})
    fleet(db, 1)
    report(db, [1], False)
    assert (outcome(db), posture(db)[0], due(db), alerts(db)) == ("p", "operational", 0, [])
    report(db, [1], True)
    assert outcome(db) == "0" and db.one("SELECT count(*) FROM verdict_pending") == 0
    report(db, [1], False)
    db.sql("UPDATE device_hot SET hi = hi + 2")  # quiet reports: nothing changed
    assert due(db) == 1 and outcome(db) == "1" and posture(db)[0] == "degraded"
    report(db, [1], True)
    assert (outcome(db), posture(db)[0], due(db, "9 minutes")) == ("c", "degraded", 0)
    assert due(db, "2 minutes") == 1
    assert (outcome(db), posture(db)[0], alerts(db)[0][1]) == ("0", "operational", "resolved")


def test_one_that_flaps_stays_open(db):
    put(db, "secure")
    fleet(db, 1)
    for _ in range(6):
        report(db, [1], False)
        report(db, [1], True)
    assert (outcome(db), posture(db)[0], alerts(db)[0][1]) == ("d", "operational", "open")
    assert len(events(db)) == 7  # opened, and three times resolved and reopened
    assert due(db, "2 hours") == 1
    assert (outcome(db), alerts(db)[0][1]) == ("0", "resolved")


def test_many_together_are_one_alert(db):
    put(db, "secure")
    fleet(db, 40)
    report(db, [1, 2], False)
    assert [a[3] for a in alerts(db)] == [None, None]
    report(db, list(range(3, 31)), False)
    (policy, state, ueid, devices, group), = alerts(db)
    assert (policy, state, ueid, devices) == ("secure", "open", None, 30)
    assert "ueid" not in json.loads(db.one("SELECT item FROM alert_item WHERE alert_id = %s", (group,)))
    report(db, [31, 32], False)
    assert alerts(db)[0][3] == 32 and len(events(db)) == 3  # two alone, one for all others
    db.cli("alert", "acknowledge", group)
    assert db.one("SELECT count(*) FROM alert_item WHERE state = 'acknowledged'") == 33
    report(db, list(range(1, 32)), True)
    assert alerts(db, "state <> 'resolved'")[0][3] == 1
    report(db, [32], True)
    assert alerts(db, "state <> 'resolved'") == []
    assert events(db)[-1] == ("alert.resolved", "secure")


def test_a_change_costs_no_more_where_many_alerts_are_open(db):
    """By plans that were made while there were none."""
    put(db, "secure")
    fleet(db, 1200)
    with psycopg2.connect(db.uri("fleetstate_ingest")) as c, c.cursor() as cursor:
        def judge(devices, secure):
            state = json.dumps({"boot": {"secure": secure}})
            cursor.execute("SELECT judge_states(%s, array_fill(%s::jsonb, ARRAY[%s]))", (devices, state, len(devices)))

        def read():
            cursor.execute("SELECT idx_tup_fetch FROM pg_stat_xact_user_tables WHERE relname = 'alert'")
            return cursor.fetchone()[0]

        cursor.execute("SET plan_cache_mode = force_generic_plan; SET enable_seqscan = off")
        judge([1], False)
        judge([1], True)
        judge(list(range(2, 1001)), False)
        for secure in False, True:
            before = read()
            judge([1100], secure)
            assert read() - before < 50, secure


def test_maintenance_holds_alerts_back(db):
    put(db, "secure")
    fleet(db, 4)
    window = db.one("SELECT maintenance_put(NULL, %s, 'test') FROM set_config('fleetstate.tenant', '1', true)",
                    (json.dumps({"title": "roll-out", "until": "2099-01-01T00:00:00Z", "from": "2098-12-01T00:00:00Z", "scope": {"model": "m1"}}),))
    db.sql("UPDATE maintenance SET from_at = now() - interval '1 day', until_at = now() + interval '1 day'")
    report(db, [1, 2, 3], False)
    assert [outcome(db, d) for d in (1, 2, 3)] == ["h", "1", "h"] and len(alerts(db)) == 1
    assert posture(db) == ("degraded", ["secure"])  # it is what it is
    report(db, [3], True)
    db.sql("SELECT maintenance_delete(%s, 'test') FROM set_config('fleetstate.tenant', '1', true)", (window,))
    assert due(db) == 1 and len(alerts(db)) == 2 and outcome(db, 1) == "1" and outcome(db, 3) == "0"


def test_labels_decide_whom_a_policy_is_for(db):
    """As they come and go, in the very transaction."""
    put(db, "secure", scope={"label": ["site=berlin", "site=bonn"]})
    put(db, "other", severity="low", when="strict $.boot.verity == false")
    fleet(db, 2)
    report(db, [1, 2], False)
    ueid = db.one("SELECT encode(ueid, 'hex') FROM device WHERE device_id = 1")
    assert alerts(db) == [] and outcome(db) == "-"
    for label in "rack=7", "site=bern":
        db.cli("device", "label", ueid, label)
        assert alerts(db) == []
    db.cli("device", "label", ueid, "site=berlin", "rack-", "door=A.1")
    assert [a[:3] for a in alerts(db)] == [("secure", "open", ueid)] and posture(db) == ("degraded", ["secure"])
    assert db.sql("SELECT data -> 'labels', xmin FROM event WHERE type = 'device.labels' ORDER BY event_id DESC LIMIT 1")[0] == (
        ["door=A.1", "site=berlin"], db.one("SELECT xmin FROM event WHERE type = 'alert.opened'"))
    db.cli("device", "label", ueid, "site=bonn")
    assert [a[1] for a in alerts(db)] == ["open"] and len(events(db)) == 1
    db.cli("device", "label", ueid, "site-")
    assert [a[1] for a in alerts(db)] == ["resolved"] and posture(db)[0] == "operational" and outcome(db) == "-"
    told = db.one("SELECT count(*) FROM event")
    db.cli("device", "label", ueid, "site-", "door=A.1")  # as it is
    assert db.one("SELECT count(*) FROM event") == told
    assert db.cli("device", "list", "--label", "door:A.1").count(ueid) == db.cli("device", "list", "--label", "door").count(ueid) == 1
    assert ueid not in db.cli("device", "list", "--label", "door:A") + db.cli("device", "list", "--label", "doo")
    for wrong in "door=A.1", "door:A=1", "=", ":", ":A.1", "":
        assert db.cli("device", "list", "--label", wrong, status=2) == ""
    for wrong in "Site=x", "=x", "site=", "site=a b", "-x=y", "site=" + "x" * 64, "s" * 64 + "=x", "site=ä":
        db.cli("device", "label", "--", ueid, wrong, status=1)
    for wrong in ("site",), ("a=1", "a-"), ():
        db.cli("device", "label", ueid, *wrong, status=2)
    db.cli("device", "label", ueid, *(f"n{i}=x" for i in range(15)))
    db.cli("device", "label", ueid, "one.more=x", status=1)
    db.cli("device", "label", "01" + "f" * 32, "a=b", status=1)
    assert db.one("SELECT cardinality(labels) FROM device WHERE device_id = 1") == 16 and judge_all(db) is None


def test_a_label_ends_what_maintenance_holds_and_nothing_else(db):
    put(db, "secure")
    put(db, "slow", when="strict $.boot.secure == false", **{"for": {"seconds": 600}})
    fleet(db, 2)
    for device, label in (1, "roll-out=now"), (2, "roll-out=later"):
        db.cli("device", "label", db.one("SELECT encode(ueid, 'hex') FROM device WHERE device_id = %s", (device,)), label)
    db.sql("SELECT maintenance_put(NULL, %s, 'test') FROM set_config('fleetstate.tenant', '1', true)",
           (json.dumps({"title": "x", "until": "2099-01-01T00:00:00Z", "from": "2098-12-01T00:00:00Z", "scope": {"label": "roll-out=now"}}),))
    db.sql("UPDATE maintenance SET from_at = now() - interval '1 day', until_at = now() + interval '1 day'")
    report(db, [1, 2], False)
    assert [outcome(db, d, p) for d in (1, 2) for p in ("secure", "slow")] == ["h", "h", "1", "p"]
    db.cli("device", "label", db.one("SELECT encode(ueid, 'hex') FROM device WHERE device_id = 1"), "roll-out-")
    db.sql("SELECT judge_due(1000)", role="fleetstate_ingest")
    assert [outcome(db, d) for d in (1, 2)] == ["1", "1"]
    # Another window does not shorten what waits for time.
    db.sql("SELECT maintenance_put(NULL, %s, 'test') FROM set_config('fleetstate.tenant', '1', true)",
           (json.dumps({"title": "y", "until": "2099-01-01T00:00:00Z", "from": "2098-12-01T00:00:00Z"}),))
    db.sql("SELECT judge_due(1000)", role="fleetstate_ingest")
    assert outcome(db, 2, "slow") == "p"


def test_who_waits_or_left_has_no_alert(db):
    put(db, "secure")
    fleet(db, 2)
    db.sql("UPDATE device SET lifecycle = 'pending' WHERE device_id = 1")
    judge_all(db)
    report(db, [1, 2], False)
    assert [a[0] for a in alerts(db)] == ["secure"] and outcome(db) == "h"
    db.cli("device", "approve", db.one("SELECT encode(ueid, 'hex') FROM device WHERE device_id = 1"))
    judge_all(db)
    assert len(alerts(db)) == 2 and outcome(db) == "1"
    db.cli("device", "retire", db.one("SELECT encode(ueid, 'hex') FROM device WHERE device_id = 2"))
    judge_all(db)
    assert [a[1] for a in alerts(db)] == ["resolved", "open"]


def test_rules_that_change_reach_the_whole_fleet(db):
    fleet(db, 20)
    assert posture(db) == ("unknown", ["no-policies"])
    report(db, list(range(1, 11)), False)
    put(db, "secure")
    judge_all(db)
    assert db.sql("SELECT posture, count(*) FROM device GROUP BY 1 ORDER BY 1") == [("degraded", 10), ("operational", 10)]
    put(db, "secure", scope={"model": "m0"})
    judge_all(db)
    assert db.sql("SELECT posture, count(*) FROM device GROUP BY 1 ORDER BY 1") == [("degraded", 5), ("operational", 5), ("unknown", 10)]
    put(db, "secure", enabled=False)
    judge_all(db)
    assert alerts(db, "state <> 'resolved'") == [] and posture(db) == ("unknown", ["no-policies"])
    db.sql("SELECT policy_delete('secure', 'test', true)")
    judge_all(db)
    assert db.one("SELECT slot IS NULL FROM policy WHERE id = 'secure'")
    assert db.one("SELECT ended_at IS NOT NULL AND done >= total FROM judging WHERE tenant_id = 0")


def test_tenants_own_are_judged_in_the_same_order(db):
    """Only the second device's outcome changes, but both are done with it."""
    fleet(db, 2)
    own = json.dumps(SECURE)
    db.sql("SELECT policy_put('own', %s, 'test') FROM set_config('fleetstate.tenant', '1', true)", (own,))
    number = db.one("SELECT policy_id FROM policy WHERE id = 'own'")
    judged = "SELECT own_judged(1, (SELECT revision FROM judging WHERE tenant_id = 1), '{1,2}', '{0,0}', ARRAY[%s], '{-1}', true)"
    with psycopg2.connect(db.uri("fleetstate_owner")) as other, other.cursor() as cursor:
        cursor.execute("UPDATE device_verdict SET rev = rev + 1 WHERE device_id = 1")
        thread = threading.Thread(target=db.sql, args=(judged, (number,)), kwargs={"role": "fleetstate_ingest"})
        thread.start()
        await_true(lambda: db.one("SELECT count(*) FROM pg_stat_activity WHERE %s = ANY (pg_blocking_pids(pid))", (other.info.backend_pid,)) == 1, "a wait")
        cursor.execute("SET LOCAL lock_timeout = '500ms'")
        cursor.execute("UPDATE device_verdict SET rev = rev + 1 WHERE device_id = 2")
    thread.join()
    assert posture(db, 2) == ("degraded", ["own"])


def test_what_was_before_a_transfer_is_the_former_tenants(db):
    def preview(tenant, as_of):
        counts = db.one(f"SELECT policy_preview(%s, {as_of}) -> 'counts' FROM set_config('fleetstate.tenant', %s, true)", (SECURE["when"], tenant))
        return counts["met"], counts["not_met"], counts["unknown"]

    put(db, "secure")
    db.cli("tenant", "add", "globex", "Globex")
    fleet(db, 2)
    report(db, [1], False)
    report(db, [1], True)
    db.sql("UPDATE alert SET comment = 'theirs'")
    db.sql("INSERT INTO state_history SELECT device_id, now() - interval '1 hour', 1, 1, 1, now(), '\\x00', '\\x00', state FROM device_state")
    assert preview("1", "NULL") == (2, 0, 0) and preview("1", "now()") == (2, 0, 0)
    db.sql("UPDATE device SET tenant_id = 2 WHERE device_id = 1")
    judge_all(db)
    assert preview("1", "NULL") == (1, 0, 0) and preview("2", "NULL") == (0, 0, 0) and preview("2", "now()") == (0, 0, 0)
    report(db, [1], False)
    assert db.sql("SELECT tenant_id, comment, reopened FROM alert ORDER BY alert_id") == [(1, "theirs", 0), (2, None, 0)]


def test_reasons_that_change_under_the_same_posture_are_told(db):
    def told():
        return db.sql("SELECT ueid, type, data ->> 'posture', data -> 'reasons', data -> 'unknowns' FROM event WHERE type IN ('device.posture', 'device.judgement')"
                      " AND event_id > %s ORDER BY event_id", (seen,))

    put(db, "secure")
    put(db, "verity", when="strict $.boot.verity == false")
    put(db, "minor", severity="low", when="strict $.boot.count > 9")
    fleet(db, 2)
    db.sql("UPDATE device_state SET state = '{\"boot\": {\"secure\": true, \"verity\": true, \"count\": 1}}'")
    db.sql("UPDATE device_verdict SET rules = 0")
    judge_all(db)
    device = db.one("SELECT ueid FROM device WHERE device_id = 1")
    since = db.one("SELECT posture_since FROM device WHERE device_id = 2")
    for policies, expected in (("secure", ("device.posture", "degraded", ["secure"], None)), ("verity", ("device.judgement", "degraded", ["secure", "verity"], 0)),
                               ("minor", ("device.judgement", "degraded", ["secure", "verity"], 1)), (None, None)):
        seen = db.one("SELECT max(event_id) FROM event")
        if policies == "secure":
            state = {"secure": False, "verity": True, "count": 1}
        elif policies == "verity":
            state["verity"] = False
        elif policies == "minor":
            del state["count"]
        db.sql("SELECT judge_states(ARRAY[1]::bigint[], ARRAY[%s::jsonb])", (json.dumps({"boot": state}),), role="fleetstate_ingest")
        assert told() == ([(device, *expected)] if expected else [])
    # What nobody approved yet is told to nobody.
    db.sql("UPDATE device SET lifecycle = 'pending' WHERE device_id = 2")
    db.sql("SELECT judge_states(ARRAY[2]::bigint[], ARRAY['{}'::jsonb])", role="fleetstate_ingest")
    assert posture(db, 2) == ("unknown", ["secure", "verity"]) and told() == [] and db.one("SELECT posture_since FROM device WHERE device_id = 2") > since


def test_a_device_that_comes_back_from_another_tenant_is_told_to_have_no_state(db):
    db.cli("tenant", "add", "globex", "Globex")
    fleet(db, 1)
    assert posture(db) == ("unknown", ["no-policies"])
    ueid = db.one("SELECT encode(ueid, 'hex') FROM device")
    for tenant in "globex", "acme":
        db.cli("device", "transfer", ueid, tenant)
    judge_all(db)
    assert posture(db) == ("unknown", ["no-state"])
    assert db.sql("SELECT type, data -> 'reasons' FROM event WHERE tenant_id = 1 ORDER BY event_id DESC LIMIT 1") == [("device.judgement", ["no-state"])]


def test_groups_are_changed_in_one_order(db):
    """Two collectors, each with devices of its own, open the same two groups the other way round."""
    fleet(db, 24)
    failures = []

    def mark(cursor, first, policy):
        cursor.execute("SELECT mark_devices(%s, array_fill(%s::text, '{6}'), array_fill('1'::text, '{6}'))", (list(range(first, first + 6)), policy))

    def other():
        try:
            with psycopg2.connect(db.uri("fleetstate_ingest")) as c, c.cursor() as cursor:
                mark(cursor, 7, "fork")
                mark(cursor, 13, "silent")
        except psycopg2.Error as error:
            failures.append(error)

    thread = threading.Thread(target=other)
    with psycopg2.connect(db.uri("fleetstate_ingest")) as one, one.cursor() as cursor:
        mark(cursor, 1, "silent")
        thread.start()
        await_true(lambda: db.one("SELECT count(*) FROM pg_stat_activity WHERE %s = ANY (pg_blocking_pids(pid))", (one.info.backend_pid,)) == 1, "a wait")
        mark(cursor, 19, "fork")
    thread.join()
    assert not failures, failures
    assert sorted((policy, devices) for policy, _, _, devices, _ in alerts(db)) == [("fork", 12), ("silent", 12)]


def test_who_resolves_a_group_waits_for_who_joins_it(db):
    """And resolves what joined it meanwhile, or nothing and says so."""
    fleet(db, 12)
    with psycopg2.connect(db.uri("fleetstate_ingest")) as c, c.cursor() as cursor:
        cursor.execute("SELECT mark_devices('{1,2,3,4,5,6}', array_fill('fork'::text, '{6}'), array_fill('1'::text, '{6}'))")
    group = alerts(db)[0][4]
    codes = []

    def resolve():
        try:
            db.sql("SELECT alert_resolve(ARRAY[%s], NULL, 'somebody')", (group,))
            codes.append(None)
        except psycopg2.Error as error:
            codes.append(error.pgcode)

    thread = threading.Thread(target=resolve)
    with psycopg2.connect(db.uri("fleetstate_ingest")) as c, c.cursor() as cursor:
        cursor.execute("SELECT mark_devices('{7}', '{fork}', '{1}')")
        thread.start()
        await_true(lambda: db.one("SELECT count(*) FROM pg_stat_activity WHERE %s = ANY (pg_blocking_pids(pid))", (c.info.backend_pid,)) == 1, "a wait")
    thread.join()
    assert codes == ["40001"] and alerts(db)[0][1:4:2] == ("open", 7)
    resolve()
    assert codes[1:] == [None] and db.one("SELECT count(*) FROM alert WHERE resolved_at IS NULL") == 0
    assert db.one("SELECT count(*) FROM device WHERE posture = 'untrusted'") == 0


def test_two_collectors_never_open_two_alerts(db):
    """A thousand times both judge at once a device that has no alert yet."""
    put(db, "secure")
    fleet(db, 1000)
    failures = []

    def judge():
        c = psycopg2.connect(db.uri("fleetstate_ingest"))
        c.autocommit = True
        for device in range(1, 1001):
            start.wait()
            try:
                c.cursor().execute("SELECT judge_states(ARRAY[%s]::bigint[], ARRAY[%s::jsonb])", (device, json.dumps({"boot": {"secure": False}})))
            except psycopg2.Error as error:
                failures.append(error)
        c.close()

    start = threading.Barrier(2, timeout=60)
    threads = [threading.Thread(target=judge) for _ in range(2)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not failures, failures[:3]
    # Each round opened exactly one, which is open still and was not opened twice; and one stands for those that came together.
    assert db.sql("SELECT count(*), count(DISTINCT device_id), max(reopened), count(resolved_at) FROM alert WHERE device_id <> 0") == [(1000, 1000, 0, 0)]
    assert db.one("SELECT count(*) FROM alert WHERE device_id = 0") == 1
    assert db.one("SELECT count(*) FROM device_verdict v, policy p WHERE id = 'secure' AND outcome_at(v.outcomes, p.slot) = '1'") == 1000
    assert len(events(db)) == 5  # four alone, and the group


def test_a_tenants_own_policy(db):
    fleet(db, 3)
    db.sql("SELECT policy_put('own', %s, 'test') FROM set_config('fleetstate.tenant', '1', true)", (json.dumps(SECURE),))
    policy = db.one("SELECT policy_id FROM policy WHERE id = 'own'")

    def judge():
        with psycopg2.connect(db.uri("fleetstate_ingest")) as c, c.cursor() as cursor:
            cursor.execute("SELECT revision, devices, marks FROM own_work(1, 100)")
            revision, devices, marks = cursor.fetchone()
            if devices:
                cursor.execute("SELECT own_found(%s, %s::bigint[])", (policy, devices))
                cursor.execute("SELECT own_judged(1, %s, %s::bigint[], %s::bigint[], ARRAY[%s], ARRAY[%s], true)",
                               (revision, devices, marks, policy, cursor.fetchone()[0]))
            return devices

    assert judge() == [1, 2, 3] and judge() is None
    assert posture(db) == ("operational", [])
    report(db, [2], False)
    assert posture(db, 2)[0] == "operational" and judge() == [2]
    assert posture(db, 2) == ("degraded", ["own"])
    assert [db.one("SELECT own_overrun(%s)", (policy,)) for _ in range(4)] == [False, False, True, False]
    assert alerts(db)[-1][0] == "struck-out" and posture(db, 2)[0] == "degraded"


# --- all of it


@pytest.fixture(scope="module")
def system(tmp_path_factory):
    system = System(tmp_path_factory.mktemp("system"), postgres=["fsync=off"], silence_min="1s", policy_ms=50,
                    before=lambda s: put(s.database, "secure"))
    yield system
    system.close()


def state(device, secure):
    device.state = {**wire.DEFAULT_STATE, 0: {}, 4: {2: secure}}
    del device.state[0]


def test_a_report_degrades_its_device_in_one_transaction(system):
    db, device = system.database, system.device()

    def transactions(selects):
        """What wrote each row, by the row."""
        of_it = "device_id = (SELECT device_id FROM device WHERE ueid = %(ueid)s)"
        rows = db.sql(" UNION ALL ".join(f"(SELECT '{what}', xmin::text FROM {rest.format(of_it=of_it)})" for what, rest in selects.items()),
                      {"ueid": device.ueid})
        assert sorted(what for what, _ in rows) == sorted(selects)
        return dict(rows)

    event = "event WHERE ueid = %(ueid)s AND type = '{}' ORDER BY event_id DESC LIMIT 1"
    with psycopg2.connect(db.uri("fleetstate_owner")) as c, c.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(8259, 2)")  # nobody numbers the events meanwhile: that is a transaction of its own
        state(device, True)
        device.publish(device.full())
        device.receipt_up_to(1)
        assert system.posture(device) == ("operational", [])
        enrolled = transactions({"key": "device_key WHERE {of_it}", "event": event.format("device.enrolled")})
        assert len(set(enrolled.values())) == 1, enrolled
        state(device, False)
        device.publish(device.full())
        device.receipt_up_to(2)  # sent after the commit: all must be there
        assert system.posture(device) == ("degraded", ["secure"])
        degraded = transactions({
            "report": "report_full WHERE {of_it} AND seq = 2", "state": "device_state WHERE {of_it}", "posture": "device WHERE {of_it}",
            "alert": "alert WHERE {of_it} AND resolved_at IS NULL",
            "of the posture": event.format("device.posture"), "of the alert": event.format("alert.opened")})
        assert len(set(degraded.values())) == 1, degraded
    state(device, True)
    device.publish(device.full())
    device.receipt_up_to(3)
    assert system.posture(device) == ("operational", [])


def test_a_bad_signature_makes_untrusted_until_somebody_resolves_it(system):
    device = system.device()
    state(device, True)
    device.publish(device.full())
    device.receipt_up_to(1)
    forged = bytearray(device.quiet(keep=True))
    forged[-1] ^= 1  # of the signature
    device.publish(bytes(forged))
    await_true(lambda: system.posture(device) == ("untrusted", ["verification"]), "distrust")
    alert = system.database.one("SELECT alert_id FROM alert_item WHERE ueid = %s AND policy = 'verification'", (device.ueid,))
    system.database.cli("alert", "resolve", alert, "--comment", "a test")
    assert system.posture(device) == ("operational", [])


def test_a_tenants_slow_predicate_is_struck_out_and_holds_up_nobody(system):
    db = system.database
    device = system.device()
    # Slow by its own work: each item of a long list against a pattern that backtracks.
    device.state = {**wire.DEFAULT_STATE, 4: {6: sorted("a" * 60 + f"{i:04d}" for i in range(500))}}
    device.publish(device.full())
    device.receipt_up_to(1)
    slow = {**SECURE, "when": 'strict exists($.** ? (@ like_regex "^(a?){20}(a?){20}(a?){20}a{60}[0-9]{4}(x+x+)+y$"))'}
    db.sql("SELECT policy_put('slow', %s, 'test') FROM set_config('fleetstate.tenant', '1', true)", (json.dumps(slow),))
    db.sql("SELECT policy_put('quick', %s, 'test') FROM set_config('fleetstate.tenant', '1', true)",
           (json.dumps({**SECURE, "severity": "low", "when": 'strict $.os.id == "debian"'}),))
    await_true(lambda: system.posture(device)[1] == ["quick"], "the tenant's other policy", 60)
    await_true(lambda: db.one("SELECT struck_out_at IS NOT NULL FROM policy WHERE id = 'slow'"), "the third strike", 60)
    assert db.one("SELECT count(*) FROM alert_item WHERE policy = 'struck-out' AND state = 'open'") == 1
    other = system.device()
    state(other, False)
    other.publish(other.full())
    other.receipt_up_to(1)
    assert "secure" in system.posture(other)[1]
    for id in "slow", "quick":
        db.sql("SELECT policy_delete(%s, 'test') FROM set_config('fleetstate.tenant', '1', true)", (id,))
    await_true(lambda: db.one("SELECT count(*) FROM alert WHERE resolved_at IS NULL AND policy_id IN (SELECT policy_id FROM policy WHERE id = 'struck-out')")
               == 0, "its alert resolved", 30)


@pytest.fixture
def patient(system):
    """The same, with a limit that nearly lets a policy be slow."""
    system.collector.stop()
    system.collector.settings.update(policy_ms=500, preview_ms=1000)
    system.collector.start()
    yield system
    system.collector.stop()
    system.collector.settings.update(policy_ms=50, preview_ms=5000)
    system.collector.start()


def compute(stop, spent):
    """(seconds, of a processor) of a little work, again and again: how much of a machine there is for what runs beside it."""
    block = bytes(1 << 21)
    while not stop.wait(0.1):
        begun, own = time.monotonic(), time.thread_time()
        hashlib.sha256(block).digest()
        spent.append((time.monotonic() - begun, time.thread_time() - own))


def test_a_tenants_many_slow_predicates_and_previews_delay_no_other_tenant(patient):
    system, db = patient, patient.database
    pattern = "^(a?){20}(a?){20}(a?){20}a{60}[0-9]{4}(x+x+)+y$"

    def slow(times):
        return "strict exists($.** ? (" + " || ".join([f'@ like_regex "{pattern}"'] * times) + "))"

    def document(n):
        return sorted("a" * 60 + f"{i:04d}" for i in range(n))

    # As many items as take 0.3 s of a processor.
    with contextlib.closing(psycopg2.connect(db.uri("fleetstate_owner"))) as c, c.cursor() as cursor:
        begun = processor_seconds(c.info.backend_pid)
        cursor.execute("SELECT jsonb_path_match(%s, %s, '{}', true)", (json.dumps(document(100)), slow(1)))
        n = min(500, max(1, int(100 * 0.3 / max(0.01, processor_seconds(c.info.backend_pid) - begun))))

    busy, other = system.device(), system.device()
    busy.state = {**wire.DEFAULT_STATE, 4: {6: document(n)}}
    state(other, True)
    for device in busy, other:
        device.publish(device.full())
        device.receipt_up_to(1)
    db.cli("tenant", "add", "patience", "Patience")
    tenant = db.one("SELECT tenant_id FROM tenant WHERE id = 'patience'")
    db.cli("device", "transfer", other.ueid.hex(), "patience")
    other.publish(other.full())
    other.receipt_up_to(2)
    tokens = {t: db.cli("token", "add", "--tenant", t, "--role", "viewer", "fair").strip() for t in ("acme", "patience")}
    url = f"http://127.0.0.1:{system.collector.http}/v1"
    answers, spent, stop = [], [], threading.Event()

    def preview():
        with requests.Session() as session:
            while not stop.is_set():
                begun = time.monotonic()
                answer = session.post(f"{url}/policies/preview", json={"when": slow(20)}, timeout=20,
                                      headers={"Authorization": f"Bearer {tokens['acme']}"})
                answers.append((answer.status_code, time.monotonic() - begun, answer.headers.get("Retry-After")))
                stop.wait(0.05)

    for number, ids in (1, [f"slow-{i}" for i in range(50)]), (tenant, ["mine"]):
        with psycopg2.connect(db.uri("fleetstate_owner")) as c, c.cursor() as cursor:
            cursor.execute("SELECT set_config('fleetstate.tenant', %s, true)", (str(number),))
            for id in ids:
                cursor.execute("SELECT policy_put(%s, %s, 'test')", (id, json.dumps({**SECURE, "when": slow(1)} if number == 1 else SECURE)))
    threads = [threading.Thread(target=compute, args=(stop, spent)), *(threading.Thread(target=preview) for _ in range(3))]
    for t in threads:
        t.start()
    try:
        await_true(lambda: db.one("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND classid = 8262 AND objid = 1"), "the busy one's turn")
        waits, latencies = [], []
        for secure in False, True, False:
            begun = time.monotonic()
            state(other, secure)
            other.publish(other.full())

            def judged():
                asked = time.monotonic()
                assert requests.get(f"{url}/fleet", headers={"Authorization": f"Bearer {tokens['patience']}"}, timeout=20).status_code == 200
                latencies.append(time.monotonic() - asked)
                return ("mine" in system.posture(other)[1]) != secure

            await_true(judged, "the other tenant's policy", 30)
            waits.append(time.monotonic() - begun)
        goes_on = db.one("SELECT EXISTS (SELECT FROM device_verdict v JOIN judging j USING (tenant_id) WHERE tenant_id = 1 AND own_rules < j.revision)")
    finally:
        stop.set()
        for t in threads:
            t.join()
        with psycopg2.connect(db.uri("fleetstate_owner")) as c, c.cursor() as cursor:
            cursor.execute("SELECT set_config('fleetstate.tenant', '1', true)")
            cursor.execute("SELECT count(policy_delete(id, 'test')) FROM policy WHERE id LIKE 'slow-%' AND deleted_at IS NULL")
    latencies.sort()
    # Times are those of a machine that is ours alone: on a busy one all takes longer, and so does what computes.
    longer = sum(wall for wall, _ in spent) / sum(own for _, own in spent)
    figures = f"{longer:.1f} times as long, {n} items, waits {waits}, of {len(latencies)} requests the slowest {latencies[-3:]}, previews {collections.Counter(a[0] for a in answers)}"
    print(figures)
    assert max(waits) < 3 * longer, figures
    assert goes_on, figures  # the busy one's had not ended before
    assert latencies[len(latencies) * 95 // 100] < 0.5 * longer and latencies[-1] < 2 * longer, figures
    refused = [a for a in answers if a[0] == 429]
    ended = [s for code, s, _ in answers if code == 503]
    assert {a[0] for a in answers} <= {200, 429, 503} and refused and ended and min(ended) > 0.9, figures
    assert all(after == "1" for _, _, after in refused) and sorted(s for _, s, _ in refused)[len(refused) // 2] < 0.5 * longer, figures
    # One of a tenant runs, wherever: another tenant's runs beside it.
    with psycopg2.connect(db.uri("fleetstate_owner")) as c, c.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(8263, 1)")
        assert [requests.post(f"{url}/policies/preview", json={"when": SECURE["when"]}, headers={"Authorization": f"Bearer {tokens[t]}"}, timeout=20).status_code
                for t in ("acme", "patience")] == [429, 200]


def test_ingest_locks_what_watch_locks_in_the_same_order(system):
    """A batch marks one device and judges the state of an earlier one, while somebody has the earlier one and then wants the other."""
    db, devices = system.database, [system.device() for _ in range(3)]
    for device in devices:
        state(device, True)
        device.publish(device.full())
        device.receipt_up_to(1)
    first, second, other = devices
    verdict = "device_verdict v SET rev = rev + 1 FROM device d WHERE d.device_id = v.device_id AND ueid = %s"
    token = db.cli("token", "add", "--role", "operator", "slots").strip()

    def queued():
        text = requests.get(f"http://127.0.0.1:{system.collector.http}/metrics", headers={"Authorization": f"Bearer {token}"}, timeout=10).text
        return float(re.search(r"^fleetstate_queue_slots(?:{.*})? (\S+)$", text, re.M)[1])

    def blocked():
        """Whoever judges by changed rules may wait for it too, and before ingest."""
        return db.sql("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE 'SELECT lock_verdicts(%%'", (), role="fleetstate_ingest") == [(1,)]

    with psycopg2.connect(db.uri("fleetstate_owner")) as watch, watch.cursor() as cursor:
        cursor.execute(f"UPDATE {verdict}", (first.ueid,))
        cursor.execute("SAVEPOINT of_other")
        cursor.execute(f"UPDATE {verdict}", (other.ueid,))
        state(other, False)
        other.publish(other.full())
        await_true(blocked, "ingest waiting for the third device")
        forged = bytearray(second.quiet(keep=True))
        forged[-1] ^= 1  # of the signature
        second.publish(bytes(forged))
        state(first, False)
        first.publish(first.full())
        await_true(lambda: queued() == 3, "a batch behind it")
        cursor.execute("ROLLBACK TO of_other")
        other.receipt_up_to(2)
        await_true(blocked, "the batch waiting for the first device")
        cursor.execute(f"UPDATE {verdict}", (second.ueid,))
    first.receipt_up_to(2)
    await_true(lambda: system.posture(second) == ("untrusted", ["verification"]), "distrust")
    assert system.posture(first) == ("degraded", ["secure"])
    assert "deadlock" not in system.collector.log()


def test_no_statement_is_compiled(system):
    """The planner holds what it was told to avoid for so dear that PostgreSQL would compile it, which takes longer than to do it."""
    device = system.device()
    for secure in True, False, True:
        state(device, secure)
        device.publish(device.full())
        device.receipt_up_to(device.seq)
    backends = system.database.sql("SELECT pid FROM pg_stat_activity WHERE usename IN ('fleetstate_ingest', 'fleetstate_api')")
    assert len(backends) >= 5
    assert [pid for pid, in backends if "llvmjit.so" in pathlib.Path(f"/proc/{pid}/maps").read_text()] == []


def test_changed_rules_reach_devices_while_events_are_numbered_and_sent(system):
    """Each is one collector's at a time, by a lock of its own."""
    db = system.database
    device = system.device()
    state(device, True)
    device.publish(device.full())
    device.receipt_up_to(1)
    await_true(lambda: db.one("SELECT count(*) FROM event WHERE position IS NULL") == 0, "events numbered")
    sink = db.one("SELECT add_sink('acme', 'nowhere', 'syslog', 'tls://127.0.0.1:1', NULL, NULL, NULL, '{}', 'info', 1, false, 'native')")
    await_true(lambda: db.one("SELECT leader FROM sink_cursor WHERE sink_id = %s", (sink,)), "a leader of the sink")
    assert sink == db.one("SELECT tenant_id FROM device WHERE ueid = %s", (device.ueid,))
    put(db, "changed", when="strict $.boot.secure == true")
    await_true(lambda: system.posture(device) == ("degraded", ["changed"]), "the operator's new policy", 30)
    db.sql("SELECT policy_delete('changed', 'test', true)")
    await_true(lambda: system.posture(device) == ("operational", []), "its end", 30)
    own = json.dumps({**SECURE, "when": "strict $.boot.secure == true"})
    db.sql("SELECT policy_put('own', %s, 'test') FROM set_config('fleetstate.tenant', '1', true)", (own,))
    await_true(lambda: system.posture(device) == ("degraded", ["own"]), "the tenant's own policy", 30)
    db.sql("SELECT policy_delete('own', 'test') FROM set_config('fleetstate.tenant', '1', true)")
    await_true(lambda: system.posture(device) == ("operational", []), "its end", 30)
    db.sql("DELETE FROM sink WHERE sink_id = %s", (sink,))
