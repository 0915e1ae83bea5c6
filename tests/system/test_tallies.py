"""What the fleet is counted by: the same as counting its devices, whatever becomes of one, whoever folds meanwhile; and in no more rows than are asked for."""

import contextlib
import itertools
import threading

import psycopg2
import pytest

from test_api import Api

DEVICES = 600
POSTURES = ("untrusted", "silent", "degraded", "unknown", "operational")
LIFECYCLES = ("pending", "active", "retired", "revoked", "transferred")
ONE = "ueid = (SELECT ueid FROM device WHERE lifecycle = 'active' AND tenant_id = (SELECT tenant_id FROM tenant WHERE id = 'acme') ORDER BY device_id LIMIT 1)"


@pytest.fixture(scope="module")
def api(tmp_path_factory):
    directory = tmp_path_factory.mktemp("tallies")
    directory.chmod(0o777)
    api = Api(directory, DEVICES, told=False)
    yield api
    api.close()


def counted(cursor):
    """Each tenant's tallies, from the devices themselves."""
    found = {}
    for kind, column, condition in (("posture", "posture", "true"), ("model", "hwmodel", "lifecycle = 'active'"), ("firmware", "swversion", "lifecycle = 'active'")):
        cursor.execute(f"SELECT t.id, d.lifecycle, coalesce(d.{column}, ''), count(*) FROM device d JOIN tenant t USING (tenant_id)"
                       f" WHERE deleted_at IS NULL AND {condition} GROUP BY 1, 2, 3")
        found |= {(tenant, kind, lifecycle, value): n for tenant, lifecycle, value, n in cursor.fetchall()}
    return found


def tallied(cursor):
    cursor.execute("SELECT t.id, f.kind, f.lifecycle, f.value, sum(f.n)::int FROM fleet_tally f JOIN tenant t USING (tenant_id) GROUP BY 1, 2, 3, 4 HAVING sum(f.n) <> 0")
    return {tuple(key): n for *key, n in cursor.fetchall()}


def rows(cursor):
    cursor.execute("SELECT count(*) FROM fleet_tally")
    return cursor.fetchone()[0]


def asked(api, tenant):
    """The same from the summary."""
    answer = api.get("/v1/fleet", tenant)
    found = {(tenant, kind, "active", value): n for kind in ("posture", "model", "firmware") for value, n in answer[kind].items() if n}
    return found, answer["total"], answer["lifecycle"]


def check_summary(api, cursor):
    truth = counted(cursor)
    for tenant in "acme", "globex":
        found, total, lifecycles = asked(api, tenant)
        assert found == {key: n for key, n in truth.items() if key[0] == tenant and key[2] == "active"}
        by = {name: sum(n for (owner, kind, lifecycle, _), n in truth.items() if (owner, kind, lifecycle) == (tenant, "posture", name)) for name in LIFECYCLES}
        assert (total, lifecycles) == (by["active"], by)


@pytest.fixture
def cursor(api):
    """What the test does not commit is undone."""
    with contextlib.closing(psycopg2.connect(api.db.uri("fleetstate_owner"))) as db, db.cursor() as c:
        yield c


@pytest.fixture
def put_back(api):
    """What the test commits is undone after it."""
    api.db.sql("CREATE TABLE public.device_before AS SELECT device_id, lifecycle, posture, hwmodel, swversion FROM device")
    yield
    api.db.sql("UPDATE device d SET lifecycle = b.lifecycle, posture = b.posture, hwmodel = b.hwmodel, swversion = b.swversion FROM public.device_before b"
               " WHERE b.device_id = d.device_id; DROP TABLE public.device_before")


# What becomes of devices, and how many rows it may take at most to say so.
CHANGES = {
    "posture": (f"UPDATE device SET posture = 'untrusted' WHERE {ONE}", 2),
    "postures of many": ("UPDATE device SET posture = 'silent' WHERE lifecycle = 'active'", 2 * 5),
    "firmware": (f"UPDATE device SET swversion = '9' WHERE {ONE}", 2),
    "no firmware known": (f"UPDATE device SET swversion = NULL WHERE {ONE}", 2),
    "no model known": (f"UPDATE device SET hwmodel = NULL WHERE {ONE}", 2),
    "an empty model": (f"UPDATE device SET hwmodel = '' WHERE {ONE}", 2),
    "all at once": (f"UPDATE device SET posture = 'unknown', hwmodel = 'm', swversion = 'f' WHERE {ONE}", 6),
    "retired": (f"UPDATE device SET lifecycle = 'retired' WHERE {ONE}", 4),
    "approved": ("UPDATE device SET lifecycle = 'active' WHERE lifecycle = 'pending'", 2 * (5 + 5 + 3 + 4)),
    "another tenant": (f"UPDATE device SET tenant_id = (SELECT tenant_id FROM tenant WHERE id = 'globex') WHERE {ONE}", 6),
    "deleted": (f"UPDATE device SET lifecycle = 'deleted', deleted_at = now(), posture = 'unknown', hwmodel = NULL, swversion = NULL WHERE {ONE}", 3),
    "enrolled": ("INSERT INTO device (tenant_id, ueid, lifecycle, hwmodel) SELECT tenant_id, '\\x01'::bytea || substr(sha256(id::bytea), 1, 16), 'active', 'model-1' FROM tenant", 2 * 3),
    "registered": ("INSERT INTO device (tenant_id, ueid, lifecycle, hwmodel) SELECT tenant_id, '\\x01'::bytea || substr(sha256(id::bytea), 1, 16), 'pending', 'model-1' FROM tenant", 2),
    "removed": (f"DELETE FROM device_hot; DELETE FROM device WHERE {ONE}", 3),
    "a label": (f"UPDATE device SET labels = '{{site=x}}' WHERE {ONE}", 0),
    "the posture that it had": (f"UPDATE device SET posture = posture WHERE {ONE}", 0),
    "nobody": ("UPDATE device SET posture = 'untrusted' WHERE false", 0),
    "undone": (f"SAVEPOINT s; UPDATE device SET posture = 'untrusted' WHERE {ONE}; ROLLBACK TO s", 0)}


