"""Retention by tenant on a running system: shorter or longer than the settings have it, by the operator alone, and never what is held or not covered."""

import contextlib
import json
import time

import psycopg2
import pytest

from ingesting import await_true
from test_tenants import Tenants, heard, name

DAY = 86400


@pytest.fixture(scope="module")
def system(tmp_path_factory):
    system = Tenants(tmp_path_factory.mktemp("retention"), checkpoint_interval="1s")
    system.tokens["viewer"] = system.database.cli("token", "add", "--role", "viewer", "--tenant", "acme", "acme's viewer")
    yield system
    system.close()


@pytest.fixture
def pair(system):
    """A device of either tenant, of the same reports: 1 and 5 with sections. Both tenants are as the settings say, before and after."""
    devices = []
    for tenant in "acme", "buyer":
        device = system.device()
        heard(device, device.full(), *(device.quiet() for _ in range(3)), device.full(), device.quiet({"receipt": True}))
        if tenant == "buyer":
            system.transfer(device, "acme", "buyer")
            heard(device, device.full(), *(device.quiet() for _ in range(3)), device.full(), device.quiet({"receipt": True}))
        devices.append(device)
    yield devices
    for tenant in "acme", "buyer":
        assert keep(system, tenant, None).status_code == 200
        assert system.ask("/v1/tenants/" + tenant, "operator", "PATCH", json={"legal_hold": None}).status_code == 200


def keep(system, tenant, retention, token="operator", **headers):
    return system.ask("/v1/tenants/" + tenant, token, "PATCH", headers, json={"retention": retention})


def age(c, table, days, first, last, *devices):
    """As if these devices' reports from first to last had come that many days ago."""
    c.execute("SELECT date_trunc('day', now(), 'UTC') - %s * interval '1 day', date_trunc('day', now(), 'UTC') - %s * interval '1 day', to_regclass(%s) IS NULL",
              (days, days - 1, f"fleetstate.{table}_{days}"))
    begin, end, fresh = c.fetchone()
    if fresh:
        c.execute(f"CREATE TABLE {table}_{days} PARTITION OF {table} FOR VALUES FROM ('{begin}') TO ('{end}'); ALTER TABLE {table}_{days} ENABLE ROW LEVEL SECURITY;"
                  f" ALTER TABLE {table}_{days} FORCE ROW LEVEL SECURITY")
    c.execute(f"UPDATE {table} r SET received_at = %s + interval '1 hour' + r.seq * interval '1 second' FROM device d WHERE d.ueid = ANY (%s) AND r.device_id = d.device_id"
              " AND r.seq BETWEEN %s AND %s", (begin, [d.ueid for d in devices], first, last))


def aged(system, table, days, first, last, *devices):
    with psycopg2.connect(system.database.uri("fleetstate_owner")) as db, db.cursor() as c:
        age(c, table, days, first, last, *devices)
    db.close()


def seqs(system, device):
    """As all of its tenants together have it."""
    return sorted(seq for _, seq, _ in system.stored(device))


def findings(system, status=0):
    lines = [json.loads(line) for line in system.database.cli("audit", "--json", status=status).splitlines()]
    lines.pop()
    return [(line["finding"], line["first"], line["last"]) for line in lines]


def looked(system):
    """Another round of the collector's was begun and ended since."""
    for _ in range(2):
        number = system.database.one("SELECT coalesce(max(number), 0) FROM checkpoint")
        await_true(lambda: system.database.one("SELECT coalesce(max(number), 0) FROM checkpoint") > number, "another checkpoint")


