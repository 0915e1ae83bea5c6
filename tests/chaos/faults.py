"""The faults, a row each of a table. A fault does harm, shows by evidence of its own that the harm was real, and takes it back when its generator
goes on: from then on the time to recover is measured. What it draws it draws from the run's own random numbers, and tells."""

import contextlib
import os
import pathlib
import signal
import threading
import time

from machines import COLLECTOR_PORT, DATABASE_PORT, DEVICE_PORT, Failure, drop, drop_nothing, is_alive, plug, unplug
from namespace import children
from parts import await_true
from spool import HEAD, crc32c

EVIDENCE = 30  # seconds until a fault has to show


class Faults:
    """What a fault acts upon: the system, the run's random numbers, the witness; and `tell`, for what was drawn."""

    def __init__(self, system, random, witness, tell):
        self.system, self.random, self.witness, self.tell = system, random, witness, tell

    def draw(self, what, choices):
        value = self.random.choice(choices)
        self.tell(what, value)
        return value

    def sleep(self, least, most):
        seconds = round(self.random.uniform(least, most), 1)
        self.tell("seconds", seconds)
        time.sleep(seconds)


def signs(part):
    """Each of its devices signs a report within the next seconds: what works while the others do not, and what a start is over with."""
    before = part.journal.stat().st_size if part.journal.exists() else 0

    def signers():
        with open(part.journal, "rb") as journal:
            journal.seek(before)
            return {line[:34] for line in journal.read().splitlines() if len(line) > 34}
    await_true(lambda: part.journal.exists() and len(signers()) == part.devices, f"{part.name} to sign", EVIDENCE)


# ---- kill -9

def kill_collector(f):
    names = f.draw("which", [["one"], ["two"], ["one"], ["two"], ["one", "two"]])
    for name in names:
        f.system.collectors[name].kill()
    if len(names) == 1 and f.draw("until", ["soon", "soon", "soon", "soon", "taken over"]) == "taken over":
        other = f.system.other(names[0])
        await_true(lambda: sum(n for _, n in f.system.shards_of(other.name)) == 16, "the other collector to lead all shards", 60)
    else:
        f.sleep(0, 3)
    yield
    for name in names:
        f.system.collectors[name].start()


def kill_emitter(f):
    parts = [f.system.emitter]
    if f.draw("also", ["the fleet", "nobody"]) == "the fleet":
        parts.append(f.system.sim)
    for part in parts:
        part.kill()
    f.sleep(0, 2)
    yield
    for part in parts:
        part.start()
    for part in parts:
        signs(part)


def kill_broker(f):
    broker = f.system.broker
    persistence = f.draw("persistence", ["saved", "stale", "none"])
    if persistence == "saved" or not broker.saved.exists():
        broker.save()
    broker.kill()
    if persistence == "none":
        broker.saved.unlink()
    f.sleep(*f.draw("between", [(0, 3), (0, 3), (0, 3), (15, 20)]))
    yield
    broker.start()
    await_true(broker.is_up, "the broker", EVIDENCE)
    if broker.saved.exists() != (persistence != "none"):
        raise Failure(f"the broker began with persistence={persistence}, and its file says otherwise: {broker.tail()}")


def kill_postgres(f):
    database = f.system.database
    if f.draw("what", ["all", "all", "one backend"]) == "all":
        database.kill()
        f.sleep(0, 3)
        yield
        database.start()
        return
    since = database.log_size()
    os.kill(f.random.choice(backends(f.system)), signal.SIGKILL)
    await_true(lambda: database.logged("terminating any other active server processes", since), "PostgreSQL to notice", EVIDENCE)
    yield


def backends(system):
    """In the order of their beginning, so that the same draw means the same one."""
    return [pid for pid, in system.database.sql("SELECT pid FROM pg_stat_activity WHERE usename = 'fleetstate_ingest' ORDER BY client_addr, pid")]


# ---- partitions

