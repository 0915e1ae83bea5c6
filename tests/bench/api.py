"""What the HTTP interface answers on 100,000 devices, each question over a read of one row by its primary key in the same run; and a preview."""

import json
import socket
import statistics
import subprocess
import time

import psycopg2

from parts import BIN, Database, await_true, free_port, is_open

DEVICES, ROUNDS = 100_000, 200
QUESTIONS = {"fleet": "/v1/fleet", "degraded": "/v1/devices?posture=degraded", "alerts": "/v1/alerts?state=open"}

SEED = """
INSERT INTO device (tenant_id, ueid, lifecycle, posture, reasons, serial, hwmodel, swname, swversion)
SELECT tenant_id, '\\x01'::bytea || substr(sha256(i::text::bytea), 1, 16), 'active', CASE WHEN i % 50 = 0 THEN 'degraded' ELSE 'operational' END,
	CASE WHEN i % 50 = 0 THEN '{secure-boot-off}'::text[] ELSE '{}' END, 'S-' || i, 'model-' || i % 20, 'os', '1.' || i % 10
FROM tenant, generate_series(1, {devices}) i;
INSERT INTO device_hot (device_id, tenant_id, epoch, hi, last_seen, interval_s) SELECT device_id, tenant_id, 1, 9, now(), 60 FROM device;
INSERT INTO device_state SELECT device_id, tenant_id, 1, 9, now(), now(), sha256('s'), sha256('i'),
	jsonb_build_object('boot', jsonb_build_object('secure', device_id % 50 <> 0), 'access', jsonb_build_object('ssh_password', false)) FROM device;
INSERT INTO alert (device_id, tenant_id, policy_id, reasons) SELECT device_id, d.tenant_id, (SELECT min(policy_id) FROM policy), '{}'
FROM device d WHERE posture = 'degraded';
"""


class Client:
    """HTTP with keep-alive and nothing else, so that its own time is small."""

    def __init__(self, port, token):
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.token = token

    def ask(self, path, method="GET", body=b""):
        more = f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n" if body else ""
        self.socket.sendall(f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {self.token}\r\n{more}\r\n".encode() + body)
        answer = b""
        while b"\r\n\r\n" not in answer:
            answer += self.receive()
        head, _, got = answer.partition(b"\r\n\r\n")
        lines = head.split(b"\r\n")
        assert lines[0].split()[1] == b"200", (path, answer[:500])
        length = next(int(line.split(b":")[1]) for line in lines if line.lower().startswith(b"content-length:"))
        while len(got) < length:
            got += self.receive()
        return got

    def receive(self):
        piece = self.socket.recv(262144)
        assert piece, "the server closed the connection"
        return piece


def timed(function):
    begin = time.perf_counter()
    function()
    return time.perf_counter() - begin


def measure(directory):
    database = Database(directory, "fsync=off", "shared_buffers=512MB", "jit=off")
    server = None
    try:
        database.cli("tenant", "add", "acme", "Acme")
        token = database.cli("token", "add", "--tenant", "acme", "--role", "viewer", "bench")
        database.sql(SEED.replace("{devices}", str(DEVICES)), None)
        rows = psycopg2.connect(database.uri("fleetstate_owner"))
        rows.autocommit = True
        cursor = rows.cursor()
        cursor.execute("VACUUM ANALYZE")
        port = free_port()
        server = subprocess.Popen([BIN / "serve-alone", database.uri("fleetstate_api"), str(port)], stderr=subprocess.DEVNULL)
        await_true(lambda: is_open(port), "the server")
        return play(cursor, Client(port, token))
    finally:
        if server is not None:
            server.terminate()
            server.wait(30)
        database.stop()


def play(cursor, client):
    cursor.execute("PREPARE one AS SELECT * FROM device WHERE device_id = $1")
    for path in QUESTIONS.values():
        client.ask(path)
    took = {name: [] for name in ("row", *QUESTIONS)}
    for i in range(ROUNDS):
        took["row"].append(timed(lambda: (cursor.execute(f"EXECUTE one ({1 + i * 479 % DEVICES})"), cursor.fetchall())))
        for name, path in QUESTIONS.items():
            took[name].append(timed(lambda: client.ask(path)))
    medians = {name: statistics.median(times) for name, times in took.items()}
    body = json.dumps({"when": "strict $.boot.secure == false"}).encode()
    counts = json.loads(client.ask("/v1/policies/preview", "POST", body))["counts"]
    assert counts["not_met"] == DEVICES // 50, counts
    preview = statistics.median(timed(lambda: client.ask("/v1/policies/preview", "POST", body)) for _ in range(5))
    return {"devices": DEVICES, "row_us": round(medians["row"] * 1e6, 1), **{f"{name}_us": round(medians[name] * 1e6, 1) for name in QUESTIONS},
            **{f"{name}_ratio": round(medians[name] / medians["row"], 2) for name in QUESTIONS}, "preview_s": round(preview, 3)}
