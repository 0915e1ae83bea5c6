"""What tests stand on: the programs of a build, a private PostgreSQL, a private mosquitto, free ports, a client of HTTP, and waiting for a condition."""

import contextlib
import copy
import fcntl
import hashlib
import itertools
import os
import pathlib
import pty
import random
import select
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time

import psycopg2
import requests

ROOT = pathlib.Path(__file__).resolve().parents[2]
BIN = pathlib.Path(os.environ.get("FLEETSTATE_BIN", ROOT / "build")).resolve()  # where the programs are
POSTGRES = sorted(pathlib.Path("/usr/lib/postgresql").glob("*/bin"))[-1]
ORDINARY = ["unshare", "--user", "--map-user=postgres"] if os.getuid() == 0 else []  # PostgreSQL refuses root
PATIENCE = 20

sys.path.insert(0, str(ROOT / "tests"))  # for device.py, the second implementation of the device


# Below what the kernel gives to those who do not care which, so that nobody takes one between its choice and its use; each of pytest's workers
# has its own, and so have two runs at a time that are given different ones.
lowest, highest = map(int, os.environ.get("FLEETSTATE_PORTS", "10000-29999").split("-"))
share = (highest - lowest + 1) // int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", 1))
first = lowest + share * int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:])
candidates = itertools.cycle(random.sample(range(first, first + share), share))
choosing = threading.Lock()


def free_ports(n):
    found = []
    with choosing:
        while len(found) < n:
            with contextlib.suppress(OSError):
                port = next(candidates)
                socket.create_server(("127.0.0.1", port)).close()
                found.append(port)
    return found


def free_port():
    return free_ports(1)[0]


def await_true(condition, what, seconds=PATIENCE, tick=None):
    """The condition's first true value. What takes long is looked at less often: others want the processor too."""
    begun = time.monotonic()
    while True:
        value = condition()
        if value:
            return value
        waited = time.monotonic() - begun
        assert waited < seconds, f"waited {seconds} s in vain for {what}"
        time.sleep(tick or (0.02 if waited < 0.5 else 0.1))


def is_open(port):
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
        return True
    except OSError:
        return False


class Session(requests.Session):
    """As a client should be: what was idle for some time is not used again. The collector closes it when http_idle is over, and that may be just as a request
    is on its way (RFC 9112 9.5): on a busy machine even one that came in time is then not read any more. Nothing is tried a second time, which would hide that
    a request was not answered."""
    IDLE = 10  # seconds: a third of http_idle
    last = 0

    def request(self, *words, **more):
        if time.monotonic() - self.last > self.IDLE:
            self.close()
        try:
            return super().request(*words, **more)
        finally:
            self.last = time.monotonic()


