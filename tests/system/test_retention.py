"""Retention: days of reports go when their time is over and a checkpoint speaks for them, and an audit still knows what there was."""

import json

import psycopg2
import pytest

from ingesting import System, await_true

HORIZON = 8  # what is aged of the device's twelve reports, of which with sections are 1, 5 and 10
FULL = {1, 5, 10}


@pytest.fixture(scope="module")
def system(tmp_path_factory):
    system = System(tmp_path_factory.mktemp("retention"), postgres=["fsync=off"], checkpoint_interval="1s", audit_retention="1d")
    yield system
    system.close()


@pytest.fixture(scope="module")
def device(system):
    """The quiet ones of a day are past their retention, and gone."""
    device = system.device()
    device.other = device.full(meta={"interval": 299}, keep=True)
    device.messages = {seq: device.full() if seq in FULL else device.quiet() for seq in range(1, 13)}
    for message in device.messages.values():
        device.publish(message)
    system.await_stored(device, 12)
    age(system, "report_full", 100, HORIZON)
    age(system, "report_quiet", 100, HORIZON)
    await_true(lambda: seqs(system, device) == FULL | set(range(HORIZON + 1, 13)), "the quiet ones of that day gone")
    return device


AGE = """
    DO $$ BEGIN
        CREATE TABLE {table}_old PARTITION OF {table} FOR VALUES FROM ('{begin}') TO ('{end}');
        ALTER TABLE {table}_old ENABLE ROW LEVEL SECURITY;
        ALTER TABLE {table}_old FORCE ROW LEVEL SECURITY;
        UPDATE {table} SET received_at = timestamptz '{begin}' + interval '1 hour' + seq * interval '1 second' WHERE seq <= {seq};
    END $$"""


def age(system, table, days, seq, c=None):
    """As if all up to seq had come that many days ago."""
    begin, end = system.database.sql("SELECT date_trunc('day', now()) - %s * interval '1 day', date_trunc('day', now()) - %s * interval '1 day'", (days, days - 1))[0]
    text = AGE.format(table=table, begin=begin, end=end, seq=seq)
    c.execute(text) if c else system.database.sql(text)


def seqs(system, device):
    return {seq for _, seq, _ in system.stored(device)}


def audit(system, *words, status=0):
    lines = [json.loads(line) for line in system.database.cli("audit", "--json", *words, status=status).splitlines()]
    total = lines.pop()
    assert total["findings"] == len(lines)
    return total, [(line["finding"], line["first"], line["last"]) for line in lines]


def test_quiet_reports_go_and_those_with_sections_stay(system, device):
    assert system.database.one("SELECT to_regclass('report_quiet_old') IS NULL AND to_regclass('report_full_old') IS NOT NULL")
    total, found = audit(system, "--device", device.ueid.hex())
    assert found == [] and total["expired"] == HORIZON - 2 and total["reports"] == len(seqs(system, device)) == 6
    assert f" {HORIZON - 2} more expired by retention" in system.database.cli("audit", "--device", device.ueid.hex())
    assert audit(system)[1] == []


def test_what_is_gone_is_a_duplicate_when_it_comes_again(system, device):
    before = system.epoch(device)
    device.publish(device.messages[3])
    await_true(lambda: system.epoch(device)[0] == before[0] + 1, "the duplicate counted")
    assert 3 not in seqs(system, device) and system.epoch(device)[2] == 0
    assert audit(system)[1] == []


