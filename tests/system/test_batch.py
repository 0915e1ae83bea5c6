"""One batch of ingest: what several reports in it do to each other, to the ledger and to the database, and what a database in trouble does to them."""

import datetime
import os
import re
import select
import signal
import socket
import threading
import time

import pytest
import requests
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

from ingesting import System, await_true, provision
from test_ingest import SECOND, drain, events, refused
import device as wire  # found through ingesting


class Proxy:
    """Stands between the collector and the database, and can lose the answer to a COMMIT that the database gave."""

    def __init__(self):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.target = None
        self.armed, self.cut = threading.Event(), threading.Event()
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
                server = socket.create_connection(("127.0.0.1", self.target))
            except OSError:
                continue
            threading.Thread(target=self.pass_on, args=(client, server), daemon=True).start()

    def pass_on(self, client, server):
        with client, server:
            while True:
                for one in select.select([client, server], [], [])[0]:
                    try:
                        data = one.recv(65536)
                        if not data:
                            return
                        if one is server and b"COMMIT\0" in data and self.armed.is_set():
                            self.armed.clear()
                            self.cut.set()
                            return
                        (client if one is server else server).sendall(data)
                    except OSError:
                        return

    def lose_a_commit(self):
        self.cut.clear()
        self.armed.set()


@pytest.fixture(scope="module")
def system(tmp_path_factory):
    proxy = Proxy()

    def before(system):
        proxy.target = system.database.port
        system.collector.settings["database"] = f"postgresql://fleetstate_ingest@127.0.0.1:{proxy.port}/fleetstate"
    system = System(tmp_path_factory.mktemp("batch"), postgres=["fsync=off"], before=before, batch_window_ms=700, batch_news_ms=700, workers=1)
    system.proxy = proxy
    system.database.cli("tenant", "add", "globex", "Globex")
    yield system
    system.close()


@pytest.fixture
def device(system):
    device = system.device()
    device.publish(device.full())
    device.receipt_up_to(1)
    yield device
    device.close()


def send(device, *messages):
    """Without waiting for one before the next: they come in one batch."""
    for message in messages:
        device.client.publish(device.report_topic, message, qos=1)


def of(system, device, columns, table, order):
    return system.database.sql(f"SELECT {columns} FROM {table} JOIN device d USING (device_id) WHERE d.ueid = %s ORDER BY {order}", (device.ueid,))


def other_maker(system, directory, ueid):
    """A device of that name with a key of its own, from a maker whom globex trusts."""
    provision("ca", directory)
    provision("device", directory, "--ueid", ueid.hex())
    system.trust("--tenant", "globex", directory / "maker-ca.crt")
    files = [str(directory / f"devices/{ueid.hex()}.{kind}") for kind in ("crt", "key")]
    return wire.Device(ueid, *files, str(directory / "operator-ca.crt"))


def test_an_anchor_vouches_for_its_own_tenants_devices_only(system, tmp_path):
    mine = system.device()
    theirs = other_maker(system, tmp_path, mine.ueid)
    first = mine.full()
    theirs.epoch, theirs.seq, theirs.prev = mine.epoch, 1, wire.sha256(first)
    send(mine, first, theirs.quiet())
    await_true(lambda: refused(system, mine) == {"ueid-owned-elsewhere": 1}, "the refusal")
    send(mine, theirs.quiet(chain=()))
    await_true(lambda: refused(system, mine) == {"ueid-owned-elsewhere": 1, "unknown-key": 1}, "a key that was not taken in")
    assert of(system, mine, "encode(kid, 'hex')", "device_key", 1) == [(wire.kid_of(mine.signer.public_key()).hex(),)]
    assert [seq for _, seq, _ in system.stored(mine)] == [1]


def test_a_device_registered_beforehand_is_taken_from_its_own_tenants_maker_only(system, tmp_path):
    mine = system.device()
    system.database.sql("INSERT INTO device (ueid, tenant_id, lifecycle) SELECT %s, tenant_id, 'active' FROM tenant WHERE id = 'globex'",
                        (mine.ueid,))
    send(mine, mine.full())
    await_true(lambda: refused(system, mine) == {"ueid-owned-elsewhere": 1}, "the refusal")
    theirs = other_maker(system, tmp_path, mine.ueid)
    send(mine, theirs.full())
    system.await_stored(mine, 1)
    assert of(system, mine, "encode(kid, 'hex')", "device_key", 1) == [(wire.kid_of(theirs.signer.public_key()).hex(),)]