def test_a_shorter_time_takes_only_what_is_the_tenants_and_over(system, pair):
    mine, other = pair
    aged(system, "report_quiet", 40, 1, 3, mine, other)
    aged(system, "report_quiet", 20, 4, 4, mine, other)
    aged(system, "report_full", 40, 1, 5, mine, other)
    [digest] = [r["sha256"] for r in system.get(f"/v1/devices/{name(mine)}/reports")["items"] if r["seq"] == 1]
    assert keep(system, "acme", {"quiet_s": 30 * DAY}).status_code == 200
    await_true(lambda: seqs(system, mine) == [1, 4, 5, 6], "the quiet ones of that day gone")
    looked(system)
    assert seqs(system, mine) == [1, 4, 5, 6], "neither what is younger, nor what has sections"
    # The other was this tenant's, and what it sent then is: that went too.
    assert seqs(system, other) == [1, 4, 5, 6, 7, 8, 9, 10, 11, 12]
    assert findings(system) == []
    assert system.get(f"/v1/devices/{name(mine)}/ledger")["epochs"][0]["expired"] == 2
    for seq, status in (1, 200), (2, 410), (3, 410), (4, 200), (99, 404):
        assert system.ask(f"/v1/devices/{name(mine)}/reports/{mine.epoch.hex()}/{seq}").status_code == status, seq
    # What comes again is known, and what follows stays in the chain.
    heard(mine, mine.quiet(), mine.full(), mine.quiet({"receipt": True}))
    assert system.epoch(mine)[3] == 0 and findings(system) == []

    assert keep(system, "acme", {"sections_s": 30 * DAY}).status_code == 200
    await_true(lambda: seqs(system, mine) == [4, 6, 7, 8, 9], "those with sections of that day gone")
    assert system.ask("/v1/reports/" + digest).status_code == 404
    assert findings(system) == []
    # And nothing but that: what somebody takes away besides is missing.
    [row] = system.database.sql("DELETE FROM report_quiet r USING device d WHERE d.ueid = %s AND r.device_id = d.device_id AND r.seq = 6 RETURNING r.*", (mine.ueid,))
    assert ("missing", 6, 6) in findings(system, status=1)
    system.database.sql(f"INSERT INTO report_quiet VALUES ({', '.join(['%s'] * len(row))})", row)
    system.database.sql("UPDATE report_expired x SET n = n - 1 FROM device d WHERE d.ueid = %s AND x.device_id = d.device_id AND x.sections", (mine.ueid,))
    assert [f[0] for f in findings(system, status=1)] == ["missing"]
    system.database.sql("UPDATE report_expired x SET n = n + 1 FROM device d WHERE d.ueid = %s AND x.device_id = d.device_id AND x.sections", (mine.ueid,))
    # A time that becomes longer again brings nothing back, and takes nothing more.
    assert keep(system, "acme", {"quiet_s": 60 * DAY, "sections_s": None}).status_code == 200
    looked(system)
    assert seqs(system, mine) == [4, 6, 7, 8, 9] and findings(system) == []


def test_a_longer_time_outlasts_the_partition(system, pair):
    mine, other = pair
    assert keep(system, "buyer", {"quiet_s": 200 * DAY, "sections_s": 3000 * DAY}).status_code == 200
    aged(system, "report_quiet", 100, 1, 10, mine, other)
    aged(system, "report_quiet", 110, 11, 11, other)
    aged(system, "report_full", 2000, 1, 11, mine, other)
    await_true(lambda: system.database.one("SELECT to_regclass('report_quiet_100') IS NULL AND to_regclass('report_full_2000') IS NULL AND to_regclass('report_quiet_110') IS NULL"), "the partitions gone")
    assert seqs(system, mine) == [] and seqs(system, other) == [7, 8, 9, 10, 11, 12]
    looked(system)
    assert seqs(system, other) == [7, 8, 9, 10, 11, 12] and findings(system) == []
    assert sorted(r["seq"] for r in system.get(f"/v1/devices/{name(other)}/reports", "buyer")["items"]) == [7, 8, 9, 10, 11, 12]
    assert system.ask(f"/v1/devices/{name(other)}/reports/{other.epoch.hex()}/9", "buyer").status_code == 200
    # Held meanwhile, it stays when its own time is over, and goes with the release, by whole days.
    assert system.patch(other, "buyer", legal_hold={"reason": "x"}).status_code == 200
    assert keep(system, "buyer", {"quiet_s": 105 * DAY, "sections_s": None}).status_code == 200
    looked(system)
    assert seqs(system, other) == [7, 8, 9, 10, 11, 12]
    assert system.patch(other, "buyer", legal_hold=None).status_code == 200
    await_true(lambda: seqs(system, other) == [8, 9, 10, 12], "what has sections gone, and the quiet one of the older day, if any")
    assert findings(system) == []
    assert keep(system, "buyer", None).status_code == 200
    await_true(lambda: seqs(system, other) == [12], "the rest gone as others' is")
    assert findings(system) == [] and system.database.one("SELECT count(*) FROM device_kept") == 0
    heard(other, other.full(), other.quiet({"receipt": True}))
    assert system.epoch(other)[3] == 0 and findings(system) == []


