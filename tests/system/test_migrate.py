"""A database belongs to one line of migrations: what was applied there is what the program carries, or nothing is touched."""

import re
import subprocess

import pytest

from parts import BIN, ROOT, Database

LAST = max(int(path.name[:3]) for path in (ROOT / "schema/sql").glob("0*.sql"))


@pytest.fixture(scope="module")
def database(tmp_path_factory):
    directory = tmp_path_factory.mktemp("migrate")
    directory.chmod(0o777)
    database = Database(directory, "fsync=off", migrated=False)
    yield database
    database.stop()


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
