"""A million devices: the summary; of lists the first page and page 10,000 by every order, and the first page by every simple filter. Each is asked some times in a
row, over as many reads of a row by its primary key right before, as machines get faster and slower by half within a minute; and over what a client pays for one
device. Two costs: how long a client waits; and processor time, of PostgreSQL alone for the row, of PostgreSQL and of the server for an answer: that leaves out
what a client does, and what others do on the machine."""

import base64
import hashlib
import hmac
import itertools
import json
import os
import pathlib
import statistics
import struct
import subprocess
import sys
import time

import psycopg2

from api import Client
from parts import BIN, Database, await_true, free_port, is_open

DEVICES, ROUNDS, TIMES, PAGE = int(os.environ.get("MILLION_DEVICES", 1_000_000)), 15, 25, 100
# Of each order: the key as device_list() has it, and what says when a device moved in it.
SORTS = {
    "enrolled": (None, None), "ueid": ("ueid", None), "serial": ("list_key(serial) COLLATE \"C\"", "described_at"),
    "model": ("list_key(hwmodel) COLLATE \"C\"", "described_at"), "firmware": ("list_key(swversion) COLLATE \"C\"", "described_at"),
    "posture": ("posture_rank(posture)", "posture_since"), "posture_since": ("posture_since", "posture_since"),
    "first_seen": ("list_key(first_seen)", "first_seen"), "last_seen": ("last_seen", "last_seen")}
FILTERS = {
    "posture": "posture=degraded", "posture, rare": "posture=untrusted", "lifecycle": "lifecycle=retired", "lifecycle, rare": "lifecycle=pending", "model": "model=model-0",
    "model, rare": "model=model-39", "firmware": "firmware=2.3", "q, of many": "q=model-3", "q, of one": "q=SN-{serial}", "q, of none": "q=nowhere", "q, of one in forty": "q=model-12", "q, of one in four thousand": "q=SN-995", "label": "label=site",
    "label, rare": "label=site:s5", "policy": "policy=silent", "component": "component=package-7", "component and version": "component=package-7&component_version=1.4-1",
    "where": "where=strict%20$.boot.secure%20%3D%3D%20true", "changed_since": "changed_since=2026-04-26T17:45:00Z", "as_of": "as_of=2026-11-01T00:00:00Z"}
RANGE = "component=package-7&component_version=vers:deb/%3C1.5-1"


def seed(cursor, devices):
    """Without the triggers, and with indexes that are made at the end."""
    text = (pathlib.Path(__file__).parent / "million.sql").read_text().replace("{devices}", str(devices))
    cursor.execute("SELECT indexrelid::regclass::text, pg_get_indexdef(indexrelid) FROM pg_index WHERE NOT indisunique AND indrelid IN ('device'::regclass,"
                   " 'device_words'::regclass, 'device_history'::regclass, 'state_history'::regclass, 'device_state'::regclass, 'device_verdict'::regclass)")
    indexes = cursor.fetchall()
    for name, _ in indexes:
        cursor.execute(f"DROP INDEX {name}")
    cursor.execute("ALTER TABLE device DISABLE TRIGGER USER; ALTER TABLE device_state DISABLE TRIGGER USER")
    for statement in filter(str.strip, text.split(";\n")):
        cursor.execute(statement)
    for _, definition in indexes:
        cursor.execute(definition)
    cursor.execute("ALTER TABLE device ENABLE TRIGGER USER; ALTER TABLE device_state ENABLE TRIGGER USER")
    cursor.execute("SELECT order_heard()")
    cursor.execute("VACUUM ANALYZE")


def deep(cursor, sort, devices):
    """The cursor of the last page but one, as cursor.c prints it: read page by page it would take long."""
    key, moved = SORTS[sort.lstrip("-")]
    way = "DESC" if sort[0] == "-" else "ASC"
    rows = "device d JOIN (SELECT device_id AS id, last_seen FROM device_hot) h ON h.id = d.device_id"
    cursor.execute(f"SELECT device_id, ({key or 'NULL'})::text FROM {rows} ORDER BY {key + ' ' + way + ',' if key else ''} device_id {way} OFFSET %s LIMIT 1", (devices - 2 * PAGE,))
    device, text = cursor.fetchone()
    began = 1
    if moved:
        cursor.execute(f"SELECT coalesce((extract(epoch FROM max({moved})) * 1000000)::int8, 1) FROM {rows}")
        [(began,)] = cursor.fetchall()
    cursor.execute("SELECT tenant_id FROM tenant WHERE id = 'acme'")
    [(tenant,)] = cursor.fetchall()
    cursor.execute("SELECT read_cursor_secret()")
    [(secret,)] = cursor.fetchall()
    position = struct.pack(">iqqq", tenant, device, began, 0) + (text or "").encode()
    name = b"".join(part.encode() + b"\0" for part in ("/v1/devices", "sort", sort))
    mac = hmac.new(bytes(secret), struct.pack(">H", len(position)) + position + name, hashlib.sha256).digest()[:16]
    return base64.urlsafe_b64encode(position + mac).rstrip(b"=").decode()


