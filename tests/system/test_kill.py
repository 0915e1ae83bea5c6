"""kill -9 of every part, under load: what the signers wrote down before publishing is what the collector lists, each once."""

import os
import re
import signal
import time
from collections import Counter

import pytest

from parts import await_true
from running import Run

ROUNDS = 5
REPORTS = 5000
PARTS = ("collector", "mosquitto", "postgres", "sim", "emitter")


def process(system, part):
    try:
        return int((system.directory / "pid" / part).read_text())
    except (OSError, ValueError):
        return None


def alive(pid):
    try:
        return pid and open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def kill(system, part):
    pid = await_true(lambda: alive(p := process(system, part)) and p, f"{part} runs", 60)
    os.kill(pid, signal.SIGKILL)
    await_true(lambda: (p := process(system, part)) not in (None, pid) and alive(p), f"{part} is started again", 60)


def journal(system):
    """What was signed: (ueid, epoch, seq, sha256). A line that is being written has no end yet."""
    rows = []
    for path in system.directory.glob("*.journal"):
        for line in path.read_text().split("\n")[:-1]:
            assert re.fullmatch(r"[0-9a-f]{34} [0-9a-f]{16} [0-9]+ [0-9a-f]{64}", line), line
            rows.append(tuple(line.split()))
    return rows


def listed(system):
    rows = []
    for token, scope in (("FLEETSTATE_TOKEN", {}), ("FLEETSTATE_OPERATOR_TOKEN", {"tenant": "globex"})):
        for device in list(system.items("/v1/devices", token, **scope)):
            rows += [(device["ueid"], r["epoch"], str(r["seq"]), r["sha256"])
                     for r in system.items(f"/v1/devices/{device['ueid']}/reports", token, **scope)]
    return rows


@pytest.fixture
def system(tmp_path):
    running = Run(tmp_path / "run", DEVICES=120, INTERVAL=1, JOURNAL=1, BACKOFF_MAX=1)
    running.start(seconds=400)
    yield running
    running.stop()


def test_nothing_is_lost_and_nothing_is_twice(system):
    for _ in range(ROUNDS):
        for part in PARTS:
            kill(system, part)
            await_true(lambda: system_ready(system), "ready again", 120)
    await_true(lambda: len(journal(system)) >= REPORTS, f"{REPORTS} reports", 300)

    # A restart on the same directory with devices that report only every hour: everything that was signed before is drained, and the few
    # reports of this start are in the journal as well.
    assert system.stop() in (0, 130, -2)
    signed_before = len(journal(system))
    system.settings["INTERVAL"] = "3600"
    system.start(seconds=400)

    # Devices go on: the emitter tells what happens on this machine. So both lists are of one moment when they are the same, and not before.
    end = time.monotonic() + 240
    while True:
        signed, stored = journal(system), listed(system)
        if Counter(signed) == Counter(stored) or time.monotonic() > end:
            break
        time.sleep(2)
    assert Counter(signed) - Counter(stored) == Counter(), "signed and not listed"
    assert max(Counter(stored).values()) == 1, [report for report, n in Counter(stored).items() if n > 1]
    assert Counter(stored) - Counter(signed) == Counter(), "listed and not signed"
    assert len(signed) >= signed_before >= REPORTS
    forks = [d["ueid"] for d in system.items("/v1/devices") if d["posture"] == "untrusted"]
    assert forks == []
    print(f"{len(signed)} reports signed, {len(stored)} listed, 0 lost, 0 twice, after {ROUNDS * len(PARTS)} kills")


def system_ready(system):
    try:
        return system.ask("/readyz", None).status_code == 200
    except OSError:
        return False
