"""The unit tests that want a database: they get a real one."""

import os
import subprocess

from parts import BIN, Database


def test_keyring(tmp_path):
    database = Database(tmp_path, "fsync=off")
    try:
        done = subprocess.run([BIN / "unit/test_keyring"], env={**os.environ, "FLEETSTATE_TEST_DATABASE": database.uri("fleetstate_owner")},
                              capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "SKIPPED" not in done.stderr + done.stdout, done.stderr
    finally:
        database.stop()
