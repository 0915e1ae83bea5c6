"""The emitter against a real broker: what it publishes is judged by the second implementation in tests/device.py, which also writes the receipts."""

import contextlib
import hashlib
import json
import os
import pathlib
import signal
import subprocess
import time

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from parts import BIN, PATIENCE, ROOT, await_true, provision
from test_broker import Broker
import device  # found through parts
from spool import records

EMITTER, SIM = BIN / "fleetstate-emitter", BIN / "fleetstate-sim"


def sha256(data):
    return hashlib.sha256(data).digest()


class Collector:
    """Keeps every report, and answers when it is told to."""

    def __init__(self, broker, name):
        self.pki = broker.pki
        provision("collector", broker.pki, "collector")
        self.client = broker.collector(name).connect()
        self.client.subscribe("fleetstate/1/+/+/report")
        self.key = serialization.load_pem_private_key((self.pki / "receipt.key").read_bytes(), None)
        self.chain = [device.der(one) for one in device.certificates((self.pki / "receipt.crt").read_bytes())]
        self.iat = int(time.time())
        self.opened = {}

    def reports(self, ueid):
        """(message, claims) in order of arrival, each verified."""
        return [(report, self.verified(report, ueid)) for m in list(self.client.messages) if f"/{ueid}/" in m.topic
                for report in device.split(m.payload)]

    def verified(self, message, ueid):
        if message not in self.opened:
            roots = (self.pki / "device-roots.crt").read_bytes()
            leaf = (self.pki / f"devices/{ueid}.crt").read_bytes()
            self.opened[message] = device.verify_message(message, roots, leaf)
        return self.opened[message]

    def wait(self, ueid, wanted, what, seconds=PATIENCE):
        """The first report that `wanted` says yes to, as (message, opened)."""
        return await_true(lambda: next((one for one in self.reports(ueid) if wanted(one[1])), None), what, seconds)

    def receipt(self, ueid, epoch, up_to, digest, *, missing=(), refused=(), wants=0, key=None, chain=None, iat=None, nonce=None, pace=0):
        self.iat += 1
        claims = {device.IAT: iat or self.iat, device.UEID: bytes.fromhex(ueid), device.EAT_PROFILE: device.PROFILE,
                  device.ACCOUNT: [epoch, up_to, digest, [list(r) for r in missing], [list(r) for r in refused], wants, pace]}
        if nonce:
            claims[device.RECEIPT_NONCE] = nonce
        message = device.sign1(key or self.key, device.encode(claims), self.chain if chain is None else chain)
        self.client.publish(f"fleetstate/1/{ueid}/receipt", message)


def seq_of(opened):
    return opened.claims[device.META][0]


def epoch_of(opened):
    return opened.claims[device.META][1]


def header_of(message):
    return device.decode(device.decode(message).value.value[0])


class Emitter:
    def __init__(self, broker, directory, **settings):
        (self.ueid,) = provision("device", broker.pki)
        self.directory, pair = directory, broker.pki / "devices" / self.ueid
        self.journal, self.config, self.state = directory / "journal", directory / "emitter.conf", directory / "state"
        self.settings = {
            "broker": f"ssl://localhost:{broker.port}", "ca": broker.pki / "operator-ca.crt", "receipt_ca": broker.pki / "operator-ca.crt",
            "tls_certificate": f"{pair}.crt", "tls_key": f"{pair}.key", "sign_certificate": f"{pair}.crt", "sign_key": f"{pair}.key",
            "state_dir": self.state, "interval": "1s", "test_intervals": "yes", "journal": self.journal, "once_timeout": "3s",
            "backoff_max": "1s", **settings}
        self.process = None
        self.configure()

    def configure(self, **settings):
        self.settings.update(settings)
        self.config.write_text("".join(f"{name} = {value}\n" for name, value in self.settings.items()))

    def call(self, *words):
        return subprocess.run([EMITTER, "--config", self.config, *words], capture_output=True, text=True, timeout=60)

    def start(self):
        self.process = subprocess.Popen([EMITTER, "--config", self.config], stderr=open(self.directory / "log", "ab"))
        return self

    def log(self):
        return (self.directory / "log").read_text()

    def stop(self, how=signal.SIGTERM):
        if self.process:
            self.process.send_signal(how)
            status = self.process.wait(PATIENCE)
            self.process = None
            return status

    def status(self):
        return json.loads((self.state / "status.json").read_text())

    def counter(self, name):
        return self.status()["counters"][name]

    def lines(self):
        return [line.split() for line in self.journal.read_text().splitlines()]


