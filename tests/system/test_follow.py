"""An asset system that follows what changes in a living fleet, and is killed time and again, as the collector is, ends with what a whole export says.
FOLLOW_SECONDS makes it as long as one likes."""

import csv
import io
import json
import os
import pathlib
import random
import signal
import subprocess
import sys
import time

import pytest
import requests

from ingesting import System
from parts import BIN, ROOT, await_true, provision

SECONDS = int(os.environ.get("FOLLOW_SECONDS", 12))
DEVICES, MOVING = 60, 6  # those that are sent from tenant to tenant
FOLLOWER = pathlib.Path(__file__).with_name("following.py")
SIM = next(p for p in (ROOT / "build/fleetstate-sim", BIN / "fleetstate-sim") if p.exists())
HEARD = ("last_seen", "seq")  # that a device was heard again is no change


class Follower:
    def __init__(self, system, token, file):
        self.words = [sys.executable, FOLLOWER, system.collector.url, token, file]
        self.token, self.file, self.kills = token, file, 0
        self.start()

    def start(self):
        self.process = subprocess.Popen(self.words)

    def kill(self):
        assert self.process.poll() is None
        self.process.kill()
        self.process.wait()
        self.kills += 1

    def knows(self):
        return json.loads(self.file.read_text())


@pytest.fixture(scope="module")
def system(tmp_path_factory):
    directory = tmp_path_factory.mktemp("follow")
    system = System(directory, postgres=["fsync=off"])
    yield system
    system.close()


@pytest.fixture
def follower(system, tmp_path):
    follower = Follower(system, system.database.cli("token", "add", "--tenant", "acme", "--role", "viewer", "assets"), tmp_path / "state")
    yield follower
    follower.process.kill()
    follower.process.wait()


def whole(system, token):
    answer = requests.get(f"{system.collector.url}/v1/assets?format=csv", headers={"Authorization": "Bearer " + token}, timeout=20)
    assert answer.status_code == 200
    return {row.pop("ueid"): row for row in csv.DictReader(io.StringIO(answer.content.decode(), newline=""))}


def told(rows):
    return {ueid: {name: value for name, value in row.items() if name not in (*HEARD, "gone", "ueid")} for ueid, row in rows.items()}


def test_ends_with_the_whole(system, follower, tmp_path):
    database = system.database
    database.cli("tenant", "add", "globex", "Globex")
    draw = random.Random(7)
    ueids = provision("devices", system.broker.pki, DEVICES)
    listed = tmp_path / "ueids"
    listed.write_text("".join(u + "\n" for u in ueids))
    sim = subprocess.Popen([SIM, f"--devices={DEVICES}", f"--ueids={listed}", f"--pki={system.broker.pki}", f"--state={tmp_path}/sim", "--interval=1",
                            f"--broker=ssl://127.0.0.1:{system.broker.port}", "--life=400", "--backoff-max=1s", "--start-ms=5", "--log-level=error"],
                           stdout=subprocess.DEVNULL)
    owners = {}
    deck, deaths, moved, labelled, end = [], 0, 0, 0, time.monotonic() + SECONDS
    try:
        await_true(lambda: database.one("SELECT count(*) FROM device_state") == DEVICES, "the fleet's first states", 60)
        while time.monotonic() < end or follower.kills < 6 or deck:
            time.sleep(draw.uniform(0.1, 0.6))
            deck = deck or draw.sample(range(10), 10)
            what = deck.pop()
            if what < 3:
                follower.kill()
                follower.start()
            elif what == 3:
                system.collector.process.kill()
                system.collector.process.wait()
                deaths += 1
                system.collector.start(wait=False)
            elif what < 7:
                ueid = draw.choice(ueids[:MOVING])
                owners[ueid] = "globex" if owners.get(ueid, "acme") == "acme" else "acme"
                database.cli("device", "transfer", ueid, owners[ueid])
                moved += 1
            else:
                database.cli("device", "label", draw.choice(ueids[MOVING:]), f"site=s{draw.randrange(9)}")
                labelled += 1
    finally:
        sim.send_signal(signal.SIGTERM)
        assert sim.wait(30) == 0
    await_true(system.collector.is_ready, "the collector being ready", 60)
    if follower.process.poll() is not None:
        pytest.fail("the follower ended by itself")
    # Until all that was published is stored, and every event has its position.
    quiet = [None, time.monotonic()]

    def settled():
        now = database.sql("SELECT (SELECT sum(hi) FROM device_hot), (SELECT count(*) FROM event WHERE position IS NULL), (SELECT max(position) FROM event)")
        if now != quiet[0] or now[0][1]:
            quiet[:] = [now, time.monotonic()]
        return time.monotonic() - quiet[1] > 2

    await_true(settled, "nothing happening any more", 90)
    (tmp_path / "state.stop").touch()
    assert follower.process.wait(60) == 0
    known, now = told(follower.knows()["known"]), told(whole(system, follower.token))
    print(f"{SECONDS} s: {follower.knows()['position']} positions, {moved} transfers, {labelled} labels,"
          f" follower killed {follower.kills} times, collector {deaths} times")
    assert {u: (known.get(u), now.get(u)) for u in known | now if known.get(u) != now.get(u)} == {}
    assert {u for u in now if now[u]["lifecycle"] == "transferred"} == {u for u, owner in owners.items() if owner == "globex"}
    assert len(now) == DEVICES and deaths > 1 and moved > 5 and follower.knows()["position"] > 2 * DEVICES
