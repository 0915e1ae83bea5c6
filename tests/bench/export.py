"""A million devices for asset systems: CSV against psql's own copy of the same rows, the collector's memory meanwhile, and what ingestion loses by it."""

import contextlib
import os
import statistics
import subprocess
import threading
import time

from ingest import Load
from ingesting import System, resident
from parts import POSTGRES, await_true

DEVICES = int(os.environ.get("EXPORT_DEVICES", 1_000_000))
ROUNDS = int(os.environ.get("EXPORT_ROUNDS", 3))
LOAD_DEVICES, FULL_ROUNDS, LOAD_S = 1000, 20, 20
FORMATS = ("csv", "ndjson", "cyclonedx")

# A fleet that nobody has to judge: heard tomorrow, so that it is not silent today. The triggers' work is done at once instead of row by row.
SEED = """
ALTER TABLE device DISABLE TRIGGER USER;
INSERT INTO device (tenant_id, ueid, lifecycle, posture, reasons, serial, vendor, hwmodel, hwversion, swname, swversion, kernel, first_seen)
SELECT (SELECT tenant_id FROM tenant WHERE id = 'fleet'), '\\x01'::bytea || substr(sha256(i::text::bytea), 1, 16), 'active',
	CASE WHEN i % 50 = 0 THEN 'degraded' ELSE 'operational' END, CASE WHEN i % 50 = 0 THEN '{nistir-8259.su.2.secure-boot}'::text[] ELSE '{}' END,
	'S-' || i, 'Example Devices', 'model-' || i % 20, 'B', 'Debian GNU/Linux', '1.' || i % 10, '6.1.0-18-arm64', now() FROM generate_series(1, {devices}) i;
INSERT INTO device_hot (device_id, tenant_id, epoch, hi, last_seen, interval_s)
SELECT device_id, tenant_id, 81985529216486895, 9, now() + interval '1 day', 86400 FROM device d WHERE tenant_id = (SELECT tenant_id FROM tenant WHERE id = 'fleet');
INSERT INTO device_state SELECT device_id, tenant_id, 81985529216486895, 9, now(), now(), sha256(device_id::text::bytea), sha256('i'),
	jsonb_build_object('boot', jsonb_build_object('secure', true), 'access', jsonb_build_object('ssh_password', false)) FROM device
	WHERE tenant_id = (SELECT tenant_id FROM tenant WHERE id = 'fleet');
INSERT INTO fleet_tally SELECT d.tenant_id, t.kind, d.lifecycle, t.value, count(*) FROM device d, tallies_of(d.lifecycle, d.posture, d.hwmodel, d.swversion) t
	WHERE d.tenant_id = (SELECT tenant_id FROM tenant WHERE id = 'fleet') GROUP BY 1, 2, 3, 4;
ALTER TABLE device ENABLE TRIGGER USER;
"""
# The same columns of the same rows, as PostgreSQL writes them: without the conversions of times that the interface makes.
COLUMNS = """encode(d.ueid, 'hex') AS ueid, t.id AS tenant, d.serial, d.vendor, d.hwmodel, d.hwversion, d.oemid, d.swname, d.swversion, d.kernel,
 d.lifecycle, d.posture, array_to_string(d.reasons, ' ') AS reasons, d.posture_since, d.first_seen, h.last_seen,
 CASE WHEN h.hi > 0 THEN encode(int8send(h.epoch), 'hex') END AS epoch, nullif(h.hi, 0) AS seq, nullif(h.interval_s, 0) AS interval_s, d.support_until,
 d.end_of_life, encode(s.state_digest, 'hex') AS state_digest, encode(s.inventory_digest, 'hex') AS inventory_digest, d.unknowns,
 array_to_string(d.labels, ' ') AS labels""".replace("\n", "")
TABLES = """ FROM device d JOIN tenant t ON t.tenant_id = d.tenant_id LEFT JOIN device_hot h ON h.device_id = d.device_id
 LEFT JOIN device_state s ON s.device_id = d.device_id""".replace("\n", "")
COPY = f"\\copy (SELECT {COLUMNS}{TABLES} WHERE t.id = 'fleet') TO '{{file}}' CSV HEADER"


