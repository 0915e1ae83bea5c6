"""`fleetstate audit` on evidence that real devices sent: silent on what is whole, loud on each way to tamper with it."""

import base64
import copy
import hashlib
import json
import signal

import pytest

from ingesting import System, await_true
import device as wire  # found through ingesting

GAP, DROP = 7, 9  # a report that never came, and one that the device declares dropped


@pytest.fixture(scope="module")
def system(tmp_path_factory):
    system = System(tmp_path_factory.mktemp("audit"), postgres=["fsync=off"], checkpoint_interval="30d")
    yield system
    system.close()


@pytest.fixture
def device(system):
    """Twelve numbers of which ten are stored: one is missing, one was declared dropped, one is a fork besides, and one came late."""
    device = system.device()
    messages = {1: device.full()}
    for seq in range(2, 13):
        change = {-65543: [[DROP, DROP, 2]]} if seq == 10 else {}
        messages[seq] = device.full() if seq == 5 else device.report(device.quiet_claims(), change=change)
    order = [1, 2, 4, 5, 3, 6, 8, 10, 11, 12]
    for seq in order:
        device.publish(messages[seq])
    system.await_stored(device, len(order))
    assert system.stored(device)[-1][1] == 12
    yield device
    device.close()
    # The next test finds no traces of what this one did.
    for table in ("report_quiet", "report_full", "report_gap", "report_drop", "device_epoch"):
        system.database.sql(f"DELETE FROM {table} WHERE device_id = (SELECT device_id FROM device WHERE ueid = %s)", (device.ueid,))
    system.database.sql("UPDATE device_hot SET hi = 0, head = NULL WHERE device_id = (SELECT device_id FROM device WHERE ueid = %s)", (device.ueid,))


def audit(system, device, *words, status):
    lines = [json.loads(line) for line in system.database.cli("audit", "--device", device.ueid.hex(), "--json", *words, status=status).splitlines()]
    total = lines.pop()
    assert total["devices"] == 1 and total["findings"] == len(lines)
    lines = [line for line in lines if line["finding"] not in ("checkpoint", "beyond")]
    assert all(line["ueid"] == device.ueid.hex() and line["epoch"] == device.epoch.hex() for line in lines)
    return [(line["finding"], line["first"], line["last"]) for line in lines]


def change(system, device, text, seq, table="report_quiet"):
    """Runs what somebody with the database in their hands would."""
    with_rows = text.format(table=table, where="device_id = (SELECT device_id FROM device WHERE ueid = %s) AND seq = %s")
    system.database.sql(with_rows, (device.ueid, seq))


def test_what_is_whole_is_found_whole(system, device):
    assert audit(system, device, status=0) == []
    others = system.database.one("SELECT count(*) FROM report JOIN device USING (device_id) WHERE ueid <> %s", (device.ueid,))
    out = system.database.cli("audit", "--tenant", "acme", "--jobs", "4")
    assert out.endswith(" findings") and " 0 findings" in out and f" {10 + others} reports" in out


def test_a_fork_is_evidence_and_no_finding(system, device):
    device.publish(device.quiet(keep=True))
    device.publish(device.quiet({"interval": 299}))
    system.await_stored(device, 12)
    assert audit(system, device, status=0) == []


@pytest.mark.parametrize("offset", [0, 40, 120, 200])
def test_an_altered_byte(system, device, offset):
    change(system, device, "UPDATE {table} SET message = set_byte(message, %d, get_byte(message, %d) # 1) WHERE {where}" % (offset, offset), 6)
    found = audit(system, device, status=1)
    assert ("altered", 6, 6) in found
    assert [f for f in found if f[0] in ("unreadable", "bad-signature")], found


def test_an_altered_byte_with_the_digest_made_to_fit(system, device):
    change(system, device, "UPDATE {table} SET message = set_byte(message, 150, get_byte(message, 150) # 1) WHERE {where}", 6)
    change(system, device, "UPDATE {table} SET sha256 = sha256(message) WHERE {where}", 6)
    found = audit(system, device, status=1)
    assert found[0][1:] == (6, 6) and found[0][0] in ("unreadable", "bad-signature")


