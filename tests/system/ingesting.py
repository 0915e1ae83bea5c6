"""The collector with a private PostgreSQL and a private mosquitto, and devices of tests/device.py: what test_ingest.py and the benches run on."""

import os
import pathlib
import signal
import socket
import subprocess
import sys
import time

import psycopg2
import requests

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = ROOT / os.environ.get("BUILD", "build")
POSTGRES = sorted(pathlib.Path("/usr/lib/postgresql").glob("*/bin"))[-1]
ORDINARY = ["unshare", "--user", "--map-user=1000"] if os.getuid() == 0 else []  # PostgreSQL refuses root
PATIENCE = 20

sys.path.insert(0, str(ROOT / "tests"))
from device import Device  # noqa: E402


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def await_true(condition, what, seconds=PATIENCE):
    """The condition's first true value."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.02)


def is_open(port):
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
        return True
    except OSError:
        return False


def provision(*words):
    done = subprocess.run([ROOT / "deploy/provision", *map(str, words)], check=True, capture_output=True, text=True)
    return done.stdout.split()


def processor_seconds(pid):
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Database:
    def __init__(self, directory, *settings):
        self.port = free_port()
        self.directory = directory / "pg"
        subprocess.run([*ORDINARY, POSTGRES / "initdb", "-D", self.directory, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C"],
                       check=True, capture_output=True)
        options = " ".join([f"-p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories=", *(f"-c {s}" for s in settings)])
        self.control = [*ORDINARY, POSTGRES / "pg_ctl", "-D", self.directory, "-w", "-l", directory / "pg.log", "-o", options]
        self.start()
        with psycopg2.connect(self.uri("postgres", "postgres")) as db, db.cursor() as c:
            c.execute((ROOT / "schema/sql/roles.sql").read_text())
        db = psycopg2.connect(self.uri("postgres", "postgres"))
        db.autocommit = True
        db.cursor().execute("CREATE DATABASE fleetstate OWNER fleetstate_owner")
        db.close()

    def start(self):
        subprocess.run([*self.control, "start"], check=True, capture_output=True)

    def stop(self):
        subprocess.run([*self.control, "-m", "immediate", "stop"], check=True, capture_output=True)

    def uri(self, role, database="fleetstate"):
        return f"postgresql://{role}@127.0.0.1:{self.port}/{database}"

    def sql(self, text, parameters=(), role="fleetstate_owner"):
        with psycopg2.connect(self.uri(role)) as db, db.cursor() as c:
            c.execute(text, parameters)
            return c.fetchall() if c.description else None

    def one(self, text, parameters=()):
        return self.sql(text, parameters)[0][0]

    def cli(self, *words):
        done = subprocess.run([BUILD / "fleetstate", "--database", self.uri("fleetstate_owner"), *map(str, words)], capture_output=True,
                              text=True)
        assert done.returncode == 0, (words, done.stderr)
        return done.stdout.strip()


class Broker:
    def __init__(self, directory):
        self.pki, self.state = directory / "pki", directory / "broker"
        provision("ca", self.pki)
        self.port, self.collector_port = free_port(), free_port()
        subprocess.run([ROOT / "deploy/broker", self.pki, self.state, "--port", str(self.port), "--collector-port", str(self.collector_port),
                        "--user", "root" if os.getuid() == 0 else "nobody"], check=True)
        self.start()

    def start(self):
        log = open(self.state / "log", "ab")
        self.process = subprocess.Popen(["/usr/sbin/mosquitto", "-c", self.state / "mosquitto.conf"], stderr=log, stdout=log)
        await_true(lambda: is_open(self.port) and is_open(self.collector_port), "the broker")

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(PATIENCE)


class Collector:
    def __init__(self, directory, database, broker, **settings):
        self.http = free_port()
        self.log_file = directory / "collector.log"
        pki = broker.pki
        self.settings = dict(
            name="one", database=database.uri("fleetstate_ingest"), database_api=database.uri("fleetstate_api"),
            database_owner=database.uri("fleetstate_owner"), broker=f"ssl://127.0.0.1:{broker.collector_port}", ca=pki / "operator-ca.crt",
            certificate=pki / "collectors/collector.crt", key=pki / "collectors/collector.key", receipt_certificate=pki / "receipt.crt",
            receipt_key=pki / "receipt.key", http_port=self.http, park_seconds="2s", batch_window_ms=20)
        self.settings.update(settings)
        self.process = None

    def start(self, wait=True):
        words = [f"--{name.replace('_', '-')}={value}" for name, value in self.settings.items()]
        self.process = subprocess.Popen([BUILD / "fleetstate-collector", *words], stderr=open(self.log_file, "ab"))
        if wait:
            await_true(self.is_ready, "the collector being ready:\n" + self.log())
        return self

    def is_ready(self):
        assert self.process.poll() is None, self.log()
        try:
            return requests.get(f"http://127.0.0.1:{self.http}/readyz", timeout=5).status_code == 200
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
        self.database.cli("migrate")
        self.database.cli("tenant", "add", "acme", "Acme")
        self.database.cli("trust-anchor", "add", "--tenant", "acme", self.broker.pki / "maker-ca.crt")
        try:
            before(self)
            self.collector.start()
        except BaseException:
            self.close()
            raise

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
