"""The same three questions (one device, a page of a hundred, all as CSV) to fleetstate, to PostgreSQL itself, and to what a team writes in an afternoon
(node/service.js: Node.js, fastify, pg), in turn, on the same rows in the same run. Needs node and npm, which installs into build/npm-bench."""

import json
import os
import pathlib
import shutil
import statistics
import subprocess
import time

import psycopg2

import export
from api import Client, timed
from ingest import family
from ingesting import processor_seconds
from parts import BIN, ROOT, Database, await_true, free_ports, is_open

DEVICES = min(100_000, export.DEVICES)
ROUNDS, BLOCK = 20, 50  # interleaved blocks of so many questions
CSV_ROUNDS = 3
NODE = pathlib.Path(__file__).with_name("node")

SELECT = f"SELECT d.device_id, {export.COLUMNS} {export.TABLES}"
DEVICE = f"PREPARE device AS {SELECT} WHERE d.ueid = $1"
PAGE = f"PREPARE page AS {SELECT} WHERE d.tenant_id = $1 AND d.device_id > $2 ORDER BY d.device_id LIMIT 100"


def install():
    """Where the service lies; None: there is no npm, or it reaches no registry."""
    if shutil.which("npm") is None:
        return None
    kept = ROOT / "build/npm-bench"
    kept.mkdir(parents=True, exist_ok=True)
    for file in NODE.iterdir():
        shutil.copy(file, kept)
    wanted = json.loads((NODE / "package.json").read_text())["dependencies"]
    if all((kept / "node_modules" / name / "package.json").exists() for name in wanted):
        return kept
    words = ["npm", "install", "--prefix", kept, "--no-audit", "--no-fund", "--ignore-scripts"]
    return kept if subprocess.run(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode == 0 else None


def measure(directory):
    kept = install()
    if kept is None:
        return {"left_out": "npm or its registry is not there"}
    database = Database(directory, "fsync=off", "shared_buffers=512MB", "jit=off")
    servers = []
    try:
        token = export.seed(database, DEVICES)
        ports = free_ports(2)
        servers.append(subprocess.Popen([BIN / "serve-alone", database.uri("fleetstate_api"), str(ports[0])], stderr=subprocess.DEVNULL))
        servers.append(subprocess.Popen(["node", "service.js", database.uri("postgres"), str(ports[1])], cwd=kept, env={**os.environ, "NODE_ENV": "production"}))
        for port in ports:
            await_true(lambda port=port: is_open(port), "a server")
        postmaster = int((database.directory / "postmaster.pid").read_text().split()[0])
        return play(database, token, ports, [s.pid for s in servers], postmaster, directory)
    finally:
        for server in servers:
            server.terminate()
            server.wait(30)
        database.stop()


class Postgres:
    """The same rows by a statement that is prepared, without the wire's other side."""

    def __init__(self, database):
        db = psycopg2.connect(database.uri("postgres"))
        db.autocommit = True
        self.cursor = db.cursor()
        self.cursor.execute("SET search_path = fleetstate")
        self.tenant = database.one("SELECT tenant_id FROM tenant WHERE id = 'fleet'")
        self.cursor.execute(DEVICE)
        self.cursor.execute(PAGE)

    def device(self, ueid):
        self.cursor.execute("EXECUTE device (%s)", (bytes.fromhex(ueid),))
        assert len(self.cursor.fetchall()) == 1

    def page(self, after):
        self.cursor.execute("EXECUTE page (%s, %s)", (self.tenant, after))
        assert len(self.cursor.fetchall()) == 100


def play(database, token, ports, pids, postmaster, directory):
    ours, theirs, postgres = Client(ports[0], token), Client(ports[1], token), Postgres(database)
    ueids = [u for u, in database.sql("SELECT encode(ueid, 'hex') FROM device ORDER BY ueid LIMIT 1000")]
    asks = {
        ("device", "postgres"): lambda i: postgres.device(ueids[i % 1000]), ("device", "fleetstate"): lambda i: ours.ask(f"/v1/devices/{ueids[i % 1000]}"),
        ("device", "node"): lambda i: theirs.ask(f"/devices/{ueids[i % 1000]}"), ("page", "postgres"): lambda i: postgres.page(0),
        ("page", "fleetstate"): lambda i: ours.ask("/v1/devices"), ("page", "node"): lambda i: theirs.ask("/devices"),
    }
    spent = {"postgres": lambda: family(postmaster), "fleetstate": lambda: family(postmaster) + processor_seconds(pids[0]),
             "node": lambda: family(postmaster) + processor_seconds(pids[1])}
    took, used = {key: [] for key in asks}, dict.fromkeys(asks, 0.0)
    for key, ask in asks.items():
        for i in range(BLOCK):
            ask(i)
    for block in range(ROUNDS):
        for (what, who), ask in asks.items():
            before = spent[who]()
            took[what, who] += [timed(lambda i=i: ask(i)) for i in range(block * BLOCK, (block + 1) * BLOCK)]
            used[what, who] += spent[who]() - before
    figures = {"devices": DEVICES}
    for what, who in asks:
        figures[f"{what}_{who}_us"] = round(statistics.median(took[what, who]) * 1e6)
        figures[f"{what}_{who}_cpu_us"] = round(used[what, who] / ROUNDS / BLOCK * 1e6)
    csv = {"postgres": [], "fleetstate": [], "node": []}
    for _ in range(CSV_ROUNDS):
        csv["postgres"].append(export.copy(database, directory / "csv"))
        csv["fleetstate"].append(export.fetch(f"http://127.0.0.1:{ports[0]}/v1/assets?format=csv", token, directory / "csv"))
        csv["node"].append(export.fetch(f"http://127.0.0.1:{ports[1]}/devices.csv", token, directory / "csv"))
        assert export.lines(directory / "csv") == DEVICES + 1
    figures |= {f"csv_{who}_s": round(statistics.median(times), 2) for who, times in csv.items()}
    for what, unit in (("device", "us"), ("page", "us"), ("csv", "s")):
        one, other, base = (figures[f"{what}_{who}_{unit}"] for who in ("fleetstate", "node", "postgres"))
        figures[f"{what}_of_postgres"], figures[f"{what}_of_node"] = round(one / base, 2), round(one / other, 2)
    return figures
