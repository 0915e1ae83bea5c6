"""The whole system as `make run` starts it, in a directory and on ports of its own."""

import os
import shlex
import signal
import subprocess
import time
from pathlib import Path

import psycopg2
import pytest

from parts import BIN, ROOT, Session, free_ports


class Run:
    """A running system. `env` holds what RUN_DIR/env says."""

    def __init__(self, directory, **settings):
        self.directory = Path(directory)
        http, mqtt, collectors = free_ports(3)
        self.settings = dict(RUN_DIR=str(directory), HTTP_PORT=str(http), MQTT_PORT=str(mqtt), MQTT_COLLECTOR_PORT=str(collectors))
        if "FLEETSTATE_BIN" in os.environ:
            self.settings["FLEETSTATE_BIN"] = str(BIN)
        self.settings.update({k: str(v) for k, v in settings.items()})
        self.process = None
        self.env = {}
        self.session = Session()

    def start(self, seconds=240):
        env_file = self.directory / "env"
        env_file.unlink(missing_ok=True)
        self.log = open(self.directory.with_suffix(".log"), "ab")
        self.process = subprocess.Popen(["make", "-s", "-C", str(ROOT), "run"], env={**os.environ, **self.settings},
                                        stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log, start_new_session=True)
        end = time.monotonic() + seconds
        while not env_file.exists():
            if self.process.poll() is not None or time.monotonic() > end:
                pytest.fail("make run does not serve:\n" + self.directory.with_suffix(".log").read_text(errors="replace")[-4000:])
            time.sleep(0.1)
        self.env = dict(line.split("=", 1) for line in shlex.split(env_file.read_text(), comments=True) if "=" in line)
        return self

    def stop(self):
        """As Ctrl-C does; returns the exit status of make."""
        if self.process is None:
            return None
        os.killpg(self.process.pid, signal.SIGINT)
        status = self.process.wait(60)
        self.process = None
        return status

    def sql(self, text, parameters=()):
        """As the cluster's superuser: for what no interface does."""
        with psycopg2.connect(host=self.env["PGHOST"], port=self.env["PGPORT"], dbname=self.env["PGDATABASE"], user=self.env["PGUSER"]) as db:
            with db.cursor() as c:
                c.execute(text, parameters)
                return c.fetchall() if c.description else None

    def ask(self, path, token="FLEETSTATE_TOKEN", **parameters):
        headers = {"Authorization": "Bearer " + self.env[token]} if token else {}
        return self.session.get(self.env["FLEETSTATE_URL"] + path, params=parameters, headers=headers, timeout=30)

    def get(self, path, token="FLEETSTATE_TOKEN", **parameters):
        answer = self.ask(path, token, **parameters)
        assert answer.status_code == 200, f"{path}: {answer.status_code} {answer.text[:500]}"
        return answer.json()

    def items(self, path, token="FLEETSTATE_TOKEN", **parameters):
        """Every item of a list, page by page."""
        parameters.setdefault("limit", 1000)
        while True:
            page = self.get(path, token, **parameters)
            yield from page["items"]
            if page["next"] is None:
                return
            parameters["cursor"] = page["next"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """For one file: kept until the end of all tests, it would take the processor from others for nothing."""
    system = Run(tmp_path_factory.mktemp("run") / "run", DEVICES=25, INTERVAL=2)
    system.start()
    yield system
    system.stop()