@pytest.mark.parametrize("change,expected", [
    ("DELETE FROM report_quiet WHERE seq = 9", [("missing", 9, 9)]),
    ("DELETE FROM report_full WHERE seq = 5", [("missing", 1, HORIZON)]),
    ("DELETE FROM report_quiet WHERE seq = 12", [("tail", 12, 12)]),
    ("UPDATE report_expired SET sha256 = sha256('')", [("chain", HORIZON + 1, HORIZON + 1)]),
    ("UPDATE report_expired SET n = n - 1", [("missing", 1, HORIZON)]),
    ("UPDATE report_full SET message = %(other)s, sha256 = sha256(%(other)s) WHERE seq = 1", [("chain", 5, 5)]),  # signed too, and not what 5 follows
    ("DELETE FROM report_expired", [("missing", 2, 4), ("missing", 6, 8)]),
])
def test_nobody_hides_behind_retention(system, device, change, expected):
    db = psycopg2.connect(system.database.uri("fleetstate_owner"))
    db.autocommit = True
    c = db.cursor()
    tables = ("report_quiet", "report_full", "report_expired")
    for table in tables:
        c.execute(f"CREATE TABLE public.{table}_saved AS SELECT * FROM {table}")
    try:
        c.execute(change, {"other": device.other})
        found = [f for f in audit(system, status=1)[1] if f[0] != "beyond"]
        assert set(expected) <= set(found), found
    finally:
        for table in tables:
            c.execute(f"DELETE FROM {table}; INSERT INTO {table} SELECT * FROM public.{table}_saved; DROP TABLE public.{table}_saved")
        db.close()


def test_a_whole_device_past_its_retention(system):
    """All of it is gone, and the head that is kept still holds the next report to its predecessor."""
    device = system.device()
    for message in (device.full(), device.quiet(), device.quiet()):
        device.publish(message)
    system.await_stored(device, 3)
    row = system.database.sql("SELECT device_id FROM device WHERE ueid = %s", (device.ueid,))[0]
    with psycopg2.connect(system.database.uri("fleetstate_owner")) as db, db.cursor() as c:
        for table in ("report_quiet", "report_full"):
            c.execute(f"CREATE TABLE {table}_older PARTITION OF {table} FOR VALUES FROM ('2010-01-01Z') TO ('2010-01-02Z')")
            c.execute(f"UPDATE {table} SET received_at = '2010-01-01T12:00Z' WHERE device_id = %s", row)
    await_true(lambda: not system.stored(device), "all of it gone")
    total, found = audit(system, "--device", device.ueid.hex())
    assert found == audit(system)[1] == [] and total["expired"] == 3
    device.publish(device.quiet())
    system.await_stored(device, 1)
    assert system.epoch(device)[3] == 0 and audit(system)[1] == []


def expire(c, sections, uncovered):
    c.execute("SELECT partition, busy FROM expire_reports(%s, '90 days', %s)", (sections, uncovered))
    return c.fetchone()


def test_never_without_a_checkpoint_unless_told(system, device):
    with psycopg2.connect(system.database.uri("fleetstate_owner")) as db, db.cursor() as c:
        age(system, "report_quiet", 95, 9, c)
        c.execute("UPDATE checkpoint SET made_at = made_at - interval '200 days'")
        assert expire(c, False, False) == (None, False)
        assert expire(c, False, True) == ("report_quiet_old", False)
        db.rollback()


def test_what_is_in_use_waits_and_holds_nobody_up_for_long(system):
    device = system.device()
    for message in device.full(), device.quiet():
        device.publish(message)
    system.await_stored(device, 2)
    await_true(lambda: system.database.one("SELECT count(*) FROM checkpoint"), "a checkpoint, before which no partition goes")
    db, reader = (psycopg2.connect(system.database.uri("fleetstate_owner")) for _ in range(2))
    with db.cursor() as c, reader.cursor() as r:
        c.execute("SELECT pg_advisory_lock(8259, 15)")  # keeps the collector from it
        age(system, "report_quiet", 95, 2, c)
        db.commit()
        r.execute("SELECT count(*) FROM report_quiet")  # as a dump does, for hours
        assert expire(c, False, False) == (None, True)
        db.commit()
        assert seqs(system, device) == {1, 2}
        reader.rollback()
        assert expire(c, False, False) == ("report_quiet_old", False)
        db.commit()
    reader.close()
    db.close()
    assert seqs(system, device) == {1} and audit(system)[1] == []