def seed(database, devices):
    """The fleet's viewer's token."""
    database.cli("tenant", "add", "fleet", "Fleet")
    database.sql(SEED.replace("{devices}", str(devices)), None)
    subprocess.run([POSTGRES / "vacuumdb", "-q", "-z", "-d", database.uri("postgres")], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return database.cli("token", "add", "--tenant", "fleet", "--role", "viewer", "bench")


def timed(words):
    begun = time.monotonic()
    subprocess.run(words, check=True)
    return time.monotonic() - begun


def copy(database, file):
    return timed([POSTGRES / "psql", "-q", "-X", "-d", database.uri("postgres") + "?options=-csearch_path%3Dfleetstate", "-c", COPY.replace("{file}", str(file))])


def fetch(url, token, file):
    return timed(["curl", "-s", "-f", "-o", file, "-H", f"Authorization: Bearer {token}", url])


def lines(file):
    with open(file, "rb") as f:
        return sum(piece.count(b"\n") for piece in iter(lambda: f.read(1 << 20), b""))


@contextlib.contextmanager
def watched(pid, most):
    """The most resident memory meanwhile, in kB, as the list's only member."""
    stop = threading.Event()

    def watch():
        while not stop.wait(0.05):
            most[0] = max(most[0], resident(pid) // 1024)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def measure(directory):
    loads = []
    system = System(directory, postgres=["fsync=off", "shared_buffers=1GB", "max_wal_size=8GB", "wal_level=minimal", "max_wal_senders=0", "jit=off"],
                    before=lambda system: loads.append(Load(system, LOAD_DEVICES)), batch_window_ms=50)
    try:
        token = seed(system.database, DEVICES)
        return {"devices": DEVICES, **play(system, token, directory), **play_ingest(system, token, loads[0])}
    finally:
        for load in loads:
            load.close()
        system.close()


def play(system, token, directory):
    pid, url = system.collector.process.pid, system.collector.url + "/v1/assets?format="
    took = {name: [] for name in ("copy", *FORMATS)}
    ours, theirs = directory / "ours", directory / "theirs"
    fetch(f"{system.collector.url}/v1/devices?limit=1000", token, ours)
    before, growth = resident(pid) // 1024, {}
    for i in range(ROUNDS):
        took["copy"].append(copy(system.database, theirs))
        for name in FORMATS:
            most = [0]
            with watched(pid, most):
                took[name].append(fetch(url + name, token, ours))
            growth[name] = max(growth.get(name, 0), (most[0] - before) / 1024)
            if name == "csv":
                assert lines(ours) == lines(theirs) == DEVICES + 1
    medians = {name: statistics.median(times) for name, times in took.items()}
    return {**{f"{name}_s": round(value, 2) for name, value in medians.items()},
            **{f"{name}_ratio": round(medians[name] / medians["copy"], 3) for name in FORMATS},
            "csv_ratios": [round(ours / theirs, 3) for ours, theirs in zip(took["csv"], took["copy"])],
            "grown_mb": round(max(growth.values()), 1), **{f"{name}_grown_mb": round(value, 1) for name, value in growth.items()}}


def take_in(system, load, rounds, rate=0):
    """Reports that were stored a second, from the first one's publication to the last one's commit."""
    load.prepare(rounds, rate)
    before, begun = system.database.one("SELECT sum(hi)::int8 FROM device_hot WHERE tenant_id = 1"), time.monotonic()
    load.begin()
    load.end()
    total = rounds * LOAD_DEVICES
    await_true(lambda: system.database.one("SELECT sum(hi)::int8 FROM device_hot WHERE tenant_id = 1") >= before + total, "all being stored", 300)
    return total / (time.monotonic() - begun)


def play_ingest(system, token, load):
    """At half of what this machine can take in, with and without exports beside it, one after the other all the while."""
    load.prepare(1)
    load.begin()
    load.end()
    await_true(lambda: system.database.one("SELECT count(*) FROM device_hot WHERE tenant_id = 1 AND hi > 0") == LOAD_DEVICES, "all devices being enrolled", 300)
    rate = int(take_in(system, load, FULL_ROUNDS) / 2)
    rounds = max(1, LOAD_S * rate // LOAD_DEVICES)
    alone, beside = [], []
    exports = 0
    for _ in range(2):
        alone.append(take_in(system, load, rounds, rate))
        stop = threading.Event()

        def export():
            nonlocal exports
            while not stop.is_set():
                for name in FORMATS:
                    fetch(f"{system.collector.url}/v1/assets?format={name}", token, "/dev/null")
                    exports += 1
                    if stop.is_set():
                        break

        thread = threading.Thread(target=export)
        thread.start()
        try:
            beside.append(take_in(system, load, rounds, rate))
        finally:
            stop.set()
            thread.join()
    return {"ingest_rate": rate, "ingest_alone": round(statistics.median(alone)), "ingest_beside": round(statistics.median(beside)), "exports_beside": exports,
            "ingest_lost": round(1 - statistics.median(beside) / statistics.median(alone), 3)}