@pytest.fixture(scope="module")
def broker(tmp_path_factory):
    broker = Broker(tmp_path_factory.mktemp("emitter-broker"))
    yield broker
    broker.stop()


@pytest.fixture
def collector(broker, request):
    return Collector(broker, "test-" + request.node.name[:40])


@pytest.fixture
def emitter(broker, tmp_path):
    emitter = Emitter(broker, tmp_path)
    yield emitter
    emitter.stop(signal.SIGKILL)


def test_publishes_a_chain_of_reports(collector, emitter):
    emitter.start()
    collector.wait(emitter.ueid, lambda r: seq_of(r) == 4, "four reports")
    assert emitter.stop() == 0
    reports = collector.reports(emitter.ueid)
    assert [seq_of(r) for _, r in reports[:4]] == [1, 2, 3, 4]
    assert device.BOOT_ID in reports[0][1].claims and device.BOOT_ID not in reports[1][1].claims
    assert device.STATE in reports[0][1].claims
    previous = None
    for message, opened in reports:
        assert opened.claims[device.META][2] == previous
        previous = sha256(message)
    assert [line[3] for line in emitter.lines()] == [sha256(m).hex() for m, _ in reports]
    assert {m.properties.ContentType for m in collector.client.messages if device.split(m.payload) == [m.payload]} == {"application/eat+cwt"}


def test_its_files_are_as_described(collector, emitter):
    emitter.start()
    message, first = collector.wait(emitter.ueid, lambda r: seq_of(r) == 1, "a report")
    collector.receipt(emitter.ueid, epoch_of(first), 1, sha256(message))
    await_true(lambda: emitter.status()["up_to"] == 1, "the receipt's effect")
    collector.wait(emitter.ueid, lambda r: seq_of(r) == 3, "three reports")
    assert emitter.stop() == 0
    sent = {seq_of(opened): message for message, opened in collector.reports(emitter.ueid)}
    [(name, (epoch, kept))] = [(f.name, records(f.read_bytes())) for f in (emitter.state / "spool").glob("*.seg")]
    assert epoch == epoch_of(first) and int(name[:16], 16) <= min(seq for seq, _, _ in kept)
    assert [seq for seq, _, _ in kept] == list(range(1, len(kept) + 1)) and sent.items() <= {seq: message for seq, _, message in kept}.items()
    for seq, flags, message in kept:
        claims = device.decode(device.decode(message).value.value[2])
        assert bool(flags & 1) == bool({device.STATE, device.INVENTORY} & set(claims)) and bool(flags & 4) == (33 in header_of(message)), seq
    signer = device.decode((emitter.state / "signer").read_bytes())
    assert signer[0] == 1 and signer[1].to_bytes(8, "big") == epoch and signer[2] == len(kept) <= signer[3] and signer[4] is True
    assert signer[8] == [len(kept), sha256(kept[-1][2])]
    assert signer[9] == next([seq, sha256(message)] for seq, flags, message in reversed(kept) if flags & 1)
    account = device.decode((emitter.state / "spool/account").read_bytes())
    leaf = device.der(device.certificates((collector.pki / f"devices/{emitter.ueid}.crt").read_bytes())[0])
    assert account == [2, collector.iat, 1, collector.iat, 1, sha256(leaf), 0, [], []]