def test_the_audit_logs_first_entries_go(system, device):
    def log(status=0):
        return json.loads(system.database.cli("audit", "--log", "--ca", system.broker.pki / "operator-ca.crt", "--json", status=status).splitlines()[-1])

    for name in "a", "b", "c":
        system.database.cli("tenant", "add", name, name)
    # A collector that asks for less than the owner allows, or whoever has its credentials, gets nothing.
    n = system.database.one("SELECT number FROM audit_head")
    with psycopg2.connect(system.database.uri("fleetstate_ingest")) as captured:
        cursor = captured.cursor()
        for keep in "0", "-1000 years", "89 days":
            cursor.execute("SELECT expire_audit(%s, true)", (keep,))
            assert cursor.fetchone() == (0,)
        with pytest.raises(psycopg2.errors.InsufficientPrivilege):
            cursor.execute("UPDATE audit_head SET kept_least = '1 day'")
    system.database.sql("UPDATE audit SET time = now() - interval '25 hours' WHERE number <= %s", (n - 2,))
    assert log() == {"entries": n, "expired": 0, "findings": 0}
    system.database.sql("UPDATE audit_head SET kept_least = '1 day'")
    await_true(lambda: system.database.one("SELECT gone FROM audit_head") == n - 2, "the oldest gone")
    for name in "e", "f", "g":
        system.database.cli("tenant", "add", name, name)
    n = system.database.one("SELECT number FROM audit_head")
    # The third from the last is older than what is before it; the last two are young. In one statement: the collector may look after any.
    system.database.sql("UPDATE audit SET time = now() - interval '25 hours' WHERE number <= %s AND number <> %s", (n - 2, n - 3))
    await_true(lambda: system.database.one("SELECT gone FROM audit_head") == n - 4, "the oldest gone")
    assert system.database.sql("SELECT min(number), max(number) FROM audit") == [(n - 3, n)]
    assert log() == {"entries": 4, "expired": n - 4, "findings": 0}
    system.database.cli("tenant", "add", "d", "d")
    assert log()["entries"] == 5, "it goes on"
    # What somebody drops beyond that, or says was dropped, is found. The collector drops nothing meanwhile.
    system.database.sql("UPDATE audit_head SET kept_least = '90 days'")
    system.database.sql("DELETE FROM audit WHERE number = %s", (n - 3,))
    log(status=1)
    system.database.sql("UPDATE audit_head SET gone = %s", (n - 3,))
    log(status=1)


def test_what_a_device_was_goes_once_another_took_its_place(system):
    """What was over five years ago goes; what began before then and was not over stays, also of a device that never changed."""
    def history(device):
        return [label for (label,) in system.database.sql(
            "SELECT h.labels[1] FROM device_history h JOIN device d USING (device_id) WHERE d.ueid = %s ORDER BY h.valid_from, h.history_id", (device.ueid,))]

    def age(device, label, years):
        """All rows of the device up to the one with that label."""
        system.database.sql("UPDATE device_history h SET valid_from = now() - make_interval(years => %s) FROM device d WHERE d.ueid = %s AND h.device_id = d.device_id"
                            " AND h.history_id <= (SELECT max(x.history_id) FROM device_history x WHERE x.device_id = h.device_id AND x.labels = ARRAY[%s])",
                            (years, device.ueid, label))

    changed, unchanged = system.device(), system.device()
    for device in changed, unchanged:
        device.publish(device.full())
        await_true(lambda: system.stored(device), "its report")
        for label in ("a=1", "b=2", "c=3", "d=4") if device is changed else ("a=1",):
            system.database.sql("UPDATE device SET labels = %s WHERE ueid = %s", ([label], device.ueid))
    for label, years in ("c=3", 4), ("b=2", 6), ("a=1", 7):
        age(changed, label, years)
    age(unchanged, "a=1", 7)
    assert history(changed)[-4:] == ["a=1", "b=2", "c=3", "d=4"], "looked at once a day"
    system.database.sql("UPDATE device_history_usual SET at = now() - interval '8 years'")
    await_true(lambda: history(changed) == ["b=2", "c=3", "d=4"], "those of before gone")
    assert history(unchanged) == ["a=1"]
    assert system.database.one("SELECT now() - at BETWEEN interval '1825 days' AND interval '1826 days' FROM device_history_usual"), "before then nothing is known"