def measure(directory):
    database = Database(directory, "fsync=off", "shared_buffers=2GB", "maintenance_work_mem=512MB", "max_wal_size=8GB", "jit=off")
    server = None
    try:
        database.cli("tenant", "add", "acme", "Acme")
        token = database.cli("token", "add", "--tenant", "acme", "--role", "viewer", "bench")
        rows = psycopg2.connect(database.uri("fleetstate_owner"))
        rows.autocommit = True
        seed(rows.cursor(), DEVICES)
        port = free_port()
        server = subprocess.Popen([BIN / "serve-alone", database.uri("fleetstate_api"), str(port)], stderr=subprocess.DEVNULL)
        await_true(lambda: is_open(port), "the server")
        return play(rows.cursor(), Client(port, token), server.pid, DEVICES)
    finally:
        if server is not None:
            server.terminate()
            server.wait(30)
        database.stop()


def used(pids):
    """Nanoseconds of processor time."""
    return sum(int(path.read_text().split()[0]) for pid in pids for path in pathlib.Path(f"/proc/{pid}/task").glob("*/schedstat"))


def cost(pids, function, times):
    """Microseconds of processor time, and of waiting."""
    before, begin = used(pids), time.perf_counter()
    for _ in range(times):
        function()
    return (used(pids) - before) / times / 1000, (time.perf_counter() - begin) / times * 1e6


def play(cursor, client, server, devices):
    cursor.execute("PREPARE one AS SELECT * FROM device WHERE device_id = $1")
    cursor.execute("SELECT substr(serial, 4), encode(ueid, 'hex'), pg_backend_pid() FROM device WHERE device_id = %s", (devices // 2,))
    [(serial, ueid, own)] = cursor.fetchall()
    questions = {"one device": f"/v1/devices/{ueid}", "fleet": "/v1/fleet", "range": f"/v1/devices?{RANGE}",
                 **{name: f"/v1/devices?{query.format(serial=serial)}" for name, query in FILTERS.items()}}
    orders = [way + name for name in SORTS for way in ("", "-")]
    for sort in orders:
        questions["first " + sort] = f"/v1/devices?sort={sort}"
        questions["deep " + sort] = f"/v1/devices?sort={sort}&cursor={deep(cursor, sort, devices)}"
        assert len(json.loads(client.ask(questions["deep " + sort]))["items"]) == PAGE, sort
    for path in questions.values():
        client.ask(path)
        client.ask(path)
    cursor.execute("SELECT pid FROM pg_stat_activity WHERE usename = 'fleetstate_api'")
    pids = [server, *(pid for (pid,) in cursor.fetchall())]
    took = {name: [] for name in questions}
    numbers = itertools.cycle(range(1, devices, 479))
    for _ in range(ROUNDS):
        for name, path in questions.items():
            row = cost([own], lambda: (cursor.execute(f"EXECUTE one ({next(numbers)})"), cursor.fetchall()), TIMES)
            took[name].append((row, cost(pids, lambda: client.ask(path), TIMES)))
    rows = [statistics.median(row[which] for times in took.values() for row, _ in times) for which in (0, 1)]
    spent, waited = ({name: statistics.median(answer[which] for _, answer in times) for name, times in took.items()} for which in (0, 1))
    ratios, waits = ({name: round(statistics.median(answer[which] / row[which] for row, answer in times), 1) for name, times in took.items()} for which in (0, 1))
    pages, page_waits = ({sort: round(statistics.median(deep[which] / first[which] for (_, first), (_, deep) in zip(took["first " + sort], took["deep " + sort])), 2)
                          for sort in orders} for which in (0, 1))
    for name in questions:
        print(f"  {waits[name]:7.1f} x a row in time {ratios[name]:7.1f} in processor time {spent[name] / spent['one device']:5.2f} x one device   {name}", file=sys.stderr)
    return {"devices": devices, "row_us": round(rows[0], 1), "row_wait_us": round(rows[1], 1), "device_ratio": ratios["one device"],
            **worst("wait_", waits, page_waits, orders), **worst("", ratios, pages, orders), "ratios": ratios, "waits": waits, "pages": pages, "page_waits": page_waits}


def worst(kind, ratios, pages, orders):
    return {f"order_{kind}worst": max(ratios[f"first {s}"] for s in orders), f"filter_{kind}worst": max(ratios[name] for name in FILTERS), f"range_{kind}ratio": ratios["range"],
            f"fleet_{kind}ratio": ratios["fleet"], f"deep_{kind}worst": max(pages.values())}