def test_a_backlog_is_proven_by_its_newest_signature(system, device):
    """The device itself signed the digests of reports whose signatures it spoilt: they are stored, and are evidence while what vouches for them is there."""
    def send_backlog():
        """Whether it was verified at once: its parts may come too far from one another."""
        backlog = [device.quiet(chain=(), signature=wire.sign(device.signer, b"something else")) for _ in range(2)] + [device.quiet(chain=())]
        system.collector.process.send_signal(signal.SIGSTOP)
        for message in backlog:
            device.publish(message)
        system.collector.process.send_signal(signal.SIGCONT)
        await_true(lambda: device.seq in [seq for _, seq, _ in system.stored(device)], "the newest")
        return [seq for _, seq, _ in system.stored(device)][-3:] == [device.seq - 2, device.seq - 1, device.seq]

    await_true(send_backlog, "a backlog at once", 60)
    assert audit(system, device, status=0) == []
    change(system, device, "DELETE FROM {table} WHERE {where}", device.seq)
    found = sorted(audit(system, device, status=1))
    assert found == [("bad-signature", device.seq - 2, device.seq - 1), ("tail", device.seq, device.seq)]
    # Alone, or as the newest, such a one is nobody's.
    alone = device.quiet(chain=(), keep=True, signature=wire.sign(device.signer, b"something else"))
    device.publish(alone)
    digest = hashlib.sha256(alone).digest()
    await_true(lambda: system.database.one("SELECT count(*) FROM refusal WHERE sha256 = %s AND reason = 'bad-signature'", (digest,)) == 1, "a refusal")


@pytest.mark.parametrize("seq,table", [(3, "report_quiet"), (5, "report_full"), (11, "report_quiet"), (1, "report_full")])
def test_a_row_deleted_from_the_middle(system, device, seq, table):
    change(system, device, "DELETE FROM {table} WHERE {where}", seq, table)
    assert audit(system, device, status=1) == [("missing", seq, seq)]


def test_a_deleted_row_that_the_ledger_was_made_to_miss(system, device):
    """Whoever can delete the row can write a gap too: that much is then in plain sight."""
    change(system, device, "DELETE FROM {table} WHERE {where}", 11)
    system.database.sql("INSERT INTO report_gap SELECT device_id, %s, '[11,12)', tenant_id FROM device WHERE ueid = %s",
                        (int.from_bytes(device.epoch, "big", signed=True), device.ueid))
    assert audit(system, device, status=0) == []
    assert system.database.one("SELECT count(*) FROM report_gap JOIN device USING (device_id) WHERE ueid = %s", (device.ueid,)) == 2


def test_a_tail_cut_off(system, device):
    change(system, device, "DELETE FROM {table} WHERE {where}", 12)
    assert audit(system, device, status=1) == [("tail", 12, 12)]
    change(system, device, "DELETE FROM {table} WHERE {where}", 11)
    assert audit(system, device, status=1) == [("tail", 11, 12)]


def test_all_of_it_gone(system, device):
    for table in ("report_quiet", "report_full"):
        system.database.sql(f"DELETE FROM {table} WHERE device_id = (SELECT device_id FROM device WHERE ueid = %s)", (device.ueid,))
    assert audit(system, device, status=1) == [("tail", 1, 6), ("tail", 8, 8), ("tail", 10, 12)]


def test_two_reports_that_changed_places(system, device):
    swap = "UPDATE report_quiet r SET {0} FROM (SELECT seq, sha256, message FROM report_quiet WHERE device_id = (SELECT device_id FROM device WHERE ueid = %s)) o" \
           " WHERE device_id = (SELECT device_id FROM device WHERE ueid = %s) AND (r.seq, o.seq) IN ((2, 4), (4, 2))"
    system.database.sql(swap.format("sha256 = o.sha256, message = o.message"), (device.ueid, device.ueid))
    found = audit(system, device, status=1)
    assert ("misplaced", 2, 2) in found and ("misplaced", 4, 4) in found


