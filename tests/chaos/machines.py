"""The system's parts, each on a machine of its own as far as the network goes: devices, two collectors, and a hub with the broker and the database.
All of it lies in the namespaces that `run` made. A part that is killed stays dead until it is started again."""

import contextlib
import ctypes
import json
import os
import pathlib
import signal
import socket
import struct
import subprocess
import threading
import time

import psycopg2
import requests

from namespace import children
from parts import BIN, POSTGRES, ROOT, await_true

HUB = "10.26.0.1"
DATABASE_PORT, DEVICE_PORT, COLLECTOR_PORT, HTTP_PORT = 5432, 8883, 8884, 8080
SPOOL_MIB, DATABASE_MIB = 128, 448
NEW_NETWORK = 0x40000000

libc = ctypes.CDLL(None, use_errno=True)


class Failure(Exception):
    """What has to be true is not."""


def call(*words, **more):
    done = subprocess.run([str(w) for w in words], capture_output=True, text=True, **more)
    if done.returncode != 0:
        raise Failure(f"{' '.join(map(str, words))}: {done.stdout}{done.stderr}")
    return done.stdout


def mount_memory(directory, mib):
    directory.mkdir(parents=True, exist_ok=True)
    call("mount", "-t", "tmpfs", "-o", f"size={mib}m,mode=0700", "tmpfs", directory)


def is_alive(pid):
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


class Machine:
    """A network of its own, with one cable to the hub."""

    def __init__(self, name, number):
        self.name, self.cable = name, f"to-{name}"
        self.address, self.hub_side = f"10.26.{number}.2", f"10.26.{number}.1"
        self.holder = subprocess.Popen(["unshare", "--net", "sleep", "infinity"])
        ours = os.readlink("/proc/self/ns/net")
        await_true(lambda: os.readlink(self.path()) != ours and pathlib.Path(f"/proc/{self.holder.pid}/comm").read_text() == "sleep\n",
                   f"the network of {name}", 10)
        call("ip", "link", "add", self.cable, "type", "veth", "peer", "name", "eth0", "netns", self.holder.pid)
        call("ip", "address", "add", f"{self.hub_side}/30", "dev", self.cable)
        call("ip", "link", "set", self.cable, "up")
        for words in (("link", "set", "lo", "up"), ("address", "add", f"{self.address}/30", "dev", "eth0"), ("link", "set", "eth0", "up"),
                      ("route", "add", "default", "via", self.hub_side)):
            call(*self.enter(), "ip", *words)

    def path(self):
        return f"/proc/{self.holder.pid}/ns/net"

    def enter(self):
        return ["nsenter", f"--net={self.path()}"]

    def reaches(self, port, seconds=1):
        """Whether a connection from here to the hub comes about."""
        result = []

        def work():
            with open(self.path()) as network:
                if libc.setns(network.fileno(), NEW_NETWORK) != 0:
                    raise OSError(ctypes.get_errno(), "setns")
            try:
                socket.create_connection((HUB, port), seconds).close()
                result.append(True)
            except OSError:
                result.append(False)

        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        return result == [True]


class Part:
    """A program. `clock` names whose wall clock it has."""

    def __init__(self, name, directory, words, machine=None, clock=None):
        self.name, self.machine, self.clock = name, machine, clock
        self.words = [str(w) for w in words]
        self.log_file = directory / f"{name}.log"
        self.process = None
        self.peak_kib = 0

    def start(self):
        environment = dict(os.environ)
        if self.clock is not None:
            environment.update(LD_PRELOAD=str(BIN / "test-clock.so"), TEST_CLOCK=str(self.clock.file))
        words = [*(self.machine.enter() if self.machine else []), *self.words]
        with open(self.log_file, "ab") as log:
            self.process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment)
        return self

    @property
    def pid(self):
        return self.process.pid

    def is_alive(self):
        return self.process is not None and self.process.poll() is None

    def signal(self, number):
        self.process.send_signal(number)

    def kill(self):
        """Dead by this very signal, and by nothing that came before."""
        self.signal(signal.SIGKILL)
        status = self.process.wait(10)
        if status != -signal.SIGKILL:
            raise Failure(f"{self.name} had ended by itself with status {status}: {self.tail()}")

    def stop(self, seconds=30):
        self.signal(signal.SIGTERM)
        return self.process.wait(seconds)

    def log_size(self):
        return self.log_file.stat().st_size if self.log_file.exists() else 0

    def logged(self, text, since):
        """How often the text stands in the log after that size."""
        with open(self.log_file, "rb") as log:
            log.seek(since)
            return log.read().count(text.encode())

    def tail(self, lines=15):
        return "\n".join(self.log_file.read_text(errors="replace").splitlines()[-lines:])

    def measure(self):
        with contextlib.suppress(OSError, AttributeError, IndexError, ValueError):
            for line in pathlib.Path(f"/proc/{self.pid}/status").read_text().splitlines():
                if line.startswith("VmHWM:"):
                    self.peak_kib = max(self.peak_kib, int(line.split()[1]))