@pytest.mark.parametrize("whole", [False, True], ids=["device", "tenant"])
def test_what_is_held_is_kept_whatever_its_tenants_time(system, pair, whole):
    mine, other = pair
    second = system.device()
    heard(second, second.full(), second.quiet(), second.quiet({"receipt": True}))
    what = ("/v1/tenants/acme",) if whole else ("/v1/devices/" + name(mine),)
    assert system.ask(*what, "acme", "PATCH", json={"legal_hold": {"reason": "Case 1"}}).status_code == 200
    aged(system, "report_quiet", 40, 1, 6, mine, second)
    aged(system, "report_full", 40, 1, 6, mine, second)
    assert keep(system, "acme", {"quiet_s": DAY, "sections_s": DAY}).status_code == 200
    if not whole:
        await_true(lambda: seqs(system, second) == [], "what is not held gone")
    looked(system)
    assert seqs(system, mine) == [1, 2, 3, 4, 5, 6] and seqs(system, second) == ([1, 2, 3] if whole else [])
    assert sorted(r["seq"] for r in system.get(f"/v1/devices/{name(mine)}/reports")["items"]) == [1, 2, 3, 4, 5, 6]
    assert findings(system) == []
    assert system.ask(*what, "acme", "PATCH", json={"legal_hold": None}).status_code == 200
    await_true(lambda: seqs(system, mine) == seqs(system, second) == [], "it gone after the release")
    assert findings(system) == [] and system.get(f"/v1/devices/{name(mine)}/ledger")["epochs"][0]["expired"] == 6


def expire(c, most, uncovered, between=lambda: None):
    """How many reports each piece took."""
    more, taken = True, []
    while more:
        c.execute("SELECT reports, more FROM expire_tenants(%s, '90 days', '1825 days', %s)", (most, uncovered))
        n, more = c.fetchone()
        taken += [n] * (n > 0)
        between()
    return taken


def test_in_pieces_and_never_without_a_checkpoint_unless_told(system, pair):
    mine, other = pair
    looked(system)
    with contextlib.closing(psycopg2.connect(system.database.uri("fleetstate_owner"))) as db, db.cursor() as c:
        c.execute("SELECT pg_advisory_lock(8259, 15)")  # keeps the collector from it
        age(c, "report_quiet", 85, 2, 2, mine)
        age(c, "report_quiet", 40, 3, 6, mine)
        db.commit()
        assert keep(system, "acme", {"quiet_s": DAY}).status_code == 200
        c.execute("LOCK TABLE checkpoint IN SHARE ROW EXCLUSIVE MODE")  # keeps the collector from another one
        c.execute("UPDATE checkpoint SET made_at = made_at - interval '200 days'")
        assert expire(c, 10, False) == []
        assert expire(c, 10, True) == [1, 3], "30 days at once"
        db.rollback()

        def between():
            db.commit()
            assert findings(system) == [], "an audit finds nothing then either"
        assert expire(c, 2, False, between) == [1, 2, 1]
        assert seqs(system, mine) == [1, 5]
        # Nothing is over twice, and another's, or the settings', is not looked at.
        assert expire(c, 2, True) == []
        c.execute("SELECT array_agg(DISTINCT t.id) FROM tenant_expiry JOIN tenant t USING (tenant_id)")
        assert c.fetchone() == (["acme"],)
    assert len(seqs(system, other)) == 12