def watched(*words, **more):
    """As somebody watches it: its status, its output, and what a terminal is told beside it."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen([BIN / "fleetstate", *map(str, words)], stderr=theirs, stdout=subprocess.PIPE, text=True, **more)
    out = process.communicate(timeout=60)[0]
    os.close(theirs)
    told = b""
    with contextlib.suppress(OSError):  # a terminal that nobody has open any more has no end
        while piece := os.read(ours, 65536):
            told += piece
    os.close(ours)
    return process.returncode, out, told.decode()


def provision(*words):
    done = subprocess.run([ROOT / "deploy/provision", *map(str, words)], check=True, capture_output=True, text=True)
    return done.stdout.split()


def cluster():
    """A data directory that others are copied from, which takes a tenth of making each anew: with the roles and a migrated database, for these programs.
    Of what nobody uses nothing is there: databases to begin another with, the log of how this one was made."""
    made_of = hashlib.sha256(str(POSTGRES).encode() + (ROOT / "schema/sql/roles.sql").read_bytes() + (BIN / "fleetstate").read_bytes())
    place = BIN / "cluster" / made_of.hexdigest()[:16]
    place.parent.mkdir(exist_ok=True)
    with open(BIN / "cluster.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not place.exists():
            for old in place.parent.iterdir():
                shutil.rmtree(old)
            new = place.parent / "new"
            new.mkdir()
            database = Database(new, migrated=False)
            try:
                database.cli("migrate")
                for template in "template0", "template1":
                    database.forget(template)
            finally:
                database.stop("fast")
            subprocess.run([*ORDINARY, POSTGRES / "pg_resetwal", "-D", database.directory], check=True, capture_output=True)
            subprocess.run(["cp", "-a", "--sparse=always", database.directory, new / "copied"], check=True)
            (new / "copied").rename(place)
            shutil.rmtree(new)
    return place


def asked(db, text, parameters):
    with db, db.cursor() as c:
        c.execute(text, parameters)
        return c.fetchall() if c.description else None


class Database:
    def __init__(self, directory, *settings, migrated=True):
        self.port = free_port()
        self.directory = directory / "pg"
        if migrated:
            subprocess.run(["cp", "-a", "--reflink=auto", cluster(), self.directory], check=True)
        else:
            subprocess.run([*ORDINARY, POSTGRES / "initdb", "-D", self.directory, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C"],
                           check=True, capture_output=True)
        options = " ".join([f"-p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories=", *(f"-c {s}" for s in settings)])
        self.control = [*ORDINARY, POSTGRES / "pg_ctl", "-D", self.directory, "-w", "-l", directory / "pg.log", "-o", options]
        self.name, self.copies = "fleetstate", itertools.count(1)
        self.idle = []  # connections: to make one costs both sides twenty times what is mostly asked, over and over where something is awaited
        self.start()
        if not migrated:
            with contextlib.closing(psycopg2.connect(self.uri("postgres", "postgres"))) as db:
                db.autocommit = True
                db.cursor().execute((ROOT / "schema/sql/roles.sql").read_text())
                db.cursor().execute("CREATE DATABASE fleetstate OWNER fleetstate_owner")

    def start(self):
        subprocess.run([*self.control, "start"], check=True, capture_output=True)

    def stop(self, how="immediate"):
        self.disconnect()
        subprocess.run([*self.control, "-m", how, "stop"], check=True, capture_output=True)

    def copy(self):
        """Another database in the same cluster, as this one is now. Nobody may be connected to this one."""
        other = copy.copy(self)
        other.name, other.idle = f"copy{next(self.copies)}", []
        self.disconnect()
        with contextlib.closing(psycopg2.connect(self.uri("postgres", "postgres"))) as db:
            db.autocommit = True
            cursor = db.cursor()
            cursor.execute(f"CREATE DATABASE {other.name} TEMPLATE {self.name} OWNER fleetstate_owner")
            # Settings of a database are not copied with it.
            cursor.execute("SELECT unnest(setconfig) FROM pg_db_role_setting JOIN pg_database d ON d.oid = setdatabase WHERE datname = %s", (self.name,))
            for setting, in cursor.fetchall():
                name, _, value = setting.partition("=")
                cursor.execute(f"ALTER DATABASE {other.name} SET {name} = %s", (value,))
        return other

    def forget(self, template):
        with contextlib.closing(psycopg2.connect(self.uri("postgres", "postgres"))) as db:
            db.autocommit = True
            db.cursor().execute(f"ALTER DATABASE {template} IS_TEMPLATE false")
            db.cursor().execute(f"DROP DATABASE {template}")

    def uri(self, role, database=None):
        return f"postgresql://{role}@127.0.0.1:{self.port}/{database or self.name}"

    def sql(self, text, parameters=(), role="fleetstate_owner"):
        """A transaction of its own. The programs' own roles leave no session behind: tests look at which there are."""
        if role != "fleetstate_owner":
            with contextlib.closing(psycopg2.connect(self.uri(role))) as db:
                return asked(db, text, parameters)
        db = self.connection()
        try:
            found = asked(db, text, parameters)
        except BaseException:
            db.close()
            raise
        self.idle.append(db)
        return found

    def connection(self):
        """One that nobody uses. Of one that the server has ended there is something to read."""
        while self.idle:
            db = self.idle.pop()
            if not select.select([db], [], [], 0)[0]:
                return db
            db.close()
        return psycopg2.connect(self.uri("fleetstate_owner"))

    def disconnect(self):
        """As if nothing had been asked yet: what these sessions counted is told to the server then, too."""
        while self.idle:
            self.idle.pop().close()

    @contextlib.contextmanager
    def held(self, table):
        """Nobody writes it meanwhile."""
        with contextlib.closing(psycopg2.connect(self.uri("fleetstate_owner"))) as db:
            db.cursor().execute(f"LOCK TABLE {table} IN SHARE MODE")
            yield

    def one(self, text, parameters=()):
        return self.sql(text, parameters)[0][0]

    def cli(self, *words, status=0, **more):
        done = subprocess.run([BIN / "fleetstate", "--database", self.uri("fleetstate_owner"), *map(str, words)], capture_output=True, text=True,
                              **more)
        assert done.returncode == status, (words, done.returncode, done.stdout, done.stderr)
        return done.stdout.strip()


class Broker:
    def __init__(self, directory):
        self.pki, self.state = directory / "pki", directory / "broker"
        provision("ca", self.pki)
        self.port, self.collector_port = free_ports(2)
        subprocess.run([ROOT / "deploy/broker", self.pki, self.state, "--port", str(self.port), "--collector-port", str(self.collector_port),
                        "--user", "root" if os.getuid() == 0 else "nobody"], check=True)
        self.start()

    def start(self):
        log = open(self.state / "log", "ab")
        self.process = subprocess.Popen(["/usr/sbin/mosquitto", "-c", self.state / "mosquitto.conf"], stderr=log, stdout=log)
        await_true(self.is_up, "the broker")

    def is_up(self):
        assert self.process.poll() is None, (self.state / "log").read_text()
        return is_open(self.port) and is_open(self.collector_port)

    def stop(self, how=signal.SIGTERM):
        self.process.send_signal(how)
        self.process.wait(PATIENCE)