@contextlib.contextmanager
def partition(f, machine, ports, how):
    if how == "unplugged":
        unplug(machine)
    else:
        drop(machine, ports, {"silent": ("to", "from"), "only to": ("to",), "only from": ("from",)}[how])
    if machine.reaches(ports[0]):
        raise Failure(f"{machine.name} reaches port {ports[0]} in spite of the partition")
    yield
    if how == "unplugged":
        plug(machine)
    else:
        drop_nothing()


WAYS = ["unplugged", "silent", "only to", "only from"]


def partition_devices(f):
    how = f.draw("how", WAYS)
    with partition(f, f.system.machines["devices"], [DEVICE_PORT], how):
        signs(f.system.emitter)
        f.sleep(1, 5)
        yield


def partition_service(f):
    name = f.draw("which", ["one", "two"])
    ports = f.draw("from", [[DATABASE_PORT], [COLLECTOR_PORT], [DATABASE_PORT, COLLECTOR_PORT]])
    how = f.draw("how", WAYS)
    other = f.system.other(name)
    with partition(f, f.system.machines[name], ports, how):
        if f.draw("until", ["soon", "soon", "soon", "taken over"]) == "taken over":
            await_true(lambda: sum(n for _, n in f.system.shards_of(other.name)) == 16, "the other collector to lead all shards", 60)
        else:
            f.sleep(1, 5)
        yield


# ---- full disks

@contextlib.contextmanager
def full(directory):
    """Takes whatever becomes free, for as long as it lasts."""
    over, ballast = threading.Event(), directory / "ballast"
    seen = []

    def fill():
        with open(ballast, "wb", buffering=0) as f:
            for size in (1 << 20, 1 << 12):
                with contextlib.suppress(OSError):
                    while not over.is_set():
                        f.write(bytes(size))
            seen.append(True)
            while not over.wait(0.01):
                with contextlib.suppress(OSError):
                    while not over.is_set():
                        f.write(bytes(1 << 12))

    thread = threading.Thread(target=fill)
    thread.start()
    try:
        await_true(lambda: seen, f"{directory} to be full", EVIDENCE)
        yield
    finally:
        over.set()
        thread.join()
        ballast.unlink()


def spool_full(f):
    """A report that needs room gets it from receipted ones, or is not made. What starts can't reserve its numbers, so it does not start."""
    system = f.system
    signers = [system.emitter, system.sim]
    since = {part: part.log_size() for part in signers}
    starting = f.draw("while", ["running", "running", "starting"]) == "starting"
    spools = set(system.spools.rglob("*.seg"))
    with full(system.spools):
        if starting:
            for part in signers:
                part.kill()
                part.start()
            await_true(lambda: not any(part.is_alive() for part in signers), "the emitters to give up their start", EVIDENCE)
        else:
            await_true(lambda: system.sim.logged("report not made: observed again next time stage=spool", since[system.sim])
                       or any(not file.exists() for file in spools), "a report that needs room", EVIDENCE)
            f.sleep(0, 4)
        yield
    for part in signers:
        if not part.is_alive():
            if not part.logged("No space left on device", since[part]):
                raise Failure(f"{part.name} ended for another reason: {part.tail()}")
            part.start()
    if starting:
        for part in signers:
            signs(part)


def postgres_full(f):
    database = f.system.database
    since = database.log_size()
    with full(database.disk):
        await_true(lambda: database.logged("No space left on device", since), "PostgreSQL to find no room", EVIDENCE)
        f.sleep(0, 4)
        yield
    if not database.is_alive():
        f.tell("PostgreSQL", "ended")
        database.start()


# ---- a torn tail

def is_sound(data):
    """Whether a whole record begins there."""
    end = HEAD + int.from_bytes(data[4:8], "big")
    return HEAD < end <= len(data) and crc32c(data[:20] + data[24:end]) == int.from_bytes(data[20:24], "big")