def test_a_time_that_becomes_longer_while_a_partition_goes_is_heeded(system, pair):
    mine, _ = pair
    db, operator = (psycopg2.connect(system.database.uri("fleetstate_owner")) for _ in range(2))
    with db.cursor() as c, operator.cursor() as o:
        c.execute("SELECT pg_advisory_lock(8259, 15)")
        age(c, "report_quiet", 120, 1, 6, mine)
        db.commit()
        o.execute("SELECT tenant_change('acme', %s, 'x', NULL)", (json.dumps({"retention": {"quiet_s": 200 * DAY}}),))
        c.execute("SELECT partition, busy FROM expire_reports(false, '90 days', false)")
        assert c.fetchone() == (None, True), "it waits until that is said or not"
        db.commit()
        operator.commit()
        c.execute("SELECT partition, reports, busy FROM expire_reports(false, '90 days', false)")
        assert c.fetchone() == ("report_quiet_120", 0, False)
        c.execute("SELECT pg_advisory_unlock(8259, 15)")
        db.commit()
    db.close()
    operator.close()
    assert seqs(system, mine) == [1, 2, 3, 4, 5, 6] and findings(system) == []


def test_what_devices_were(system, pair):
    mine, other = pair
    for device in pair:
        for label in "a=1", "b=2":
            system.database.sql("UPDATE device SET labels = %s WHERE ueid = %s AND lifecycle <> 'transferred'", ([label], device.ueid))

    def old(device, years):
        return system.database.one("SELECT count(*) FROM device_history JOIN device d USING (device_id) WHERE ueid = %s AND d.lifecycle <> 'transferred'"
                                   " AND valid_from < now() - make_interval(years => %s)", (device.ueid, years))

    def as_of(tenant, years):
        at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - years * 365 * DAY))
        return system.ask(f"/v1/devices?as_of={at}", tenant).status_code

    system.database.sql("UPDATE device_history h SET valid_from = valid_from - interval '3 years' FROM device d WHERE h.device_id = d.device_id AND d.ueid = ANY (%s)",
                        ([d.ueid for d in pair],))
    assert as_of("acme", 2) == as_of("buyer", 2) == 200
    were = old(mine, 2), old(other, 2)
    assert min(were) > 1
    assert system.patch(other, "buyer", legal_hold={"reason": "x"}).status_code == 200
    assert keep(system, "acme", {"history_s": 365 * DAY}).status_code == keep(system, "buyer", {"history_s": 3650 * DAY}).status_code == 200
    await_true(lambda: old(mine, 2) == 1, "what another took the place of gone")
    assert old(other, 2) == were[1] and (as_of("acme", 2), as_of("buyer", 2)) == (410, 200)
    # What is over for all others is kept of the one that keeps more; what is gone stays unknown.
    system.database.sql("UPDATE device_history h SET valid_from = valid_from - interval '4 years' FROM device d WHERE h.device_id = d.device_id AND d.ueid = ANY (%s)",
                        ([d.ueid for d in pair],))
    assert system.patch(other, "buyer", legal_hold=None).status_code == 200
    system.database.sql("UPDATE tenant_history SET at = '-infinity' WHERE tenant_id = (SELECT tenant_id FROM tenant WHERE id = 'buyer');"
                        " UPDATE device_history_usual SET at = now() - interval '8 years'")
    await_true(lambda: system.database.one("SELECT at > now() - interval '6 years' FROM device_history_usual"), "the settings' time applied")
    looked(system)
    assert old(other, 6) == were[1] and as_of("buyer", 6.5) == 200
    assert keep(system, "acme", {"history_s": None}).status_code == 200
    assert (as_of("acme", 2), as_of("acme", 0.5)) == (410, 200)
    assert keep(system, "buyer", {"history_s": None}).status_code == 200
    assert (as_of("buyer", 6.5), as_of("buyer", 2)) == (410, 200)