def test_a_report_of_another_device(system, device):
    other = system.device()
    other.publish(other.full())
    await_true(lambda: system.stored(other), "the other's")
    system.database.sql("UPDATE report_full SET sha256 = o.sha256, message = o.message FROM (SELECT sha256, message FROM report JOIN device USING (device_id)"
                        " WHERE ueid = %s) o WHERE seq = 5 AND device_id = (SELECT device_id FROM device WHERE ueid = %s)", (other.ueid, device.ueid))
    found = audit(system, device, status=1)
    assert ("bad-signature", 5, 5) in found and ("altered", 5, 5) not in found


def test_a_report_moved_to_a_missing_number(system, device):
    change(system, device, "UPDATE {table} SET seq = 7 WHERE {where}", 6)
    found = audit(system, device, status=1)
    assert ("misplaced", 7, 7) in found and ("not-missing", 7, 7) in found and ("missing", 6, 6) in found


def test_a_copy_under_the_same_number(system, device):
    change(system, device, "INSERT INTO {table} SELECT device_id, epoch, seq, received_at + interval '1 ms', tenant_id, issued_at, sha256, flags, sections, message"
           " FROM {table} WHERE {where}", 6)
    assert audit(system, device, status=1) == [("double", 6, 6)]


def test_a_key_that_had_ended(system, device):
    system.database.sql("UPDATE device_key SET not_after = now() - interval '31 days' WHERE device_id = (SELECT device_id FROM device WHERE ueid = %s)", (device.ueid,))
    found = audit(system, device, status=1)
    assert {f[0] for f in found} == {"key-out-of-time"} and len(found) == 10


def test_a_key_put_in_its_place(system, device):
    other = system.device()
    other.publish(other.full())
    await_true(lambda: system.stored(other), "the other's")
    system.database.sql("UPDATE device_key SET spki = o.spki FROM (SELECT spki FROM device_key JOIN device USING (device_id) WHERE ueid = %s) o"
                        " WHERE device_id = (SELECT device_id FROM device WHERE ueid = %s)", (other.ueid, device.ueid))
    assert {f[0] for f in audit(system, device, status=1)} == {"bad-signature"}


def test_an_epoch_that_the_ledger_forgot(system, device):
    system.database.sql("DELETE FROM device_epoch WHERE device_id = (SELECT device_id FROM device WHERE ueid = %s)", (device.ueid,))
    assert {f[0] for f in audit(system, device, status=1)} == {"no-ledger"}


def test_since_when(system, device):
    change(system, device, "DELETE FROM {table} WHERE {where}", 3)
    later = system.database.one("SELECT '@' || extract(epoch FROM max(received_at) + interval '2 s')::bigint FROM report JOIN device USING (device_id) WHERE ueid = %s", (device.ueid,))
    assert audit(system, device, status=1) == [("missing", 3, 3)]
    assert audit(system, device, "--since", later, status=0) == []


@pytest.mark.parametrize("words", [("--device", "01"), ("--device", "zz"), ("--since", "yesterweek"), ("--jobs", "0"), ("--jobs", "x"), ("extra",), ("--tenant", "nobody")])
def test_a_wrong_call_is_told(system, words):
    system.database.cli("audit", *words, status=2)


# Checkpoints.

CHECKPOINT = -65560


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    """A system that has just made checkpoints of a device's four reports; and the device."""
    system = System(tmp_path_factory.mktemp("checkpoints"), postgres=["fsync=off"], checkpoint_interval="1s")
    try:
        device = system.device()
        for message in (device.full(), device.quiet(), device.quiet(), device.quiet()):
            device.publish(message)
        await_true(lambda: system.database.one("SELECT count(*) FROM checkpoint_leaf WHERE seq = 4") >= 2, "two checkpoints of all reports")
        assert system.collector.stop() == 0
        yield system, device
    finally:
        system.close()


