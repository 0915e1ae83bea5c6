"""The database or the broker away or hung for a while: reports wait, and no device is called silent for it.

Each outage has a system of its own, and all of them happen at once: most of the time nothing is done but waited.
"""

import concurrent.futures
import contextlib
import os
import signal
import subprocess
import threading
import time

import pytest

from ingesting import System, await_true
from test_ingest import events, metric


@contextlib.contextmanager
def reporting(device):
    """Twice a second, whether anybody hears it or not."""
    over = threading.Event()

    def send():
        while not over.wait(0.5):
            device.client.publish(device.report_topic, device.quiet(), qos=1)
    device.client.reconnect_delay_set(1, 1)
    thread = threading.Thread(target=send)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def postgres_processes(system):
    pids = [int((system.database.directory / "postmaster.pid").read_text().split()[0])]
    children = subprocess.run(["pgrep", "-P", str(pids[0])], capture_output=True, text=True).stdout.split()
    return pids + [int(pid) for pid in children]


@contextlib.contextmanager
def database_hangs(system):
    pids = postgres_processes(system)
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    yield
    for pid in pids:
        os.kill(pid, signal.SIGCONT)


@contextlib.contextmanager
def database_is_down(system):
    system.database.stop()
    yield
    system.database.start()


@contextlib.contextmanager
def broker_is_down(system):
    system.broker.stop()
    yield
    system.broker.start()


@contextlib.contextmanager
def broker_hangs(system):
    system.broker.process.send_signal(signal.SIGSTOP)
    yield
    system.broker.process.send_signal(signal.SIGCONT)


OUTAGES = [database_hangs, database_is_down, broker_is_down, broker_hangs]


@pytest.fixture(scope="module")
def outages(tmp_path_factory):
    """What becomes of each."""
    directories = {away: tmp_path_factory.mktemp(away.__name__) for away in OUTAGES}
    with concurrent.futures.ThreadPoolExecutor(len(OUTAGES)) as pool:
        yield {away: pool.submit(suffer, away, directory) for away, directory in directories.items()}


def suffer(away, directory):
    """Five times as long as it takes to call a device silent, in which it sent its reports as ever."""
    system = System(directory, postgres=["fsync=off"], silence_min="1s")
    try:
        device = system.device(interval=1)
        device.publish(device.full())
        device.receipt_up_to(1)
        with reporting(device):
            with away(system):
                time.sleep(15)
            heard = device.seq
            await_true(system.collector.is_ready, "readiness", 60)
            await_true(lambda: any(seq > heard for _, seq, _ in system.stored(device)), "a report", 60)
            # A device is silent for what was heard between two of our own messages. After two such times silence was looked for in the first.
            canaries = metric(system, "canaries")
            await_true(lambda: metric(system, "canaries") >= canaries + 3 * 16, "three times our own messages", 60)
            assert "device.posture" not in events(system, device)
            assert system.posture(device)[0] == "unknown"
        await_true(lambda: system.posture(device) == ("silent", ["silent"]), "silence at last", 60)
    finally:
        system.close()


@pytest.mark.parametrize("away", OUTAGES)
def test_what_is_away_on_our_side_makes_no_device_silent(outages, away):
    outages[away].result()