def test_receipts_are_heeded(collector, emitter):
    emitter.start()
    message, first = collector.wait(emitter.ueid, lambda r: seq_of(r) == 1, "a report")
    assert isinstance(first.claims[device.INVENTORY], bytes) and 33 in header_of(message)
    collector.receipt(emitter.ueid, epoch_of(first), 1, sha256(message), wants=4, nonce=b"12345678")
    whole, opened = collector.wait(emitter.ueid, lambda r: isinstance(r.claims.get(device.INVENTORY), list), "the inventory")
    assert opened.claims[device.NONCE] == b"12345678"
    assert opened.claims[device.SECTIONS_PREV]
    collector.receipt(emitter.ueid, epoch_of(first), seq_of(opened), sha256(whole))
    await_true(lambda: emitter.status()["up_to"] == seq_of(opened), "the receipt's effect")
    # Of this machine the state changes whenever another test opens a socket, so a quiet report may take a while.
    quiet, last = collector.wait(emitter.ueid, lambda r: seq_of(r) > seq_of(opened) and device.STATE not in r.claims, "a quiet report")
    assert device.NONCE not in last.claims
    assert not last.claims[device.META][5] and len(quiet) <= 220
    assert 33 not in header_of(quiet)
    shown = emitter.call("status", "--json")
    assert shown.returncode == 0 and json.loads(shown.stdout)["up_to"] == seq_of(opened)
    assert "connected" in emitter.call("status").stdout
    assert (emitter.state / "status.json").stat().st_mode & 0o777 == 0o600


def test_other_receipts_only_count(collector, emitter):
    emitter.start()
    message, first = collector.wait(emitter.ueid, lambda r: seq_of(r) == 2, "two reports")
    epoch, digest = epoch_of(first), sha256(message)
    collector.iat += 100
    collector.receipt(emitter.ueid, epoch, 2, digest)
    await_true(lambda: emitter.status()["up_to"] == 2, "a good receipt")
    pair = collector.pki / "devices" / emitter.ueid
    own = serialization.load_pem_private_key(pathlib.Path(f"{pair}.key").read_bytes(), None)
    own_chain = [device.der(one) for one in device.certificates(pathlib.Path(f"{pair}.crt").read_bytes())]
    wrong = {
        "receipts_untrusted": dict(key=own, chain=own_chain),
        "receipts_replayed": dict(iat=collector.iat - 50),
    }
    for counter, how in wrong.items():
        collector.receipt(emitter.ueid, epoch, 1, sha256(collector.reports(emitter.ueid)[0][0]), wants=7, nonce=bytes(8), **how)
        await_true(lambda: emitter.counter(counter) == 1, counter)
    collector.receipt(emitter.ueid, bytes(8), 2, digest)
    await_true(lambda: emitter.counter("receipts_epoch") == 1, "a foreign epoch")
    collector.receipt(emitter.ueid, epoch, 2, bytes(32), nonce=bytes(8))
    await_true(lambda: emitter.counter("receipts_digest") == 1, "a wrong digest")
    collector.receipt(emitter.ueid, epoch, 1 << 40, bytes(32), nonce=bytes(8))
    await_true(lambda: emitter.counter("receipts_ahead") == 1, "a number not used")
    assert emitter.status()["up_to"] == 2 and emitter.counter("receipts") == 1
    last = seq_of(collector.reports(emitter.ueid)[-1][1])
    collector.wait(emitter.ueid, lambda r: seq_of(r) > last + 1, "two reports more")
    assert not [r for _, r in collector.reports(emitter.ueid) if device.NONCE in r.claims]


