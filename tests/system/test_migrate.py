"""A database belongs to one line of migrations: what was applied there is what the program carries, or nothing is touched."""

import contextlib
import copy
import hashlib
import re
import subprocess
import threading

import psycopg2
import pytest

from parts import BIN, ROOT, Database, await_true

LAST = max(int(path.name[:3]) for path in (ROOT / "schema/sql").glob("0*.sql"))


@pytest.fixture(scope="module")
def database(tmp_path_factory):
    directory = tmp_path_factory.mktemp("migrate")
    directory.chmod(0o777)
    database = Database(directory, "fsync=off", migrated=False)
    yield database
    database.stop()


@pytest.fixture
def earlier(database, request):
    """Another database in the cluster, which the program of version 39 made, or of another."""
    other = copy.copy(database)
    other.name, other.idle = "earlier", []
    with contextlib.closing(psycopg2.connect(database.uri("postgres", "postgres"))) as db:
        db.autocommit = True
        db.cursor().execute("CREATE DATABASE earlier OWNER fleetstate_owner")
        other.sql("CREATE SCHEMA fleetstate; GRANT USAGE ON SCHEMA fleetstate TO fleetstate_ingest, fleetstate_api;"
                  " CREATE TABLE fleetstate.schema_version (version int PRIMARY KEY, applied_at timestamptz NOT NULL DEFAULT now(), sha256 bytea)", None)
        for path in sorted((ROOT / "schema/sql").glob("0*.sql"))[:getattr(request, "param", 39)]:
            other.sql("SET LOCAL search_path = fleetstate, pg_catalog;" + path.read_text(), None)
            other.sql("INSERT INTO schema_version (version, sha256) VALUES (%s, %s)", (int(path.name[:3]), hashlib.sha256(path.read_bytes()).digest()))
        yield other
        other.disconnect()
        db.cursor().execute("DROP DATABASE earlier WITH (FORCE)")