def renewed(system, device):
    """The certificate again, for the same key and beginning a second later."""
    pki = system.broker.pki
    old = x509.load_pem_x509_certificate(wire.read(device.cert))
    maker = x509.load_pem_x509_certificate(wire.read(pki / "maker-ca.crt"))
    key = serialization.load_pem_private_key(wire.read(pki / "maker-ca.key"), None)
    begin = x509.load_der_x509_certificate(device.chain[0]).not_valid_before + datetime.timedelta(seconds=1)
    await_true(lambda: datetime.datetime.utcnow() > begin, "its beginning")
    new = x509.CertificateBuilder(maker.subject, old.subject, old.public_key(), x509.random_serial_number(), begin, old.not_valid_after)
    for extension in old.extensions:
        new = new.add_extension(extension.value, extension.critical)
    return [new.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)]


def test_a_newer_certificate_vouches_for_one_epoch(system, device):
    for expected in (0, SECOND):
        device.renew()
        send(device, device.full(chain=renewed(system, device) if expected == 0 else ()))
        device.receipt_up_to(1)
        assert system.stored(device)[-1] == (device.epoch.hex(), 1, expected)


def test_a_renewal_whose_report_is_lost_vouches_for_no_second_epoch(system, device):
    system.database.sql(f"ALTER TABLE report_quiet ADD CONSTRAINT fault CHECK (NOT (seq = 2 AND device_id = {device_id(system, device)}))")
    try:
        send(device, device.quiet(chain=renewed(system, device)))
        await_true(lambda: refused(system, device) == {"unstorable": 1}, "the report at fault")
        assert "device.renewed" in events(system, device)
    finally:
        system.database.sql("ALTER TABLE report_quiet DROP CONSTRAINT fault")
    device.renew()
    send(device, device.full())
    device.receipt_up_to(1)
    assert system.stored(device)[-1] == (device.epoch.hex(), 1, SECOND)


def test_a_late_state_hides_no_change(system, device):
    one, two = ({**device.state, 4: {2: value}} for value in (True, False))
    device.state = two
    held = device.full()
    device.state = one
    device.publish(device.full())
    device.receipt_up_to(3)
    device.state = two
    send(device, held, device.full(), device.full())
    device.receipt_up_to(5)
    assert of(system, device, "seq", "state_history", 1) == [(1,), (3,), (4,)]
    found = system.database.sql("SELECT data->>'seq', data->>'digest', data->>'previous' FROM event WHERE ueid = %s AND type = 'device.state'"
                                " ORDER BY event_id", (device.ueid,))
    digests = [wire.sha256(wire.encode(state)).hex() for state in (wire.DEFAULT_STATE, one, two)]
    assert found == [("1", digests[0], None), ("3", digests[1], digests[0]), ("4", digests[2], digests[1])]


def test_what_is_here_was_not_dropped(system, device):
    send(device, *(device.report(device.quiet_claims(), change={wire.DROPPED: [[1, 1, 2 - i % 2]]}) for i in range(20)))
    device.seq += 3
    send(device, *(device.report(device.quiet_claims(receipt=True), change={wire.DROPPED: [[1, 23, 1], [22, 24, 2]]}) for _ in range(3)))
    assert device.receipt_up_to(27).missing == []
    assert of(system, device, "dropped::text, cause, declared_by", "report_drop", 1) == [("[22,24)", "skipped", 25), ("[24,25)", "overwritten", 25)]


def test_a_commit_that_nobody_answered_is_not_done_again(system, device):
    again = device.quiet()
    device.publish(again)
    system.await_stored(device, 2)
    bad = device.quiet(keep=True)[:-1]
    system.proxy.lose_a_commit()
    send(device, again, bad, device.quiet({"receipt": True}))
    device.receipt_up_to(3)
    assert system.proxy.cut.is_set()
    assert refused(system, device) == {"truncated": 1}
    assert system.epoch(device) == (1, 0, 0, 0)
    assert "a commit in doubt: it is in" in system.collector.log()
    await_true(system.collector.is_ready, "readiness", 60)  # the lease may have been the one that was cut