def test_a_challenge_is_answered_at_once_and_once(collector, emitter):
    emitter.configure(interval="1h")
    emitter.start()
    message, first = collector.wait(emitter.ueid, lambda r: seq_of(r) == 1, "a report")
    epoch, nonces = epoch_of(first), [bytes([i]) * size for i, size in enumerate((8, 64), 1)]
    collector.iat += 100  # an older receipt is still one of its certificate's time
    for i, nonce in enumerate(nonces):
        collector.receipt(emitter.ueid, epoch, 1, sha256(message), nonce=nonce)
        _, answer = collector.wait(emitter.ueid, lambda r: r.claims.get(device.NONCE) == nonce, "the answer")
        assert answer.claims[device.META][5] is True
        collector.receipt(emitter.ueid, epoch, 1, sha256(message), nonce=nonce)  # as brokers repeat and collectors ask again
        collector.receipt(emitter.ueid, epoch, 1, sha256(message), nonce=nonces[0], iat=collector.iat - 50)
        await_true(lambda: (emitter.counter("receipts"), emitter.counter("receipts_replayed")) == (2 * i + 2, i + 1), "both receipts")
    assert [r.claims[device.NONCE] for _, r in sorted(collector.reports(emitter.ueid), key=lambda one: seq_of(one[1])) if device.NONCE in r.claims] == nonces
    for nonce in bytes(7), bytes(65):
        collector.receipt(emitter.ueid, epoch, 1, sha256(message), nonce=nonce)
    await_true(lambda: emitter.counter("receipts_untrusted") == 2, "a nonce of another size is none")


def renew(emitter, pki):
    """Another certificate for the same key."""
    pair = pki / "devices" / emitter.ueid
    old = device.certificates(pathlib.Path(f"{pair}.crt").read_bytes())
    ca_key = serialization.load_pem_private_key((pki / "maker-ca.key").read_bytes(), None)
    builder = x509.CertificateBuilder(old[0].issuer, old[0].subject, old[0].public_key(), x509.random_serial_number(),
                                      old[0].not_valid_before, old[0].not_valid_after)
    for extension in old[0].extensions:
        builder = builder.add_extension(extension.value, extension.critical)
    new = builder.sign(ca_key, old[0].signature_hash_algorithm)
    renewed = emitter.directory / "renewed.crt"
    renewed.write_bytes(b"".join(one.public_bytes(serialization.Encoding.PEM) for one in [new, *old[1:]]))
    return renewed, device.der(new)


def test_a_renewed_certificate_is_sent_until_it_is_receipted(collector, emitter):
    emitter.start()
    message, first = collector.wait(emitter.ueid, lambda r: seq_of(r) == 1, "a report")
    collector.receipt(emitter.ueid, epoch_of(first), 1, sha256(message))
    await_true(lambda: emitter.status()["up_to"] == 1, "the receipt's effect")
    assert emitter.stop() == 0
    last = len(emitter.lines())
    renewed, leaf = renew(emitter, collector.pki)
    emitter.configure(sign_certificate=renewed)

    def leaf_of(seq):
        message, _ = collector.wait(emitter.ueid, lambda r: seq_of(r) == seq, f"report {seq}")
        chain = header_of(message).get(33)
        return chain[0] if isinstance(chain, list) else chain

    emitter.start()
    assert [leaf_of(last + 1), leaf_of(last + 2)] == [leaf, leaf]
    message, _ = collector.wait(emitter.ueid, lambda r: seq_of(r) == last, "the last one before")
    collector.receipt(emitter.ueid, epoch_of(first), last, sha256(message))
    await_true(lambda: emitter.status()["up_to"] == last, "a receipt that covers none of them")
    emitter.stop(signal.SIGKILL)
    seq = len(emitter.lines())
    emitter.start()
    _, fresh = collector.wait(emitter.ueid, lambda r: seq_of(r) > seq, "a report of the next run")
    assert leaf_of(seq_of(fresh)) == leaf
    message, _ = collector.wait(emitter.ueid, lambda r: seq_of(r) == last + 1, "one that brought it")
    collector.receipt(emitter.ueid, epoch_of(first), last + 1, sha256(message))
    await_true(lambda: emitter.status()["up_to"] == last + 1, "the receipt's effect")
    seq = emitter.status()["seq"]
    assert leaf_of(seq + 2) is None