class Clock:
    def __init__(self, directory, name):
        self.name, self.file = name, directory / f"clock.{name}"
        self.set(0)

    def set(self, seconds):
        with open(self.file, "r+b" if self.file.exists() else "wb") as f:
            f.write(struct.pack("=q", seconds))


class Database(Part):
    def __init__(self, directory, clock):
        self.disk = directory / "pg"
        mount_memory(self.disk, DATABASE_MIB)
        self.data = self.disk / "data"
        ordinary = ["unshare", "--user", "--map-user=postgres"]  # PostgreSQL refuses root
        if subprocess.run([*ordinary, "true"], capture_output=True).returncode != 0:
            ordinary = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
            call("chown", "postgres:", self.disk)
        # Small segments, so that a full disk is met by the log as well as by the tables.
        call(*ordinary, POSTGRES / "initdb", "-D", self.data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--wal-segsize=1")
        with open(self.data / "pg_hba.conf", "a") as access:
            access.write("host all all 10.26.0.0/16 trust\n")
        settings = dict(listen_addresses=HUB, port=DATABASE_PORT, unix_socket_directories="", min_wal_size="2MB", max_wal_size="48MB",
                        shared_buffers="64MB", jit="off", log_min_messages="warning", checkpoint_timeout="30s", max_connections=60)
        super().__init__("postgres", directory, [*ordinary, POSTGRES / "postgres", "-D", self.data,
                                                 *(f"-c{k}={v}" for k, v in settings.items())], clock=clock)
        self.connection = None

    def uri(self, role):
        return f"postgresql://{role}@{HUB}:{DATABASE_PORT}/fleetstate"

    def is_up(self):
        try:
            self.sql("SELECT 1")
            return True
        except psycopg2.Error:
            return False

    def sql(self, text, parameters=(), database="fleetstate"):
        """As the superuser, on a connection of its own that is kept."""
        if self.connection is None or self.connection.closed or self.connection.info.dbname != database:
            self.connection = psycopg2.connect(host=HUB, port=DATABASE_PORT, user="postgres", dbname=database, connect_timeout=3,
                                               application_name="chaos")
            self.connection.autocommit = True
        try:
            with self.connection.cursor() as c:
                c.execute(text, parameters)
                return c.fetchall() if c.description else None
        except psycopg2.OperationalError:
            with contextlib.suppress(psycopg2.Error):
                self.connection.close()
            self.connection = None
            raise

    def one(self, text, parameters=()):
        return self.sql(text, parameters)[0][0]

    def kill(self):
        """All of it at once, as a machine that stops: what is left of a dead postmaster may still commit for a moment."""
        everything = children(self.pid)
        super().kill()
        for pid in everything:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        await_true(lambda: not any(is_alive(pid) for pid in everything), "PostgreSQL's processes to die", 10)

    def stop(self, seconds=30):
        self.signal(signal.SIGINT)
        return self.process.wait(seconds)

    def cli(self, *words):
        return call(BIN / "fleetstate", "--database", self.uri("fleetstate_owner"), *words).strip()


class Broker(Part):
    def __init__(self, directory, pki, user):
        self.state = directory / "broker"
        call(ROOT / "deploy/broker", pki, self.state, "--port", DEVICE_PORT, "--collector-port", COLLECTOR_PORT, "--bind", HUB, "--user", user)
        self.saved = self.state / "mosquitto.db"
        super().__init__("broker", directory, ["/usr/sbin/mosquitto", "-c", self.state / "mosquitto.conf"])

    def is_up(self):
        try:
            for port in (DEVICE_PORT, COLLECTOR_PORT):
                socket.create_connection((HUB, port), 1).close()
            return True
        except OSError:
            return False

    def save(self):
        """Has it write its persistence file."""
        before = self.saved.stat().st_mtime_ns if self.saved.exists() else 0
        self.signal(signal.SIGUSR1)
        await_true(lambda: self.saved.exists() and self.saved.stat().st_mtime_ns != before, "the broker's file", 20)


class Collector(Part):
    def __init__(self, name, directory, pki, machine, clock, database):
        settings = dict(
            name=name, database=database.uri("fleetstate_ingest"), database_api=database.uri("fleetstate_api"),
            broker=f"ssl://{HUB}:{COLLECTOR_PORT}", ca=pki / "operator-ca.crt", certificate=pki / f"collectors/{name}.crt",
            key=pki / f"collectors/{name}.key", receipt_certificate=pki / "receipt.crt", receipt_key=pki / "receipt.key",
            http_listen=machine.address, http_port=HTTP_PORT, http_tls_proxy="yes", keep_alive="4s", config="/dev/null")
        super().__init__(name, directory, [BIN / "fleetstate-collector", *(f"--{k.replace('_', '-')}={v}" for k, v in settings.items())],
                         machine, clock)
        self.url, self.token = f"http://{machine.address}:{HTTP_PORT}", None

    def is_ready(self):
        try:
            return requests.get(self.url + "/readyz", timeout=2).status_code == 200
        except requests.RequestException:
            return False

    def metric(self, name, otherwise=None):
        try:
            text = requests.get(self.url + "/metrics", headers={"Authorization": f"Bearer {self.token}"}, timeout=5).text
        except requests.RequestException:
            if otherwise is not None:
                return otherwise
            raise
        for line in text.splitlines():
            if line.startswith((f"fleetstate_{name}_total ", f"fleetstate_{name} ")):
                return float(line.split()[1])
        raise Failure(f"{self.name} has no metric {name}")


class Emitters(Part):
    """The real emitter, or the simulator of the fleet: what signs."""

    def __init__(self, name, directory, program, state, machine, clock, settings):
        self.state, self.settings = state, settings
        self.devices = settings.get("devices", 1)
        self.program = BIN / program
        self.journal = directory / "signed" / name
        super().__init__(name, directory, [], machine, clock)

    def start(self, interval="2s"):
        settings = {**self.settings, "interval": interval, "journal": self.journal}
        self.words = [str(self.program), *(f"--{k.replace('_', '-')}" if v is True else f"--{k.replace('_', '-')}={v}" for k, v in settings.items())]
        return super().start()

    def status(self):
        try:
            return json.loads((self.state / "status.json").read_text())
        except (OSError, ValueError):
            return {}

    def segments(self):
        """The newest file of each spool."""
        spools = [self.state / "spool"] if self.name == "emitter" else sorted(self.state.glob("*/spool"))
        return [max(files) for spool in spools if (files := list(spool.glob("*.seg")))]


class System:
    """All of it. `collectors` by name."""

    def __init__(self, directory, devices, seed):
        self.directory = directory
        for name in ("signed", "clocks"):
            mount_memory(directory / name, 64)
        self.spools = directory / "spools"
        mount_memory(self.spools, SPOOL_MIB)
        call("ip", "link", "set", "lo", "up")
        call("ip", "address", "add", f"{HUB}/32", "dev", "lo")
        self.machines = {name: Machine(name, i + 1) for i, name in enumerate(("devices", "one", "two"))}
        self.clocks = {name: Clock(directory / "clocks", name) for name in ("devices", "one", "two", "database")}
        self.pki = self.make_keys(devices)
        self.database = Database(directory, self.clocks["database"])
        self.broker = Broker(directory, self.pki, "root" if os.getuid() == 0 else "nobody")
        self.collectors = {name: Collector(name, directory, self.pki, self.machines[name], self.clocks[name], self.database)
                           for name in ("one", "two")}
        common = dict(broker=f"ssl://{HUB}:{DEVICE_PORT}", ca=self.pki / "operator-ca.crt", receipt_ca=self.pki / "operator-ca.crt", keep_alive="5s")
        own = self.pki / "devices" / self.ueid
        self.emitter = Emitters("emitter", directory, "fleetstate-emitter", self.spools / "emitter", self.machines["devices"],
                                self.clocks["devices"], {
            **common, "config": "/dev/null", "state_dir": self.spools / "emitter", "test_intervals": True, "backoff_min": "1s", "spool_size": "5M",
            "tls_certificate": f"{own}.crt", "tls_key": f"{own}.key", "sign_certificate": f"{own}.crt", "sign_key": f"{own}.key"})
        self.sim = Emitters("sim", directory, "fleetstate-sim", self.spools / "sim", self.machines["devices"], self.clocks["devices"], {
            **common, "devices": devices, "pki": self.pki, "ueids": self.pki / "fleet", "state": self.spools / "sim", "life": 15, "awake": True,
            "seed": seed, "spool_size": "64K"})
        self.parts = [self.database, self.broker, *self.collectors.values(), self.emitter, self.sim]

    def make_keys(self, devices):
        pki = self.directory / "pki"
        provision = ROOT / "deploy/provision"
        names = {**os.environ, "FLEETSTATE_BROKER_NAMES": f"IP:{HUB}"}
        call(provision, "ca", pki, env=names)
        for name in ("one", "two", "witness"):
            call(provision, "collector", pki, name)
        self.ueid = call(provision, "device", pki).strip()
        call(provision, "devices", pki, devices, "--list", pki / "fleet")
        return pki

    def start(self):
        self.database.start()
        await_true(lambda: self.answers("postgres"), "PostgreSQL", 60)
        self.database.sql((ROOT / "schema/sql/roles.sql").read_text(), database="postgres")
        self.database.sql("CREATE DATABASE fleetstate OWNER fleetstate_owner", database="postgres")
        cli = self.database.cli
        cli("migrate")
        cli("policy", "apply", ROOT / "schema/policies/nistir-8259.json")
        cli("tenant", "add", "acme", "Acme")
        cli("trust-anchor", "add", "--tenant", "acme", self.pki / "maker-ca.crt")
        token = cli("token", "add", "--role", "operator", "chaos")
        self.database.sql(DELAY)
        self.broker.start()
        await_true(self.broker.is_up, "the broker", 30)
        for collector in self.collectors.values():
            collector.token = token
            collector.start()
        await_true(self.is_ready, "the collectors", 60)
        self.emitter.start()
        self.sim.start()

    def answers(self, database):
        try:
            self.database.sql("SELECT 1", database=database)
            return True
        except psycopg2.Error:
            return False

    def is_ready(self):
        return all(c.is_ready() for c in self.collectors.values())

    def delay(self, seconds):
        """How long the database takes longer for each statement that stores reports."""
        self.database.sql("UPDATE chaos.delay SET seconds = %s", (seconds,))

    def other(self, name):
        return self.collectors["two" if name == "one" else "one"]

    def shards_of(self, name):
        """What the database says of the shards that a collector leads: pids of the connections and how many."""
        return self.database.sql("SELECT l.pid, count(*) FROM pg_locks l JOIN pg_stat_activity a USING (pid) WHERE l.locktype = 'advisory'"
                                 " AND l.classid = 8260 AND l.objsubid = 2 AND l.granted AND a.client_addr = %s GROUP BY l.pid",
                                 (self.machines[name].address,))


DELAY = """
CREATE SCHEMA chaos;
CREATE TABLE chaos.delay (seconds float8 NOT NULL);
INSERT INTO chaos.delay VALUES (0);
CREATE FUNCTION chaos.wait() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = chaos, pg_temp AS
	$$ BEGIN PERFORM pg_sleep(seconds) FROM delay WHERE seconds > 0; RETURN NULL; END $$;
CREATE TRIGGER chaos AFTER UPDATE ON fleetstate.device_hot FOR EACH STATEMENT EXECUTE FUNCTION chaos.wait();
"""


# The network's faults.

RULES = "table inet chaos { chain in { type filter hook input priority 0; }; chain out { type filter hook output priority 0; }; }"


def drop(machine, ports, ways):
    """What goes between the machine and these of the hub's ports is lost, in these ways: to, from."""
    call("nft", RULES)
    if "to" in ways:
        call("nft", "add", "rule", "inet", "chaos", "in", "iifname", machine.cable, "tcp", "dport", f"{{ {', '.join(map(str, ports))} }}", "drop")
    if "from" in ways:
        call("nft", "add", "rule", "inet", "chaos", "out", "oifname", machine.cable, "tcp", "sport", f"{{ {', '.join(map(str, ports))} }}", "drop")


def drop_nothing():
    call("nft", "delete", "table", "inet", "chaos")


def unplug(machine):
    call("ip", "link", "set", machine.cable, "down")


def plug(machine):
    call("ip", "link", "set", machine.cable, "up")