@pytest.fixture
def marked(stopped):
    """The same, with a database to tamper with."""
    system = copy.copy(stopped[0])
    system.database = system.database.copy()
    return system, stopped[1]


def findings(system, *words, status=1):
    lines = [json.loads(line) for line in system.database.cli("audit", "--ca", system.broker.pki / "operator-ca.crt", "--json", *words, status=status).splitlines()]
    assert lines.pop()["findings"] == len(lines)
    return [line["finding"] for line in lines]


def root_of(leaves):
    """RFC 9162 2.1.1, as it is written there."""
    if not leaves:
        return hashlib.sha256().digest()
    if len(leaves) == 1:
        return hashlib.sha256(b"\0" + leaves[0]).digest()
    k = 1
    while 2 * k < len(leaves):
        k *= 2
    return hashlib.sha256(b"\1" + root_of(leaves[:k]) + root_of(leaves[k:])).digest()


def test_a_checkpoint_is_what_it_says(marked):
    system, device = marked
    rows = system.database.sql("SELECT number, message FROM checkpoint ORDER BY number")
    previous = None
    for number, message in rows:
        message = bytes(message)
        claims = wire.open_message(message, (system.broker.pki / "operator-ca.crt").read_bytes())[0]
        leaves = system.database.sql("SELECT ueid, epoch, seq, head, sections_head FROM checkpoint_leaf WHERE number = %s ORDER BY place", (number,))
        plain = [bytes(ueid) + (epoch % 2 ** 64).to_bytes(8, "big") + seq.to_bytes(8, "big") + bytes(head) + bytes(sections or b"") for ueid, epoch, seq, head, sections in leaves]
        assert claims[CHECKPOINT] == [number, previous, len(leaves), root_of(plain)]
        previous = hashlib.sha256(message).digest()
    told = system.database.sql("SELECT data FROM event WHERE type = 'ledger.checkpoint' ORDER BY event_id")
    assert [base64.b64decode(data["message"]) for data, in told] == [bytes(message) for _, message in rows]
    assert findings(system, status=0) == []


def test_a_tail_cut_off_with_the_ledger_s_head(marked):
    """As somebody would who can write everything but the checkpoints that others hold."""
    system, device = marked
    system.database.sql("DELETE FROM report_quiet WHERE seq >= 3")
    system.database.sql("UPDATE device_hot SET hi = 2, head = (SELECT sha256 FROM report WHERE seq = 2)")
    assert findings(system) == ["beyond"]
    # Leaves that are made to fit no longer give the root that was signed.
    system.database.sql("UPDATE checkpoint_leaf SET seq = 2, head = (SELECT sha256 FROM report WHERE seq = 2)")
    assert set(findings(system)) == {"checkpoint"}


def test_a_checkpoint_that_was_tampered_with(marked):
    system, device = marked
    system.database.sql("UPDATE checkpoint SET message = set_byte(message, 60, get_byte(message, 60) # 1) WHERE number = 1")
    assert "checkpoint" in findings(system)


@pytest.mark.parametrize("number", [1, 2])
def test_a_checkpoint_that_is_gone(marked, number):
    system, device = marked
    last = system.database.one("SELECT max(number) FROM checkpoint")
    system.database.sql("DELETE FROM checkpoint WHERE number = %s", (number,))
    assert ("checkpoint" in findings(system, status=1 if number < last else 0)) == (number < last)