def test_a_collector_whose_clock_was_ahead_is_heard_again(collector, emitter):
    emitter.start()
    message, first = collector.wait(emitter.ueid, lambda r: seq_of(r) == 2, "two reports")
    collector.receipt(emitter.ueid, epoch_of(first), 2, sha256(message), iat=collector.iat + 86_400)
    await_true(lambda: emitter.status()["up_to"] == 2, "the receipt from the future")
    message, _ = collector.wait(emitter.ueid, lambda r: seq_of(r) == 4, "later reports")
    collector.receipt(emitter.ueid, epoch_of(first), 4, sha256(message))
    await_true(lambda: emitter.status()["up_to"] == 4, "the receipt of now")
    message, _ = collector.wait(emitter.ueid, lambda r: seq_of(r) == 3, "the one before")
    collector.receipt(emitter.ueid, epoch_of(first), 3, sha256(message))
    await_true(lambda: emitter.counter("receipts_replayed") == 1, "the old receipt")
    assert emitter.status()["up_to"] == 4


def test_a_receipt_for_reports_of_a_clone_is_told(collector, emitter):
    def told(claims):
        return (claims.get(device.STATE) or {}).get(8, {}).get(4)

    emitter.start()
    message, first = collector.wait(emitter.ueid, lambda r: seq_of(r) == 1, "a report")
    assert told(first.claims) == 0
    for up_to in 1 << 40, 1 << 41:
        collector.receipt(emitter.ueid, epoch_of(first), up_to, bytes(32))
    collector.wait(emitter.ueid, lambda r: told(r.claims) == 1 << 40, "the report that tells it")
    await_true(lambda: emitter.counter("receipts_ahead") == 2, "both are counted")
    assert emitter.log().count("this device did not make") == 1 and emitter.status()["up_to"] == 0
    emitter.stop(signal.SIGKILL)
    seq = len(emitter.lines())
    emitter.start()
    _, fresh = collector.wait(emitter.ueid, lambda r: seq_of(r) > seq and device.STATE in r.claims, "a report of the next run")
    assert told(fresh.claims) == 1 << 40
    await_true(lambda: "WARNING" in emitter.call("status").stdout, "the status")


def test_missing_reports_come_again(collector, emitter):
    emitter.start()
    collector.wait(emitter.ueid, lambda r: seq_of(r) == 4, "four reports")
    reports = {seq_of(r): (m, r) for m, r in collector.reports(emitter.ueid)}
    collector.receipt(emitter.ueid, epoch_of(reports[4][1]), 4, sha256(reports[4][0]), missing=[(2, 3)])
    for seq in 2, 3:
        await_true(lambda: [m for m, r in collector.reports(emitter.ueid) if seq_of(r) == seq].count(reports[seq][0]) == 2, f"report {seq} again")
    assert [seq_of(r) for _, r in collector.reports(emitter.ueid)].count(1) == 1


def test_a_backlog_comes_at_the_pace_that_a_receipt_asks_for(collector, emitter):
    emitter.start()
    message, opened = collector.wait(emitter.ueid, lambda r: seq_of(r) == 6, "six reports")
    before = len(collector.client.messages)
    collector.receipt(emitter.ueid, epoch_of(opened), 6, sha256(message), missing=[(1, 5)], pace=700)

    def times():
        return [m.timestamp for m in list(collector.client.messages)[before:] if emitter.ueid in m.topic]
    await_true(lambda: len(times()) >= 6, "the backlog")
    gaps = [later - earlier for earlier, later in zip(times()[1:], times()[2:6])]  # the first was on its way already
    assert min(gaps) > 0.5, gaps


