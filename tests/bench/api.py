"""What the interface's first questions cost with a large fleet, over a primary-key read of the same database in the same run. Medians of interleaved
questions over one kept connection each; prints {name: ratio}."""

import json
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

import psycopg2
import requests

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/system"))
from parts import BIN, Database, await_true, free_port, is_open  # noqa: E402

# One in five is degraded, with an alert of its own; as many are silent together, under one group.
FLEET = """
INSERT INTO device (tenant_id, ueid, lifecycle, posture, reasons, serial, hwmodel, swname, swversion)
SELECT tenant_id, '\\x01' || substr(sha256(i::text::bytea), 1, 16), 'active', (ARRAY['operational', 'degraded', 'silent', 'unknown', 'operational'])[1 + i %% 5],
	CASE i %% 5 WHEN 1 THEN '{certificate-ending}' WHEN 2 THEN '{silent}' ELSE '{}' END::text[], 'S-' || i, 'model-' || i %% 7, 'os', '1.' || i %% 20
FROM tenant, generate_series(1, %(n)s) i;
INSERT INTO device_hot (device_id, tenant_id, epoch, hi, last_seen, interval_s) SELECT device_id, tenant_id, 7, 9, now(), 60 FROM device ON CONFLICT DO NOTHING;
INSERT INTO alert (device_id, tenant_id, policy_id) SELECT d.device_id, d.tenant_id, p.policy_id FROM device d, policy p
	WHERE p.id = 'certificate-ending' AND d.posture = 'degraded' ORDER BY 1;
INSERT INTO alert (tenant_id, policy_id, devices) SELECT t.tenant_id, p.policy_id, %(n)s / 5 FROM tenant t, policy p WHERE p.id = 'silent';
INSERT INTO alert (device_id, tenant_id, policy_id, group_id) SELECT d.device_id, d.tenant_id, p.policy_id, (SELECT max(alert_id) FROM alert) FROM device d, policy p
	WHERE p.id = 'silent' AND d.posture = 'silent' ORDER BY 1;
"""
QUESTIONS = {
    "fleet summary": "/v1/fleet",
    "degraded devices, first page": "/v1/devices?posture=degraded",
    "open alerts, first page": "/v1/alerts?state=open,acknowledged,silenced",
}


def main(devices=100000, rounds=200):
    directory = pathlib.Path(tempfile.mkdtemp(prefix="fleetstate-bench-"))
    directory.chmod(0o777)
    db = Database(directory, "fsync=off", "shared_buffers=256MB")
    process = None
    try:
        db.cli("migrate")
        db.cli("tenant", "add", "acme", "Acme")
        token = db.cli("token", "add", "--tenant", "acme", "--role", "viewer", "bench")
        db.sql(FLEET, {"n": devices})
        owner = psycopg2.connect(db.uri("postgres"))
        owner.autocommit = True
        owner.cursor().execute("VACUUM ANALYZE")
        last = db.one("SELECT max(device_id) FROM device")
        reader = owner.cursor()
        reader.execute("PREPARE one (bigint) AS SELECT * FROM fleetstate.device WHERE device_id = $1")
        port = free_port()
        process = subprocess.Popen([BIN / "serve-alone", db.uri("fleetstate_api"), str(port)])
        await_true(lambda: is_open(port), "the server")
        session = requests.Session()
        session.headers["Authorization"] = "Bearer " + token
        took = {name: [] for name in ["key", *QUESTIONS]}
        for i in range(rounds):
            begun = time.perf_counter()
            reader.execute("EXECUTE one (%s)", (1 + i * 7919 % last,))
            reader.fetchall()
            took["key"].append(time.perf_counter() - begun)
            for name, path in QUESTIONS.items():
                begun = time.perf_counter()
                answer = session.get(f"http://127.0.0.1:{port}{path}")
                took[name].append(answer.elapsed.total_seconds())
                assert answer.status_code == 200 and time.perf_counter() > begun
        median = {name: statistics.median(times) for name, times in took.items()}
        print(json.dumps({"key_us": round(median["key"] * 1e6), **{name: round(median[name] / median["key"], 1) for name in QUESTIONS}}))
    finally:
        if process:
            process.terminate()
            process.wait(10)
        db.stop()
        subprocess.run(["rm", "-rf", directory], check=True)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