def migrate(database):
    done = subprocess.run([BIN / "fleetstate", "--database", database.uri("fleetstate_owner"), "migrate"], capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr


def test_once_and_again(database):
    for _ in range(2):
        status, said = migrate(database)
        assert status == 0 and re.search(rf"\b{LAST}\b", said), said
        assert database.sql("SELECT version FROM schema_version ORDER BY 1") == [(n,) for n in range(1, LAST + 1)]


@pytest.mark.parametrize("change, back, said", [
    ("UPDATE schema_version SET sha256 = sha256('x') WHERE version = 3", "UPDATE schema_version SET sha256 = %s WHERE version = 3", "version 3 of the database was made by another line"),
    ("UPDATE schema_version SET sha256 = NULL WHERE version = 3", "UPDATE schema_version SET sha256 = %s WHERE version = 3", "version 3 of the database was made by another line"),
    (f"INSERT INTO schema_version VALUES ({LAST + 1}, now(), 'x')", f"DELETE FROM schema_version WHERE version > {LAST} AND %s IS NOT NULL", "newer than this program's"),
    ("UPDATE schema_version SET version = -3 WHERE version = 3", "UPDATE schema_version SET version = 3 WHERE version = -3 AND %s IS NOT NULL", "version -3 of the database was made by another line"),
])
def test_another_lines_database_is_left_alone(database, change, back, said):
    assert migrate(database)[0] == 0
    was = database.one("SELECT sha256 FROM schema_version WHERE version = 3")
    database.sql(change)
    rows = database.sql("SELECT * FROM schema_version ORDER BY version")
    try:
        status, text = migrate(database)
        assert status != 0 and said in text, text
        assert database.sql("SELECT * FROM schema_version ORDER BY version") == rows
    finally:
        database.sql(back, (was,))
    assert migrate(database)[0] == 0


DEVICES = """
INSERT INTO tenant (id, name) VALUES ('acme', 'Acme'), ('globex', 'Globex');
INSERT INTO device (tenant_id, ueid, lifecycle, posture, hwmodel, swversion)
SELECT tenant_id, '\\x01'::bytea || substr(sha256((id || i)::bytea), 1, 16), (ARRAY['active', 'active', 'active', 'pending', 'retired'])[1 + i % 5],
	(ARRAY['operational', 'degraded', 'silent', 'unknown', 'untrusted'])[1 + i / 5 % 5], (ARRAY['a', 'b', '', NULL])[1 + i / 25 % 4], (ARRAY['1', '2', NULL])[1 + i / 100 % 3]
FROM tenant, generate_series(1, 1500) i;
UPDATE device SET posture = 'silent' WHERE device_id % 3 = 0;
UPDATE device SET lifecycle = 'deleted', deleted_at = now() WHERE device_id % 11 = 0;
"""
COUNTED = """SELECT tenant_id, kind, lifecycle, value, count(*)::int FROM device,
	LATERAL (VALUES ('posture', posture, true), ('model', coalesce(hwmodel, ''), lifecycle = 'active'), ('firmware', coalesce(swversion, ''), lifecycle = 'active')) v (kind, value, counts)
	WHERE v.counts AND deleted_at IS NULL GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4"""
TALLIED = "SELECT tenant_id, kind, lifecycle, value, sum(n)::int FROM fleet_tally GROUP BY 1, 2, 3, 4 HAVING sum(n) <> 0 ORDER BY 1, 2, 3, 4"


def test_what_is_counted_is_counted_on_while_devices_change(earlier):
    with contextlib.closing(psycopg2.connect(earlier.uri("fleetstate_owner"))) as writer, writer.cursor() as c:
        c.execute(DEVICES)
        writer.commit()
        assert len(earlier.sql("SELECT DISTINCT lifecycle, posture, hwmodel, swversion FROM fleet_count")) > 100
        c.execute("UPDATE device SET posture = 'untrusted', hwmodel = 'c' WHERE device_id % 7 = 0")
        done = []
        migration = threading.Thread(target=lambda: done.append(migrate(earlier)))
        migration.start()
        await_true(lambda: earlier.one("SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'device'::regclass"), "the migration to wait for who began before")
        c.execute("UPDATE device SET swversion = '3' WHERE device_id % 5 = 0")
        writer.commit()
        while migration.is_alive():
            for posture in "operational", "degraded":
                c.execute("UPDATE device SET posture = %s WHERE device_id %% 13 = 0", (posture,))
            writer.commit()
        migration.join()
    assert done[0][0] == 0, done
    counted = earlier.sql(COUNTED)
    assert earlier.sql(TALLIED) == counted
    assert earlier.sql("SELECT tenant_id, lifecycle, posture, sum(n)::int FROM fleet_count GROUP BY 1, 2, 3 HAVING sum(n) <> 0 ORDER BY 1, 2, 3") == [
        (tenant, lifecycle, value, n) for tenant, kind, lifecycle, value, n in counted if kind == "posture"]
    earlier.sql("SELECT fold_fleet_count()")
    assert earlier.sql(TALLIED) == counted and earlier.one("SELECT count(*) FROM fleet_tally") == len(counted)


@pytest.mark.parametrize("earlier", [38], indirect=True)
@pytest.mark.parametrize("table, then", [("component", "UPDATE device SET hwmodel = 'c'"), ("device_words", "SELECT count(*) FROM component"), ("component", "SELECT count(*) FROM device_words")])
def test_who_has_one_table_may_have_another_while_an_index_of_either_goes(earlier, table, then):
    earlier.sql(DEVICES, None)
    with contextlib.closing(psycopg2.connect(earlier.uri("fleetstate_owner"))) as other, other.cursor() as c:
        c.execute(f"LOCK TABLE {table} IN ROW EXCLUSIVE MODE" if then.startswith("UPDATE") else f"SELECT count(*) FROM {table}")
        done = []
        migration = threading.Thread(target=lambda: done.append(migrate(earlier)))
        migration.start()
        await_true(lambda: earlier.one("SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = %s::regclass", (table,)), "the migration to wait")
        c.execute(then)
        other.commit()
        migration.join()
    assert done[0][0] == 0, done


@pytest.mark.parametrize("earlier, function", [(41, "add_token"), (43, "predicate_fault")], indirect=["earlier"])
def test_a_function_is_not_changed_unless_it_is_as_it_was(earlier, function):
    definition = f"pg_get_functiondef('{function}'::regproc)"
    earlier.sql(rf"DO $do$ BEGIN EXECUTE regexp_replace({definition}, '\y(IF|FOR)\y', '\1 ', 'g'); END $do$", None)
    was = earlier.sql(f"SELECT {definition}, max(version) FROM schema_version")
    status, said = migrate(earlier)
    assert status != 0 and f"{function} is not as it was" in said, said
    assert earlier.sql(f"SELECT {definition}, max(version) FROM schema_version") == was