WRONG = [1, "x", [], {}, {"quiet": 86400}, {"quiet_s": 86400, "by": "me"}] + [
    {member: value} for member in ("quiet_s", "sections_s", "history_s")
    for value in (0, -1, 86399, 1576800001, 86400.5, 1e-300, 1e300, 2**62, 2**63 - 1, -2**63, True, False, "", "86400", "1d", [86400], {})]


def test_who_may_say_and_what(system):
    first = system.ask("/v1/tenants/acme")
    usual = {"quiet_s": None, "sections_s": None, "history_s": None}
    assert first.json()["retention"] == usual
    events = [e for e in system.events("acme") if e["type"] == "tenant.retention"]
    for wrong in WRONG:
        answer = keep(system, "acme", wrong)
        assert (answer.status_code, answer.json()["type"]) == (400, "urn:fleetstate:problem:bad-body"), wrong
        assert (next(iter(wrong)) if isinstance(wrong, dict) and wrong else "retention") in answer.json()["detail"] or "there is no" in answer.json()["detail"], answer.json()
    for number in "9223372036854775808", "-9223372036854775809", "1e400", "NaN", "0x15180":
        answer = system.ask("/v1/tenants/acme", "operator", "PATCH", {"Content-Type": "application/json"}, data='{"retention": {"quiet_s": %s}}' % number)
        assert answer.status_code == 400, number
    right = {"quiet_s": 2 * DAY}
    for token, path, status in (("acme", "acme", 403), ("viewer", "acme", 403), ("buyer", "acme", 404), ("acme", "buyer", 404), ("operator", "nobody", 404)):
        for value in right, None, usual:
            assert keep(system, path, value, token).status_code == status, (token, path, value)
    # Nor along with what an administrator may.
    assert system.ask("/v1/tenants/acme", "acme", "PATCH", json={"legal_hold": {"reason": "x"}, "retention": right}).status_code == 403
    assert keep(system, "acme", right, **{"If-Match": '"99"'}).status_code == 412
    with psycopg2.connect(system.database.uri("fleetstate_ingest")) as db, db.cursor() as c, pytest.raises(psycopg2.errors.InsufficientPrivilege):
        c.execute("SELECT tenant_change('acme', %s, 'x', NULL)", (json.dumps({"retention": right}),))
    with psycopg2.connect(system.database.uri("fleetstate_api")) as db, db.cursor() as c:
        c.execute("SELECT tenant_change('acme', %s, 'x', NULL)", (json.dumps({"retention": right}),))
        assert c.fetchone() == (False,), "nobody signed in"
    assert system.get("/v1/tenants/acme") == first.json()
    assert [e for e in system.events("acme") if e["type"] == "tenant.retention"] == events

    said = keep(system, "acme", right, **{"If-Match": first.headers["ETag"]})
    assert (said.status_code, said.json()["retention"]) == (200, {**usual, **right}) and system.get("/v1/tenants/acme")["retention"] == {**usual, **right}
    assert keep(system, "acme", right, **{"If-Match": first.headers["ETag"]}).status_code == 412
    assert keep(system, "acme", right).headers["ETag"] == said.headers["ETag"], "the same again"
    assert system.get("/v1/tenants/buyer", "buyer")["retention"] == usual
    assert keep(system, "acme", {"history_s": 1576800000, "quiet_s": None}).json()["retention"] == {**usual, "history_s": 1576800000}
    # An administrator's hold leaves it alone.
    assert system.ask("/v1/tenants/acme", "acme", "PATCH", json={"legal_hold": {"reason": "x"}}).json()["retention"]["history_s"] == 1576800000
    assert keep(system, "acme", None).json()["retention"] == usual
    assert system.ask("/v1/tenants/acme", "acme", "PATCH", json={"legal_hold": None}).json()["retention"] == usual

    cli = system.database.cli
    cli("tenant", "retention", "acme", "--quiet", "1d", "--sections", "48h", "--history", "90000")
    assert system.get("/v1/tenants/acme")["retention"] == {"quiet_s": DAY, "sections_s": 2 * DAY, "history_s": 90000}
    cli("tenant", "retention", "acme", "--sections", "usual")
    assert "90000" in cli("tenant", "list") and system.get("/v1/tenants/acme")["retention"]["sections_s"] is None
    for words, status in (([], 2), (["--quiet", "x"], 2), (["--quiet", "-1d"], 2), (["--quiet", "1w"], 2), (["--quiet", "1dd"], 2), (["--quiet", ""], 2),
                          (["--quiet", "+1d"], 2), (["--quiet", "999999999999999999d"], 2), (["--release"], 2)):
        cli("tenant", "retention", "acme", *words, status=status)
    for words in (["--quiet", "23h"], ["--history", "18251d"]):
        cli("tenant", "retention", "acme", *words, status=1)
    cli("tenant", "retention", "nobody", "--quiet", "1d", status=1)
    cli("tenant", "retention", "acme", "--quiet", "usual", "--history", "usual")
    await_true(lambda: [e["data"] for e in system.events("acme") if e["type"] == "tenant.retention"][-1:] and
               [{k: v for k, v in e["data"].items() if k != "by"} for e in system.events("acme") if e["type"] == "tenant.retention"][len(events):] == [
        {**usual, **right}, {**usual, "history_s": 1576800000}, usual, {"quiet_s": DAY, "sections_s": 2 * DAY, "history_s": 90000},
        {**usual, "quiet_s": DAY, "history_s": 90000}, usual], "the feed telling all of it")
    assert any(e["target"].startswith("/v1/tenants/acme") and e["method"] == "PATCH" and e["who"] == "the operator" for e in system.get("/v1/audit?kind=change&limit=1000")["items"])


