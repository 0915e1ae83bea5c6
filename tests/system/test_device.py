"""The second implementation of the device against itself, the known answers and a real broker: what others' tests stand on."""

import datetime
import json
import queue
import subprocess
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from parts import ROOT, await_true, free_port
import device as d  # found through parts

VECTORS = ROOT / "tests" / "vectors"
OURS, OTHER = "01" + "11" * 16, "01" + "22" * 16


class Authority:
    def __init__(self, folder, name):
        self.folder, self.name, self.key = folder, name, ec.generate_private_key(ec.SECP256R1())
        self.cert = self.certificate(name, self.key, ca=True)
        self.file = str(folder / f"{name}.crt")
        Path(self.file).write_bytes(self.cert.public_bytes(serialization.Encoding.PEM))

    def certificate(self, subject, key, ca=False, usage=(), days=30):
        now = datetime.datetime.utcnow()
        builder = (x509.CertificateBuilder().subject_name(self.named(subject)).issuer_name(self.named(self.name)).public_key(key.public_key())
                   .serial_number(x509.random_serial_number()).not_valid_before(now - datetime.timedelta(days=60))
                   .not_valid_after(now + datetime.timedelta(days=days)).add_extension(x509.BasicConstraints(ca, None), True)
                   .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), False))
        if usage:
            builder = builder.add_extension(x509.ExtendedKeyUsage(usage), False)
        return builder.sign(self.key, hashes.SHA256())

    @staticmethod
    def named(text):
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])

    def issue(self, subject, usage=(), days=30):
        """Files of a certificate and its key."""
        key = ec.generate_private_key(ec.SECP256R1())
        stem = self.folder / f"{self.name}-{subject}"
        stem.with_suffix(".crt").write_bytes(self.certificate(subject, key, False, usage, days).public_bytes(serialization.Encoding.PEM))
        stem.with_suffix(".key").write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
                                                               serialization.NoEncryption()))
        return str(stem.with_suffix(".crt")), str(stem.with_suffix(".key"))


@pytest.fixture
def maker(tmp_path):
    return Authority(tmp_path, "maker")


@pytest.fixture
def operator(tmp_path):
    return Authority(tmp_path, "operator")


def make(maker, ueid=OURS, **more):
    return d.Device(ueid, *maker.issue(ueid), maker.file, host="localhost", **more)


def receipt(operator, ueid=OURS, epoch=bytes(8), up_to=1, name="fleetstate-receipt", usage=(d.DOCUMENT_SIGNING,), wants=0, days=30):
    cert, key = operator.issue(name, usage, days)
    claims = {d.IAT: 1, d.UEID: bytes.fromhex(ueid), d.EAT_PROFILE: d.PROFILE, d.ACCOUNT: [epoch, up_to, None, [], [], wants, 0]}
    return d.sign1(serialization.load_pem_private_key(d.read(key), None), d.encode(claims), [d.der(d.certificates(cert)[0])])


def test_known_answers():
    ca = str(VECTORS / "known-ca.pem")
    known = json.loads((VECTORS / "known.json").read_text())
    quiet = d.verify_message((VECTORS / "known-quiet.cbor").read_bytes(), ca, str(VECTORS / "known-quiet.crt"))
    assert quiet.payload.hex() == known["quiet"]["payload"] and quiet.tbs.hex() == known["quiet"]["tbs"]
    full = d.verify_message((VECTORS / "known-full.cbor").read_bytes(), ca)
    assert full.payload.hex() == known["full"]["payload"] and d.encode(full.claims) == full.payload
    assert d.verify_receipt((VECTORS / "known-receipt.cbor").read_bytes(), ca).up_to == 1042


def test_own_reports_verify_and_chain(maker):
    one = make(maker)
    first, second, third = one.full(), one.quiet(), one.full()
    seen = [d.verify_message(message, maker.file).claims for message in (first, second, third)]
    assert [claims[d.META][0] for claims in seen] == [1, 2, 3]
    assert [claims[d.META][2] for claims in seen] == [None, d.sha256(first), d.sha256(second)]
    assert d.SECTIONS_PREV not in seen[0] and seen[2][d.SECTIONS_PREV] == d.sha256(first)
    one.send_chain = False
    assert len(one.quiet()) <= 220