def test_large_inventories_leave_no_memory_behind(system, device):
    status = f"/proc/{system.collector.process.pid}/status"

    def peak():
        return int(re.search(r"VmHWM:\s+(\d+)", open(status).read())[1])

    messages = []
    for i in range(10):
        device.inventory = wire.in_order([[0, f"{i:x}-{k:x}", "1", None, None, None, None] for k in range(20000)])
        messages.append(device.full())
    before = peak()
    send(device, *messages)
    device.receipt_up_to(11, timeout=120)
    assert system.database.one("SELECT count(*) FROM component WHERE name ~ '^[0-9a-f]+-[0-9a-f]+$'") == 200000
    # AddressSanitizer keeps up to 256 MiB of what was freed, to see who uses it.
    kept = 256 * 1024 if "libasan" in open(f"/proc/{system.collector.process.pid}/maps").read() else 0
    assert peak() - before < 48 * 1024 + kept


def device_id(system, device):
    return system.database.one("SELECT device_id FROM device WHERE ueid = %s", (device.ueid,))


@pytest.mark.parametrize("trouble", ["internal error", "no row to move"])
def test_what_the_database_does_not_take_is_left_and_holds_up_nobody(system, trouble):
    devices = [system.device() for _ in range(3)]
    for d in devices:
        d.publish(d.full())
        d.receipt_up_to(1)
    bad = devices[1]
    if trouble == "internal error":
        system.database.sql("CREATE FUNCTION fault() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'fault' USING ERRCODE = 'XX000'; END $$;"
                            " CREATE TRIGGER fault BEFORE INSERT ON report_quiet FOR EACH ROW"
                            f" WHEN (NEW.device_id = {device_id(system, bad)}) EXECUTE FUNCTION fault()")
    else:
        hot = system.database.sql("DELETE FROM device_hot WHERE device_id = %s RETURNING device_hot::text", (device_id(system, bad),))[0]
    messages = [(d, {2: d.quiet({"receipt": True})}) for d in devices]
    before = system.collector.log().count("is left to its device")
    try:
        for d, kept in messages:
            send(d, kept[2])
        for d in devices:
            if d is not bad:
                d.receipt_up_to(2, timeout=60)
        await_true(lambda: system.collector.log().count("is left to its device") > before, "that the message is left", 60)
        assert refused(system, bad) == {}
    finally:
        if trouble == "internal error":
            system.database.sql("DROP TRIGGER fault ON report_quiet; DROP FUNCTION fault()")
        else:
            system.database.sql("INSERT INTO device_hot SELECT (%s::device_hot).*", hot)
    drain(messages, 60)
    for d in devices:
        assert [seq for _, seq, _ in system.stored(d)] == [1, 2]


def test_exports_are_put_off_while_reports_are_held_up(system, device):
    token = system.database.cli("token", "add", "--tenant", "acme", "--role", "viewer", "export")

    def get(path):
        return requests.get(system.collector.url + path, headers={"Authorization": f"Bearer {token}"}, timeout=30).text

    def exported():
        """How often a piece was put off meanwhile."""
        before = counted()
        assert device.ueid.hex() in get("/v1/assets?format=csv")
        return counted() - before

    def counted():
        return int(re.search(r"^fleetstate_http_pieces_yielded_total (\d+)$", get("/metrics"), re.M)[1])

    await_true(lambda: "\nfleetstate_queue_slots 0\n" in get("/metrics"), "nothing waiting")
    assert exported() == 0
    messages = [device.quiet() for _ in range(2)]
    with system.database.held("device_hot"):
        send(device, messages[0])
        time.sleep(1.5)  # what makes it late is time
    system.await_stored(device, 2)
    with system.database.held("device_hot"):
        send(device, messages[1])
        await_true(lambda: "\nfleetstate_queue_slots 1\n" in get("/metrics"), "the report waiting")
        assert exported() > 0
    system.await_stored(device, 3)


def test_a_database_that_hangs_does_not_keep_the_collector(system, device):
    pids = [pid for pid, in system.database.sql("SELECT pid FROM pg_stat_activity WHERE query = 'COMMIT' AND usename = 'fleetstate_ingest'"
                                                " AND state = 'idle'", role="postgres")]
    assert pids
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        message = device.quiet({"receipt": True})
        send(device, message)
        time.sleep(2)
        assert len(system.stored(device)) == 1
        begun = time.monotonic()
        assert system.collector.stop() == 0
        assert time.monotonic() - begun < 30
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)
        system.collector.start()
    drain([(device, {2: message})], 60)
    assert [seq for _, seq, _ in system.stored(device)] == [1, 2]