@pytest.mark.parametrize("name", CHANGES)
def test_what_is_tallied_is_what_counting_devices_says(cursor, name):
    change, most = CHANGES[name]
    cursor.execute("SELECT fold_fleet_count()")
    before, was = rows(cursor), tallied(cursor)
    cursor.execute(change)
    assert rows(cursor) <= before + most
    for _ in range(2):
        assert tallied(cursor) == counted(cursor) and (tallied(cursor) == was) == (most == 0)
        cursor.execute("SELECT fold_fleet_count()")
    assert rows(cursor) == len(counted(cursor))


def test_no_more_rows_than_values(api, cursor, put_back):
    """However many models there are with however many firmwares in however many postures."""
    cursor.execute("UPDATE device SET hwmodel = 'model-' || device_id %% 20, swversion = '2.' || device_id / 20 %% 10, posture = (%s::text[])[1 + device_id / 200 %% 5]", (list(POSTURES),))
    cursor.execute("SELECT fold_fleet_count()")
    assert rows(cursor) <= 2 * (20 + 10 + 2 * len(POSTURES))
    cursor.connection.commit()
    check_summary(api, cursor)


def test_the_most_frequent_come_first_and_no_more_than_a_thousand(api, cursor):
    cursor.execute("INSERT INTO device (tenant_id, ueid, lifecycle, hwmodel, swversion) SELECT tenant_id, '\\x01'::bytea || substr(sha256(('n' || i)::bytea), 1, 16), 'active',"
                   " 'new-' || i, 'often' FROM tenant, generate_series(1, 1200) i WHERE id = 'globex'")
    cursor.connection.commit()
    answer = api.get("/v1/fleet", "globex")
    for kind in "model", "firmware":
        whole = {value: n for (tenant, of, _, value), n in counted(cursor).items() if (tenant, of) == ("globex", kind)}
        assert list(answer[kind].items()) == sorted(whole.items(), key=lambda pair: (-pair[1], pair[0]))[:1000]
    assert len(answer["model"]) == 1000 and answer["firmware"]["often"] == 1200
    cursor.execute("DELETE FROM device WHERE swversion = 'often'")
    cursor.connection.commit()
    check_summary(api, cursor)


def test_each_device_is_seen_once_whoever_folds(api, cursor, put_back):
    """Writers change devices and some think better of it, others fold, meanwhile somebody reads."""
    check_summary(api, cursor)
    cursor.connection.commit()
    whole = sum(api.get("/v1/fleet")["lifecycle"].values())
    done, faults, folds, reads = threading.Event(), [], itertools.count(), 0

    @contextlib.contextmanager
    def fault():
        try:
            yield
        except BaseException as e:
            faults.append(e)
            done.set()

    def write(mine):
        with fault(), contextlib.closing(psycopg2.connect(api.db.uri("fleetstate_owner"))) as db, db.cursor() as c:
            for i in range(200):
                c.execute("UPDATE device SET posture = (%s::text[])[1 + (device_id + %s) %% 5], lifecycle = (ARRAY['active', 'retired'])[1 + (device_id + %s) %% 2],"
                          " hwmodel = 'model-' || (device_id + %s) %% 7 WHERE device_id %% 2 = %s AND device_id %% 17 = %s", (list(POSTURES), i, i, i, mine, i % 17))
                db.rollback() if i % 5 == 0 else db.commit()

    def fold():
        with fault(), contextlib.closing(psycopg2.connect(api.db.uri("fleetstate_owner"))) as db, db.cursor() as c:
            while not done.is_set():
                c.execute("SELECT fold_fleet_count()")
                db.rollback() if next(folds) % 7 == 0 else db.commit()

    writers = [threading.Thread(target=write, args=(i,)) for i in range(2)]
    folders = [threading.Thread(target=fold) for _ in range(2)]
    for thread in writers + folders:
        thread.start()
    with fault():
        while any(thread.is_alive() for thread in writers):
            fleet = api.get("/v1/fleet")
            assert sum(fleet["lifecycle"].values()) == whole
            assert {fleet["total"]} == {fleet["lifecycle"]["active"], *(sum(fleet[kind].values()) for kind in ("posture", "model", "firmware"))}
            reads += 1
    done.set()
    for thread in writers + folders:
        thread.join()
    assert faults == [] and reads > 0 and next(folds) > 0
    for _ in range(2):
        check_summary(api, cursor)
        api.db.sql("SELECT fold_fleet_count()")


def test_what_is_counted_is_not_a_callers_to_change(api):
    for statement in ("INSERT INTO fleet_tally SELECT * FROM fleet_tally", "DELETE FROM fleet_tally", "UPDATE fleet_tally SET n = n + 1", "UPDATE fleet_count SET n = n + 1"):
        for role in "fleetstate_api", "fleetstate_ingest":
            with pytest.raises(psycopg2.errors.InsufficientPrivilege):
                api.db.sql(statement, role=role)