@pytest.mark.parametrize("wrong", [
    {"tags": (18,)}, {"tags": ()}, {"unprotected": {4: b"x"}}, {"trailing": b"\0"}, {"high_s": True}, {"alg": -8}, {"kid": bytes(8)},
    {"signature": b"\1" * 64}, {"signature": b"\1" * 63}, {"payload": lambda payload: payload + b"\0"}, {"payload": lambda payload: payload[:-1]},
    {"change": {d.EAT_PROFILE: "urn:example:other"}}, {"change": {d.UEID: bytes.fromhex(OTHER)}}, {"change": {d.IAT: d.GONE}},
    {"change": {d.IAT: d.Encoded(d.long_head(0, 5))}}, {"change": {d.READINGS: {3: {9: 1}}}}, {"meta": {"seq": 0}},
    {"signer": ec.generate_private_key(ec.SECP256R1())},
], ids=lambda wrong: "-".join(wrong))
def test_defects_are_refused(maker, wrong):
    one = make(maker)
    with pytest.raises(d.Refused):
        d.verify_message(one.quiet(**wrong), maker.file)


def test_wrong_sections_are_refused(maker):
    one = make(maker)
    with pytest.raises(d.Refused):
        d.verify_message(one.full(meta={"facts": bytes(16)}), maker.file)
    one.inventory = one.inventory[::-1]
    with pytest.raises(d.Refused):
        d.verify_message(one.full(), maker.file)


def test_chains_of_others_are_refused(maker, operator):
    with pytest.raises(d.Refused):
        d.verify_message(make(maker).quiet(), operator.file)
    one = make(maker)
    one.send_chain = False
    with pytest.raises(d.Refused):
        d.verify_message(one.quiet(), maker.file)
    late = d.Device(OURS, *maker.issue(OURS, days=-1), maker.file)
    with pytest.raises(d.Refused):
        d.verify_message(late.quiet(), maker.file)
    assert d.verify_message(late.quiet(), maker.file, at=datetime.datetime.utcnow() - datetime.timedelta(days=5))


def test_receipts(operator, maker):
    assert d.verify_receipt(receipt(operator, wants=5), operator.file).wants == {"chain", "inventory"}
    for wrong in ({"name": "collector"}, {"usage": ()}, {"usage": (d.DOCUMENT_SIGNING, ExtendedKeyUsageOID.CLIENT_AUTH)}, {"days": -1}):
        with pytest.raises(d.Refused):
            d.verify_receipt(receipt(operator, **wrong), operator.file)
    with pytest.raises(d.Refused):
        d.verify_receipt(receipt(operator), maker.file)


@pytest.fixture
def broker(tmp_path, maker):
    port = free_port()
    cert, key = maker.issue("localhost", (ExtendedKeyUsageOID.SERVER_AUTH,))
    (tmp_path / "acl").write_text("pattern write fleetstate/1/+/%u/report\npattern read fleetstate/1/%u/receipt\n"
                                  "user collector\ntopic readwrite fleetstate/#\n")
    (tmp_path / "conf").write_text(f"user root\nlistener {port} 127.0.0.1\ncafile {maker.file}\ncertfile {cert}\nkeyfile {key}\n"
                                   f"require_certificate true\nuse_identity_as_username true\nacl_file {tmp_path}/acl\n")
    with open(tmp_path / "broker.log", "wb") as log:
        process = subprocess.Popen(["mosquitto", "-c", str(tmp_path / "conf")], stdout=log, stderr=log)
    await_true(lambda: b"running" in (tmp_path / "broker.log").read_bytes() or process.poll() is not None, "the broker")
    yield port
    process.terminate()
    process.wait(10)


def test_broker(broker, maker, operator):
    one = make(maker, port=broker, receipt_ca=operator.file)
    collector = d.Device(OTHER, *maker.issue("collector"), maker.file, host="localhost", port=broker)
    try:
        assert one.connect() == 0
        assert one.publish(one.quiet()) == 16  # nobody there
        assert one.publish(one.quiet(), topic=collector.report_topic) == 135  # another's topic
        assert collector.connect(client_id="collector") == 0
        assert collector.publish(receipt(operator, epoch=one.epoch, up_to=2), topic=one.receipt_topic) == 0
        assert one.receipt_up_to(2).up_to == 2
        assert one.send_chain is False
        with pytest.raises(queue.Empty):
            one.receipt(timeout=0)
        collector.publish(receipt(operator, ueid=OTHER), topic=one.receipt_topic)
        with pytest.raises(d.Refused):
            one.receipt()
    finally:
        one.close()
        collector.close()
