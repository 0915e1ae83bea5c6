"""A fleet loses its broker, goes on reporting, and comes back: in the memory that was set aside for it, and with all that it has."""

import subprocess
import threading

import pytest

from ingesting import System, await_true, resident
from parts import BIN, ROOT
from test_adversary import metrics
from test_thousand import provision
import device as wire  # found through ingesting

DEVICES, INTERVAL, SLOTS, BATCH = 200, 2, 512, 64
# It makes the load: without sanitizers, where there is such a build, so that its memory can be told.
SIM = next(p for p in (ROOT / "build/fleetstate-sim", BIN / "fleetstate-sim") if p.exists())


class Fleet:
    """Its journal, and which of its devices connected."""

    def __init__(self, system, directory):
        (directory / "ueids").write_text("".join(u + "\n" for u in provision(system.broker.pki, DEVICES)))
        self.journal, self.connected = directory / "journal", set()
        # A device in four changes with each report: it asks for a receipt, and so hears of the pace.
        self.process = subprocess.Popen(
            [SIM, f"--devices={DEVICES}", f"--ueids={directory / 'ueids'}", f"--pki={system.broker.pki}", f"--state={directory / 'state'}",
             f"--broker=ssl://127.0.0.1:{system.broker.port}", f"--interval={INTERVAL}", "--life=250", "--awake", "--spool-size=64K", "--start-ms=5",
             f"--journal={self.journal}", "--log-level=info"], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        self.thread = threading.Thread(target=self.listen)
        self.thread.start()

    def listen(self):
        for line in self.process.stderr:
            if "connected ueid=" in line:
                self.connected.add(line.split("ueid=")[1])

    def signed(self):
        """(ueid, epoch, seq, sha256)"""
        return {tuple(line.split()) for line in self.journal.read_text().splitlines()} if self.journal.exists() else set()

    def stop(self):
        self.process.terminate()
        status = self.process.wait(60)
        self.thread.join()
        return status


def stored(system):
    return {(ueid, epoch, str(seq), sha) for ueid, epoch, seq, sha in system.database.sql(
        "SELECT encode(ueid, 'hex'), epoch_hex(epoch), seq, encode(sha256, 'hex') FROM report JOIN device USING (device_id)")}


@pytest.fixture
def system(tmp_path, monkeypatch):
    # Under the sanitizer what is freed would be kept, and taken for memory in use.
    monkeypatch.setenv("ASAN_OPTIONS", "quarantine_size_mb=1", prepend=":")
    system = System(tmp_path, postgres=["fsync=off"], queue_slots=SLOTS, batch_max=BATCH)
    system.token = system.database.cli("token", "add", "--tenant", "acme", "--role", "viewer", "storm")
    yield system
    system.close()


def gaps(system, device):
    """Of the fleet."""
    return system.database.one("SELECT count(*) FROM report_gap JOIN device USING (device_id) WHERE ueid <> %s", (device.ueid,))


def backlog(device, wrong):
    """A chain of quiet reports; the signatures of some are worth nothing, but the next one's vouches for their bytes."""
    messages = []
    for _ in range(40):
        foreign = {"signature": wire.sign(device.signer, b"something else")} if device.seq + 1 in wrong else {}
        messages.append(device.quiet(**foreign))
    return [*messages, device.quiet({"receipt": True})]


def test_a_fleet_comes_back(system, tmp_path):
    wrong = set(range(5, 40, 5))
    fleet = Fleet(system, tmp_path)
    try:
        device = system.device()
        device.client.reconnect_delay_set(1, 1)
        device.publish(device.full())
        device.receipt_up_to(1)
        await_true(lambda: len({row[0] for row in stored(system)}) == DEVICES + 1, "all of them", 120)
        before = {process: resident(process.pid) for process in (fleet.process, system.collector.process)}
        system.broker.stop()
        made = len(fleet.signed())
        await_true(lambda: len(fleet.signed()) >= made + 2 * DEVICES, "two reports more of each", 60)
        fleet.connected.clear()
        wanted = fleet.signed()
        for message in backlog(device, wrong):
            device.client.publish(device.report_topic, message, qos=1)
        with system.database.held("device_hot"):
            system.broker.start()
            await_true(lambda: metrics(system)["queue_full_total"] > 0, "the queue being full", 120)
            assert metrics(system)["queue_slots"] <= SLOTS
            # What the others have waits at the broker and in the spools.
            await_true(lambda: len(fleet.connected) == DEVICES, "all of them being back", 60)
        assert device.receipt_up_to(device.seq, 60).pace_ms > 0
        await_true(lambda: wanted <= stored(system) and not gaps(system, device), "all that they have", 120)
        # Where the collector did not look at two of them together, there was nobody to vouch.
        there = {seq for _, seq, _ in system.stored(device)}
        assert there | wrong == set(range(1, device.seq + 1)) and there & wrong, "a later signature vouched for those before"
        assert system.database.one("SELECT count(*) FROM (SELECT FROM report GROUP BY device_id, epoch, seq HAVING count(*) > 1) twice") == 0
        grown = {process: resident(process.pid) - size for process, size in before.items()}
        assert grown[fleet.process] < DEVICES * 64 * 1024 and grown[system.collector.process] < 64 * 2**20, grown
    finally:
        assert fleet.stop() == 0