def torn(random, segment):
    """What a write that the machine's end cut off can leave behind the last whole record: a part of the next one, or its length in zeros."""
    data = segment.read_bytes()
    whole = 16  # the file's head
    last = b""
    while len(data) - whole >= HEAD:
        length = int.from_bytes(data[whole + 4:whole + 8], "big")
        last = data[whole:whole + HEAD + length]
        whole += len(last)
    if not last:
        return None
    seq = int.from_bytes(last[8:16], "big") + 1
    record = bytearray(last[:8] + seq.to_bytes(8, "big") + last[16:])
    record[-1] ^= 1  # another message, whose checksum this is not
    cut = random.randrange(1, len(record))
    tail = {"cut": record[:cut], "zeros": bytes(len(record)), "half": record[:cut] + bytes(len(record) - cut)}
    return tail[random.choice(sorted(tail))]


def torn_tail(f):
    system = f.system
    for part in (system.emitter, system.sim):
        part.kill()
    torn_files = []
    for segment in system.emitter.segments() + f.random.sample(system.sim.segments(), 20):
        tail = torn(f.random, segment)
        if tail is not None:
            size = segment.stat().st_size
            with open(segment, "ab") as file:
                file.write(tail)
            torn_files.append((segment, size))
    f.tell("torn", len(torn_files))
    if not torn_files:
        raise Failure("no spool had a record")
    yield
    for part in (system.emitter, system.sim):
        part.start()

    def is_mended(segment, size):
        """The tail is cut off, and what stands there now is nothing or a record."""
        try:
            data = segment.read_bytes()[size:]
        except FileNotFoundError:  # room was needed
            return True
        return not data or is_sound(data)
    for part in (system.emitter, system.sim):
        signs(part)
    await_true(lambda: all(is_mended(*one) for one in torn_files), "the torn tails to be cut off", EVIDENCE)
    await_true(lambda: system.emitter.status().get("pid") == system.emitter.pid and system.emitter.status()["spool"]["damaged"] > 0,
               "the emitter to tell of damage", EVIDENCE)


# ---- time

def clock_jump(f):
    whose = f.draw("whose", ["devices", "one", "two", "database"])
    by = f.draw("seconds", [-72000, -7200, -600, 600, 7200, 72000])
    system = f.system
    collectors = [system.collectors[whose]] if whose in system.collectors else list(system.collectors.values())
    since = {c.name: c.log_size() for c in collectors}
    suspect = "SELECT count(*) FROM fleetstate.report WHERE flags & 4 <> 0"
    before = system.database.one(suspect) if whose == "devices" else 0
    system.clocks[whose].set(by)
    if whose == "devices":
        await_true(lambda: system.database.one(suspect) > before, "a report with a wrong time", EVIDENCE)
    else:
        await_true(lambda: all(c.logged("seconds ahead of the database's", since[c.name]) for c in collectors), "collectors to notice", EVIDENCE)
    f.sleep(0, 3)
    yield
    system.clocks[whose].set(0)


def slow_database(f):
    system = f.system
    if f.draw("how", ["each statement waits", "it stops and goes"]) == "each statement waits":
        system.delay(f.draw("delay", [0.5, 1, 2]))
        slow = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'fleetstate_ingest' AND wait_event = 'PgSleep'"
        await_true(lambda: system.database.one(slow) > 0, "a statement that waits", EVIDENCE)
        f.sleep(2, 4)
        yield
        system.delay(0)
        return
    end = time.monotonic() + f.draw("seconds", [3, 4])
    stopped = 0
    pause = f.draw("pause", [0.2, 0.6])
    while time.monotonic() < end:
        pids = [pid for pid in children(system.database.pid) if is_alive(pid)]
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGSTOP)
        time.sleep(pause)
        stopped += sum(is_stopped(pid) for pid in pids)
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
        time.sleep(pause / 4)
    if stopped == 0:
        raise Failure("no process of PostgreSQL was stopped")
    yield