def test_refused_reports_are_put_aside(broker, collector, emitter):
    emitter.start()
    collector.wait(emitter.ueid, lambda r: seq_of(r) == 3, "three reports")
    reports = {seq_of(r): (m, r) for m, r in collector.reports(emitter.ueid)}
    message, opened = reports[2]
    collector.receipt(emitter.ueid, epoch_of(opened), 3, sha256(reports[3][0]), refused=[(sha256(message), "digest-mismatch")])
    kept = await_true(lambda: list(emitter.state.glob("quarantine/*-digest-mismatch.cose")), "the quarantine")
    assert kept[0].read_bytes() == message
    _, declaring = collector.wait(emitter.ueid, lambda r: device.DROPPED in r.claims, "the declaration")
    assert [2, 2, 2] in declaring.claims[device.DROPPED]
    assert emitter.counter("refused") == 1


def test_broker_gone_and_back(broker, collector, emitter):
    emitter.start()
    collector.wait(emitter.ueid, lambda r: seq_of(r) == 1, "a report")
    broker.stop()
    await_true(lambda: len(emitter.lines()) >= 6, "reports in the spool")
    assert emitter.status()["connected"] is False
    broker.start()
    back = Collector(broker, "back-again")
    await_true(lambda: emitter.status()["connected"], "the connection")
    last = len(emitter.lines())
    back.wait(emitter.ueid, lambda r: seq_of(r) == last, "all that was spooled")
    # That one has a state and no receipt.
    back.wait(emitter.ueid, lambda r: seq_of(r) == 1, "the first once more")
    seqs = {seq_of(r) for one in (collector, back) for _, r in one.reports(emitter.ueid)}
    assert seqs == set(range(1, max(seqs) + 1))
    # The broker had taken over no other.
    drained = [m.payload for m in back.client.messages if any(1 < seq_of(back.verified(one, emitter.ueid)) <= 6 for one in device.split(m.payload))]
    assert drained == device.joined(one for payload in drained for one in device.split(payload)), "in as few messages as can be"
    assert {m.properties.ContentType for m in back.client.messages if len(device.split(m.payload)) > 1} <= {"application/cbor-seq"}
    message, opened = back.reports(emitter.ueid)[-1]
    back.receipt(emitter.ueid, epoch_of(opened), seq_of(opened), sha256(message))
    await_true(lambda: emitter.status()["up_to"] == seq_of(opened), "receipts on the new connection")


def test_killed_five_times_under_load(broker, collector, tmp_path):
    provision("devices", broker.pki, 20)
    ueids = sorted(p.stem for p in (broker.pki / "devices").glob("01*.crt"))[:20]
    (tmp_path / "ueids").write_text("\n".join(ueids) + "\n")
    journal = tmp_path / "journal"
    words = [SIM, "--pki", broker.pki, "--ueids", tmp_path / "ueids", "--devices", "20", "--state", tmp_path / "state", "--broker",
             f"ssl://localhost:{broker.port}", "--interval", "1s", "--journal", journal, "--seed", "7", "--life", "300"]
    lines = 0
    for _ in range(5):
        process = subprocess.Popen(words)
        await_true(lambda: journal.exists() and journal.read_bytes().count(b"\n") > lines + 70, "reports", 60)
        process.kill()
        process.wait()
        lines = journal.read_bytes().count(b"\n")
    process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    await_true(lambda: journal.read_bytes().count(b"\n") > lines + 70, "reports", 60)
    seen, dropped = {}, {}

    def spooled():
        return {tuple(line.split()[:3]): line.split()[3] for line in journal.read_text().splitlines(keepends=True) if line.endswith("\n")}

    def arrived():
        for ueid in ueids:
            for message, opened in collector.reports(ueid):
                key = (ueid, epoch_of(opened).hex(), str(seq_of(opened)))
                assert seen.setdefault(key, sha256(message).hex()) == sha256(message).hex(), f"{key} was used twice"
                dropped.setdefault(ueid, []).extend(opened.claims.get(device.DROPPED, []))
        return all(seen.get(key) == digest for key, digest in wanted.items())

    wanted = spooled()
    await_true(arrived, "every spooled report", 90)
    process.send_signal(signal.SIGTERM)
    tally, _ = process.communicate(timeout=60)
    assert process.returncode == 0 and "devices=20" in tally
    rows = [line.split() for line in journal.read_text().splitlines()]
    assert len({tuple(row[:3]) for row in rows}) == len(rows), "a report stands in the journal twice"
    for ueid in ueids:
        seqs = {int(row[2]) for row in rows if row[0] == ueid}
        told = {n for first, last, cause in dropped.get(ueid, []) if cause == 1 for n in range(first, last + 1)}
        assert not seqs & told, "a report that was made was declared as never made"
        assert set(range(1, max(seqs))) - seqs <= told, "numbers were skipped without a word"


