"""The collector on parts of its own, and devices of tests/device.py: what the tests of ingestion and the benches run on."""

import os
import pathlib
import signal
import subprocess

import requests

from parts import BIN, Broker, Database, await_true, free_port, provision
from device import Device  # found through parts


def processor_seconds(pid):
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident(pid):
    """Bytes."""
    with open(f"/proc/{pid}/statm") as file:
        return int(file.read().split()[1]) * 4096


class Collector:
    def __init__(self, directory, database, broker, **settings):
        self.http = free_port()
        self.url = f"http://127.0.0.1:{self.http}"
        self.log_file = directory / "collector.log"
        pki = broker.pki
        self.settings = dict(
            name="one", database=database.uri("fleetstate_ingest"), database_api=database.uri("fleetstate_api"),
            database_owner=database.uri("fleetstate_owner"), broker=f"ssl://127.0.0.1:{broker.collector_port}", ca=pki / "operator-ca.crt",
            certificate=pki / "collectors/collector.crt", key=pki / "collectors/collector.key", receipt_certificate=pki / "receipt.crt",
            receipt_key=pki / "receipt.key", http_port=self.http, park_seconds="2s", batch_window_ms=20, disk_free=0)
        self.settings.update(settings)
        self.before = []  # words before the program's: what runs it
        self.process = None

    def start(self, wait=True):
        words = [f"--{name.replace('_', '-')}={value}" for name, value in self.settings.items()]
        self.process = subprocess.Popen([*self.before, BIN / "fleetstate-collector", *words], stderr=open(self.log_file, "ab"))
        if wait:
            await_true(self.is_ready, "the collector being ready:\n" + self.log())
        return self

    def is_ready(self):
        assert self.process.poll() is None, self.log()
        try:
            return requests.get(f"{self.url}/readyz", timeout=5, verify=False).status_code == 200
        except requests.ConnectionError:
            return False

    def log(self):
        return self.log_file.read_text()

    def stop(self, how=signal.SIGTERM):
        self.process.send_signal(how)
        return self.process.wait(60)


class System:
    """All of it. Closed with `close`."""

    def __init__(self, directory, postgres=(), before=lambda system: None, **settings):
        """`before` is called when all but the collector is up."""
        self.directory = directory
        self.database = Database(directory, *postgres)
        self.broker = Broker(directory)
        self.collector = Collector(directory, self.database, self.broker, **settings)
        self.devices = []
        self.database.cli("tenant", "add", "acme", "Acme")
        self.database.cli("trust-anchor", "add", "--tenant", "acme", self.broker.pki / "maker-ca.crt")
        try:
            before(self)
            self.collector.start()
        except BaseException:
            self.close()
            raise

    def trust(self, *words):
        """One more trust anchor, read by the collector."""
        said = "watch: trust anchors read"
        before = self.collector.log().count(said)
        self.database.cli("trust-anchor", "add", *words)
        await_true(lambda: self.collector.log().count(said) > before, "the trust anchor being read")

    def device(self, connect=True, ueid=None, **more):
        pki = self.broker.pki
        ueid = ueid or provision("device", pki)[0]
        device = Device(ueid, str(pki / f"devices/{ueid}.crt"), str(pki / f"devices/{ueid}.key"), str(pki / "operator-ca.crt"),
                        port=self.broker.port, **more)
        if connect:
            assert device.connect() == 0
            self.devices.append(device)
        return device

    def stored(self, device):
        """(epoch, seq, flags) of what is stored, in order of reception."""
        return self.database.sql("SELECT epoch_hex(epoch), seq, flags FROM report JOIN device USING (device_id) WHERE ueid = %s"
                                 " ORDER BY received_at", (device.ueid,))

    def await_stored(self, device, n):
        """What is stored, once it is so many."""
        await_true(lambda: len(self.stored(device)) == n, f"{n} reports")
        return self.stored(device)

    def posture(self, device):
        """And its reasons."""
        return self.database.sql("SELECT posture, reasons FROM device WHERE ueid = %s AND lifecycle <> 'transferred'", (device.ueid,))[0]

    def epoch(self, device):
        """(duplicates, late, forks, chain_breaks) of the device's current epoch."""
        rows = self.database.sql("SELECT duplicates, late, forks, chain_breaks FROM device_epoch e JOIN device USING (device_id) WHERE ueid = %s"
                                 " AND epoch_hex(epoch) = %s", (device.ueid, device.epoch.hex()))
        return rows[0] if rows else None

    def close(self):
        for device in self.devices:
            device.close()
        running = self.collector.process is not None and self.collector.process.poll() is None
        status = self.collector.stop() if running else 0
        self.broker.stop()
        self.database.stop()
        assert status == 0, self.collector.log()[-2000:]