def test_leaves_are_kept_as_far_back_as_any_report(system, pair):
    mine, _ = pair
    assert system.patch(mine, "acme", legal_hold={"reason": "x"}).status_code == 200
    with psycopg2.connect(system.database.uri("fleetstate_owner")) as db, db.cursor() as c:
        for number, days in (30000, 2000), (60000, 1900), (60100, 0):
            c.execute("INSERT INTO checkpoint (number, made_at, devices, root, sha256, message, next_due) SELECT %s, made_at - make_interval(days => %s), devices, root, sha256,"
                      " message, next_due FROM checkpoint WHERE number = (SELECT max(number) FROM checkpoint WHERE number < 30000)", (number, days))
            c.execute("INSERT INTO checkpoint_leaf (number, place, device_id, tenant_id, ueid, epoch, seq, head, received_at)"
                      " SELECT %s, 0, device_id, tenant_id, ueid, %s, 1, sha256(''), now() FROM device WHERE ueid = %s AND lifecycle <> 'transferred'", (number, 1, mine.ueid))
        c.execute("INSERT INTO device_kept (device_id, tenant_id, sections, since) SELECT device_id, tenant_id, true, now() - interval '1950 days' FROM device WHERE ueid = %s", (mine.ueid,))

    def left():
        return [n for [n] in system.database.sql("SELECT DISTINCT number FROM checkpoint_leaf WHERE number IN (30000, 60000) ORDER BY 1")]

    await_true(lambda: left() == [60000], "what no report is of gone")
    looked(system)
    assert left() == [60000]
    assert system.patch(mine, "acme", legal_hold=None).status_code == 200
    await_true(lambda: left() == [], "the other too, once nothing is kept")
    # Numbers have no gaps, as others look.
    gone = "".join(f"DELETE FROM {table} WHERE number >= 30000;" for table in ("checkpoint_node", "checkpoint_leaf", "checkpoint"))
    system.database.sql("LOCK TABLE checkpoint IN SHARE ROW EXCLUSIVE MODE;" + gone)