def test_broker_of_another_name(tmp_path, monkeypatch):
    monkeypatch.setenv("FLEETSTATE_BROKER_NAMES", "DNS:broker.example")
    (tmp_path / "b").mkdir()
    broker = Broker(tmp_path / "b")
    try:
        emitter = Emitter(broker, tmp_path)
        done = emitter.call("--once")
        assert done.returncode == 1 and "not connected" in done.stderr
        assert emitter.counter("sent") == 0 and emitter.counter("connection_lost") >= 1
        assert len(emitter.lines()) == 1
    finally:
        broker.stop()


def test_reload(collector, emitter):
    emitter.start()
    collector.wait(emitter.ueid, lambda r: seq_of(r) == 1, "a report")
    emitter.configure(interval="2s", serial="SN-77")
    emitter.process.send_signal(signal.SIGHUP)
    _, opened = collector.wait(emitter.ueid, lambda r: r.claims[device.META][4] == 2, "the new interval")
    collector.wait(emitter.ueid, lambda r: "SN-77" in str(r.claims.get(device.STATE)), "the new declared fact")
    emitter.configure(interval="never")
    emitter.process.send_signal(signal.SIGHUP)
    await_true(lambda: "the old ones stay" in emitter.log(), "the refusal")
    seq = emitter.status()["seq"]
    _, later = collector.wait(emitter.ueid, lambda r: seq_of(r) > seq, "reports as before")
    assert later.claims[device.META][4] == 2


def test_once(collector, emitter):
    assert emitter.call("--once").returncode == 0
    collector.wait(emitter.ueid, lambda r: seq_of(r) == 1, "the report")
    assert emitter.call("--once").returncode == 0
    _, second = collector.wait(emitter.ueid, lambda r: seq_of(r) == 2, "the second report")
    assert device.DROPPED not in second.claims


@pytest.mark.parametrize("interval", ["1s", "1m"])  # with the first a report would be due, with the second only a file changes
def test_once_waits_without_turning(emitter, tmp_path, interval):
    watched = tmp_path / "watched.conf"
    emitter.configure(broker="ssl://localhost:1", once_timeout="6s", config_files=watched, interval=interval)
    process = subprocess.Popen([EMITTER, "--config", emitter.config, "--once"], stderr=subprocess.DEVNULL)
    spent = 0
    while process.poll() is None:
        fields = pathlib.Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
        spent = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
        watched.write_text(str(spent))
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(0.2)
    assert process.returncode == 1 and spent < 2


def test_once_without_broker(emitter):
    emitter.configure(broker="ssl://localhost:1", once_timeout="1s")
    done = emitter.call("--once")
    assert done.returncode == 1 and "stays in the spool" in done.stderr
    assert len(emitter.lines()) == 1


def test_two_at_once_are_refused(collector, emitter):
    emitter.start()
    collector.wait(emitter.ueid, lambda r: seq_of(r) == 1, "a report")
    done = emitter.call("--once")
    assert done.returncode == 1 and "in use by another process" in done.stderr


def test_print_needs_no_keys(tmp_path):
    empty = tmp_path / "empty.conf"
    empty.write_text("")
    done = subprocess.run([EMITTER, "--config", empty, "--print", "--vendor", "acme"], capture_output=True, text=True, timeout=60)
    report = json.loads(done.stdout)
    assert done.returncode == 0 and report["state"]["device"]["vendor"] == "acme"
    assert not {"ueid", "epoch", "seq", "prev", "bootcount"} & report.keys()