def test_a_checkpoint_that_somebody_held(marked, tmp_path):
    """All after the first is taken back, and another signer makes one more: only who kept a copy can tell."""
    system, device = marked
    held = tmp_path / "held"
    held.write_bytes(bytes(system.database.one("SELECT message FROM checkpoint ORDER BY number DESC LIMIT 1")))
    assert findings(system, "--checkpoint", held, status=0) == []
    last = system.database.one("SELECT max(number) FROM checkpoint")
    system.database.sql("DELETE FROM checkpoint WHERE number = %s", (last,))
    system.database.sql("DELETE FROM checkpoint_leaf WHERE number = %s", (last,))
    assert findings(system, status=0) == []
    assert findings(system, "--checkpoint", held) == ["checkpoint"]
    held.write_bytes(b"no checkpoint")
    assert findings(system, "--checkpoint", held) == ["checkpoint"]


def test_a_signer_that_is_not_the_operator_s(marked):
    system, device = marked
    lines = [json.loads(line) for line in system.database.cli("audit", "--ca", system.broker.pki / "maker-ca.crt", "--json", status=1).splitlines()]
    assert {line["detail"] for line in lines[:-1]} == {"certificate-untrusted"}


REWRITTEN = """
UPDATE audit SET line = replace(line, '"who": "', '"who": "not ') WHERE number = 1;
DO $$ DECLARE r record; h bytea := decode(repeat('00', 32), 'hex'); BEGIN
	FOR r IN SELECT number, line FROM audit ORDER BY number LOOP
		h := sha256(h || convert_to(r.line, 'UTF8'));
		UPDATE audit SET hash = h WHERE number = r.number;
	END LOOP;
	UPDATE audit_head SET hash = h;
END $$"""


@pytest.mark.parametrize("tampering, word", [
    ("SELECT 1", None),
    ("UPDATE audit SET line = replace(line, 'tenant add', 'tenant see') WHERE number = 1", "its hash"),
    ("UPDATE audit SET line = line || ' ' WHERE number = 2", "its hash"),
    ("UPDATE audit SET hash = sha256(hash) WHERE number = 2", "its hash"),
    ("UPDATE audit SET tenant_id = NULL", "tenant"),
    ("DELETE FROM audit WHERE number = 1", "the one before"),
    ("DELETE FROM audit WHERE number = 1; UPDATE audit_head SET gone = 1", "its hash"),
    ("DELETE FROM audit WHERE number = (SELECT max(number) FROM audit)", "head"),
    ("DELETE FROM audit", "head"),
    # As somebody would who can write everything but the checkpoints.
    ("DELETE FROM audit WHERE number = (SELECT max(number) FROM audit); UPDATE audit_head SET (number, hash) = (SELECT a.number, a.hash FROM audit a ORDER BY 1 DESC"
     " LIMIT 1)", "the checkpoint names it"),
    (REWRITTEN, "the checkpoint names another"),
    ("UPDATE checkpoint SET message = set_byte(message, 90, get_byte(message, 90) # 1) WHERE number = 2", ""),
])
def test_the_audit_log(marked, tmp_path, tampering, word):
    system, device = marked
    held = tmp_path / "held"
    held.write_bytes(bytes(system.database.one("SELECT message FROM checkpoint ORDER BY number DESC LIMIT 1")))
    entries = system.database.one("SELECT count(*) FROM audit")
    assert entries >= 2
    system.database.sql(tampering)
    for more in [], ["--checkpoint", held]:
        lines = [json.loads(line) for line in system.database.cli("audit", "--log", "--ca", system.broker.pki / "operator-ca.crt", *more, "--json",
                                                                  status=0 if word is None else 1).splitlines()]
        total = lines.pop()
        assert total["findings"] == len(lines) and {line["finding"] for line in lines} <= {"audit-log"}
        assert (total["entries"], lines) == (entries, []) if word is None else any(word in line["detail"] for line in lines)
    if tampering == REWRITTEN:  # and the checkpoints with it, all of them: who kept one can tell
        system.database.sql("DELETE FROM checkpoint_leaf; DELETE FROM checkpoint")
        system.database.cli("audit", "--log", status=0)
        assert "names another" in system.database.cli("audit", "--log", "--checkpoint", held, status=1)
    system.database.cli("audit", "--log", "--tenant", "acme", status=2)