def is_stopped(pid):
    with contextlib.suppress(OSError):
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rpartition(")")[2].split()[0] == "T"
    return False


# ---- twice

def duplicates(f):
    known = "SELECT coalesce(sum(duplicates), 0) FROM fleetstate.device_epoch"
    heard = list(f.witness.heard)
    n = min(f.draw("copies", [200, 500, 1000]), len(heard) // 2)
    messages = heard[-n:] + f.random.sample(heard, n)
    before = f.system.database.one(known)
    f.witness.bring_again(messages)
    await_true(lambda: f.system.database.one(known) > before, "a duplicate to be told apart", EVIDENCE)
    f.tell("injected", len(messages))
    yield


def lease_lost(f):
    """The connection that holds a collector's locks ends while a transaction of the same collector is under way; or the whole collector stands
    still, the other takes its shards, and it goes on as if nothing had been."""
    system = f.system
    name = f.draw("whose", ["one", "two"])
    how = f.draw("how", ["connection", "standstill"])
    collector, other = system.collectors[name], system.other(name)
    address = system.machines[name].address
    await_true(lambda: system.shards_of(name), f"{name} to lead shards", 60)
    system.delay(1)
    try:
        for _ in range(10):
            if writes_on_without_lease(system, collector, address, how):
                break
        else:
            raise Failure(f"{name} was not caught writing")
    finally:
        system.delay(0)
    if how == "standstill":
        # As if its last sign of life were old: the other takes its shards as soon as it looks.
        system.database.sql("UPDATE fleetstate.collector SET seen_at = now() - interval '1 minute' WHERE name = %s", (name,))
        await_true(lambda: sum(n for _, n in system.shards_of(other.name)) == 16, "the other collector to lead all shards", 60)
        before = collector.log_size()
        yield
        collector.signal(signal.SIGCONT)
        await_true(lambda: collector.logged("and with it", before), "the collector to notice that it leads nothing", EVIDENCE)
    else:
        yield


def writes_on_without_lease(system, collector, address, how):
    """Whether a transaction that was under way when the lease was there is under way when it is gone."""
    def writing():
        return system.database.sql("SELECT pid, xact_start::text FROM pg_stat_activity WHERE usename = 'fleetstate_ingest' AND client_addr = %s"
                                   " AND xact_start IS NOT NULL AND query ~ 'device_hot|COMMIT'", (address,))
    asleep = "SELECT count(*) FROM pg_stat_activity WHERE client_addr = %s AND wait_event = 'PgSleep'"
    await_true(lambda: system.shards_of(collector.name) and system.database.one(asleep, (address,)), f"{collector.name} to lead and write", 60)
    if how == "standstill":
        collector.signal(signal.SIGSTOP)
        threads = pathlib.Path(f"/proc/{collector.pid}/task")
        await_true(lambda: all(is_stopped(int(thread.name)) for thread in threads.iterdir()), f"{collector.name} to stand still", EVIDENCE)
    before, lost = set(writing()), [pid for pid, _ in system.shards_of(collector.name)]
    for pid in lost:
        system.database.sql("SELECT pg_terminate_backend(%s)", (pid,))
    await_true(lambda: not any(pid in lost for pid, _ in system.shards_of(collector.name)), "the lease to be gone", EVIDENCE)
    still = before & set(writing())
    if not still and how == "standstill":
        collector.signal(signal.SIGCONT)
    return bool(lost and still)


FAULTS = {
    "kill-collector": kill_collector,
    "kill-emitter": kill_emitter,
    "kill-broker": kill_broker,
    "kill-postgres": kill_postgres,
    "partition-devices": partition_devices,
    "partition-service": partition_service,
    "spool-full": spool_full,
    "postgres-full": postgres_full,
    "torn-tail": torn_tail,
    "clock-jump": clock_jump,
    "slow-database": slow_database,
    "duplicates": duplicates,
    "lease-lost": lease_lost,
}