@pytest.mark.parametrize("settings, message", [
    (dict(interval="5s", test_intervals="no"), "interval is below 30 s"),
    (dict(interval="0s"), "interval"),
    (dict(broker="tcp://localhost:1883"), "ssl://"),
    (dict(sign_key="/nowhere/key"), "sign_key"),
    (dict(receipt_ca="/nowhere/ca"), "receipt_ca"),
    (dict(ca=""), "ca is not set"),
    (dict(spool_size="1K"), "spool_size"),
    (dict(colour="red"), "colour"),
    (dict(log_level="loud"), "log_level"),
])
def test_check_names_what_is_wrong(emitter, settings, message):
    assert emitter.call("--check").returncode == 0
    emitter.configure(**settings)
    done = emitter.call("--check")
    assert done.returncode == 2 and message in done.stderr


def test_status_without_an_emitter(emitter):
    done = emitter.call("status")
    assert done.returncode == 2 and "no status" in done.stderr


@pytest.fixture
def small_disk(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", disk], capture_output=True).returncode != 0:
        pytest.skip("may not mount here")
    yield disk
    subprocess.run(["umount", "-l", disk], check=True)


def test_full_disk(collector, emitter, small_disk):
    emitter.configure(state_dir=small_disk / "state")
    emitter.state = small_disk / "state"
    emitter.start()
    collector.wait(emitter.ueid, lambda r: seq_of(r) == 1, "a report")
    fill = open(small_disk / "fill", "wb", buffering=0)
    with pytest.raises(OSError):
        while True:
            fill.write(bytes(4096))
    await_true(lambda: "report not made" in emitter.log(), "the failure")
    fill.close()
    time.sleep(2)
    assert emitter.log().count("report not made") == 1, "logged more than once"
    (small_disk / "fill").unlink()
    await_true(lambda: "stage works again" in emitter.log(), "the recovery")
    _, opened = collector.wait(emitter.ueid, lambda r: device.DROPPED in r.claims, "the burnt numbers")
    # They were signed before the disk failed: nobody may take one that turns up for a clone's.
    assert all(cause == 2 for _, _, cause in opened.claims[device.DROPPED])
    lost = {n for first, last, _ in opened.claims[device.DROPPED] for n in range(first, last + 1)}
    assert seq_of(opened) - 1 in lost
    assert not lost & {int(line[2]) for line in emitter.lines()}


def test_manual_lists_the_options():
    done = subprocess.run([EMITTER, "--man-options"], capture_output=True, text=True, check=True)
    assert done.stdout in (ROOT / "emitter/fleetstate-emitter.8").read_text()


def test_reports_of_a_group_are_published_when_they_are_durable(collector, emitter):
    """Signed meanwhile, one a second, and kept back; then they come together. What is written is told, as the kernel counts it."""
    emitter.configure(spool_sync="4s")
    emitter.start()
    await_true(lambda: emitter.journal.exists() and len(emitter.lines()) >= 3, "three reports being signed")
    assert collector.reports(emitter.ueid) == []
    collector.wait(emitter.ueid, lambda r: seq_of(r) == 3, "the group")
    pid = emitter.process.pid
    before = io_written(pid)
    told = await_true(lambda: emitter.status()["written_bytes"] >= before and emitter.status(), "the status")
    assert told["written_bytes"] <= io_written(pid) and told["running_s"] >= 3
    assert ("KiB a day" in emitter.call("status").stdout) == (told["written_bytes"] > 0)
    assert emitter.stop() == 0
    # All is published at an orderly end, also what would have waited.
    last = len(emitter.lines())
    collector.wait(emitter.ueid, lambda r: seq_of(r) == last, "the last report")
    assert [seq_of(opened) for _, opened in collector.reports(emitter.ueid)] == list(range(1, last + 1))


def io_written(pid):
    return int(next(line.split()[1] for line in open(f"/proc/{pid}/io") if line.startswith("write_bytes")))
