"""Keys: one takes another's place, one is revoked, an authority takes certificates back; and what an audit says of it afterwards."""

import datetime
import json
import subprocess

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from ingesting import BIN, System, await_true
from test_emitter import Emitter
import device as wire  # found through ingesting

DAY = datetime.timedelta(days=1)
NOW = datetime.datetime.utcnow().replace(microsecond=0)


def now():
    return datetime.datetime.utcnow().replace(microsecond=0)


@pytest.fixture(scope="module")
def system(tmp_path_factory):
    system = System(tmp_path_factory.mktemp("keys"), postgres=["fsync=off"])
    yield system
    system.close()


class Authority:
    """The maker's, or one that it vouches for."""

    def __init__(self, certificate, key):
        self.certificate, self.key = certificate, key

    def vouch(self, name, key, begins=NOW, ca=False):
        usage = dict.fromkeys(("content_commitment", "key_encipherment", "data_encipherment", "key_agreement", "encipher_only", "decipher_only"), False)
        builder = x509.CertificateBuilder(self.certificate.subject, x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)]), key.public_key(),
                                          x509.random_serial_number(), begins, begins + 365 * DAY)
        builder = builder.add_extension(x509.BasicConstraints(ca, None), True)
        return builder.add_extension(x509.KeyUsage(digital_signature=not ca, key_cert_sign=ca, crl_sign=ca, **usage), True).sign(self.key, hashes.SHA256())

    def crl(self, *certificates, begins=NOW - DAY, ends=NOW + DAY, key=None):
        builder = x509.CertificateRevocationListBuilder(self.certificate.subject, begins, ends)
        for certificate in certificates:
            builder = builder.add_revoked_certificate(x509.RevokedCertificateBuilder(certificate.serial_number, begins).build())
        return builder.sign(key or self.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


@pytest.fixture(scope="module")
def maker(system):
    pki = system.broker.pki
    return Authority(x509.load_pem_x509_certificate((pki / "maker-ca.crt").read_bytes()), serialization.load_pem_private_key((pki / "maker-ca.key").read_bytes(), None))


def new_key():
    return ec.generate_private_key(ec.SECP256R1())


def rotate(device, maker):
    """The device has a new key, and its maker's word for it."""
    key = new_key()
    certificate = maker.vouch(device.ueid.hex(), key, now())
    former, device.signer, device.chain = device.signer, key, [wire.der(certificate)]
    return former, certificate


def keys(system, device):
    return json.loads(system.database.cli("key", "list", device.ueid.hex(), "--json"))


def refusals(system, device):
    return dict(system.database.sql("SELECT reason, n FROM refusal_count JOIN device USING (device_id) WHERE ueid = %s", (device.ueid,)))


def await_refused(system, device, reason, n=1):
    await_true(lambda: refusals(system, device).get(reason) == n, f"{n} refusals for {reason}: {refusals(system, device)}")


def findings(system, device, status=0):
    lines = system.database.cli("audit", "--device", device.ueid.hex(), "--json", status=status).splitlines()
    return [(line["finding"], line.get("detail")) for line in map(json.loads, lines[:-1])]


def test_a_new_key_takes_the_place_of_the_old(system, maker):
    device = system.device()
    for message in (device.full(), device.quiet()):
        device.publish(message)
    system.await_stored(device, 2)
    late = device.quiet()  # 3, by the old key, comes after the rotation
    former, _ = rotate(device, maker)
    device.publish(device.quiet())
    device.publish(late)
    system.await_stored(device, 4)
    old, new = sorted(keys(system, device), key=lambda key: key["status"], reverse=True)
    assert (old["status"], old["superseded_at"], new["status"]) == ("retired", f"{device.epoch.hex()}/4", "active"), (old, new)
    assert "device.rekeyed" in [t for t, in system.database.sql("SELECT type FROM event WHERE ueid = %s", (device.ueid,))]
    # The old one is good for nothing from there on: whoever uses it is not the device.
    device.publish(device.report(device.quiet_claims(), signer=former, chain=(), keep=True))
    await_refused(system, device, "key-retired")
    await_true(lambda: system.posture(device) == ("untrusted", ["revoked-key"]), "the device untrusted")
    device.publish(device.quiet())
    system.await_stored(device, 5)
    assert findings(system, device) == []
    # Neither is one with an older certificate that was never seen here, nor a new epoch by the old key.
    old_key = new_key()
    chain = [wire.der(maker.vouch(device.ueid.hex(), old_key, NOW - 20 * DAY))]
    device.publish(device.report(device.quiet_claims(), signer=old_key, chain=chain, keep=True))
    await_refused(system, device, "key-retired", 2)
    device.publish(device.report(device.quiet_claims(epoch=b"\7" * 8, seq=1, prev=None), signer=former, chain=(), keep=True))
    await_refused(system, device, "key-retired", 3)
    assert len(system.stored(device)) == 5


def test_both_keys_in_one_batch(system, maker):
    """A collector may see the device for the first time when its spool holds both."""
    device = system.device(connect=False)
    messages = [device.full(), device.quiet()]
    rotate(device, maker)
    messages.append(device.quiet())
    assert device.connect() == 0
    system.devices.append(device)
    for message in messages:
        device.publish(message)
    system.await_stored(device, 3)
    assert {key["superseded_at"] for key in keys(system, device)} == {f"{device.epoch.hex()}/3", None}


def test_the_emitter_changes_its_key(system, maker, tmp_path):
    emitter = Emitter(system.broker, tmp_path)

    def stored():
        return system.database.one("SELECT count(*) FROM report JOIN device USING (device_id) WHERE ueid = decode(%s, 'hex')", (emitter.ueid,))
    try:
        emitter.start()
        await_true(lambda: stored() >= 2, "reports by the old key")
        assert emitter.stop() == 0
        key, last = new_key(), len(emitter.lines())
        (tmp_path / "new.key").write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
        (tmp_path / "new.key").chmod(0o600)
        (tmp_path / "new.crt").write_bytes(maker.vouch(emitter.ueid, key, now()).public_bytes(serialization.Encoding.PEM))
        emitter.configure(sign_key=tmp_path / "new.key", sign_certificate=tmp_path / "new.crt")
        emitter.start()
        await_true(lambda: stored() >= last + 2, "reports by the new key")
        told = {key["status"]: key["superseded_at"] for key in json.loads(system.database.cli("key", "list", emitter.ueid, "--json"))}
        assert set(told) == {"retired", "active"} and told["retired"].split("/")[1] == str(last + 1)
        assert " 0 findings" in system.database.cli("audit", "--device", emitter.ueid)
    finally:
        emitter.stop()


def test_what_the_old_key_signed_afterwards_is_a_finding(system, maker):
    device = system.device()
    device.publish(device.full())
    former, _ = rotate(device, maker)
    device.publish(device.quiet())
    system.await_stored(device, 2)
    forged = device.report(device.quiet_claims(seq=2, prev=wire.sha256(b"")), signer=former, chain=(), keep=True)
    system.database.sql("UPDATE report_quiet SET message = %s, sha256 = sha256(%s) WHERE device_id = (SELECT device_id FROM device WHERE ueid = %s)", (forged, forged, device.ueid))
    assert ("key-out-of-time", "key-retired") in findings(system, device, status=1)


def test_a_revoked_key_at_once(system, maker):
    device = system.device()
    device.publish(device.full())
    system.await_stored(device, 1)
    before = device.quiet()  # signed before, received after
    [key] = keys(system, device)
    system.database.cli("key", "revoke", "--why", "lost in the field", device.ueid.hex(), key["kid"])
    assert system.posture(device) == ("untrusted", ["revoked-key"])
    system.database.cli("key", "revoke", device.ueid.hex(), key["kid"], status=1)

    def is_refused():
        device.publish(before)
        return refusals(system, device).get("key-revoked")
    await_true(is_refused, "the key refused")
    assert keys(system, device)[0]["why"] == "lost in the field"
    # A renewed certificate does not bring the key back, another key does bring the device back.
    device.chain = [wire.der(maker.vouch(device.ueid.hex(), device.signer, now()))]
    n = refusals(system, device)["key-revoked"]
    device.publish(device.report(device.quiet_claims(), keep=True))
    await_refused(system, device, "key-revoked", n + 1)
    stored = len(system.stored(device))
    rotate(device, maker)
    device.publish(device.report(device.quiet_claims(), keep=True))
    system.await_stored(device, stored + 1)
    assert findings(system, device) == []
    system.database.sql("UPDATE device_key SET revoked_at = revoked_at - interval '1 hour' WHERE status = 'revoked'")
    assert findings(system, device, status=1) == [("key-out-of-time", "key-revoked")] * stored


def test_the_operator_retires_a_key(system):
    device = system.device()
    device.publish(device.full())
    system.await_stored(device, 1)
    [key] = keys(system, device)
    system.database.cli("key", "retire", device.ueid.hex(), key["kid"])
    system.database.cli("key", "retire", device.ueid.hex(), key["kid"], status=1)

    def is_refused():
        device.publish(device.report(device.quiet_claims(), keep=True))
        return refusals(system, device).get("key-retired")
    await_true(is_refused, "the key refused")


@pytest.mark.parametrize("command,reason", [("retire", "device-retired"), ("revoke", "device-revoked")])
def test_a_device_that_is_gone(system, command, reason):
    device = system.device()
    device.publish(device.full())
    system.await_stored(device, 1)
    system.database.cli("device", command, device.ueid.hex())
    system.database.cli("device", command, device.ueid.hex(), status=1)

    def is_refused():
        device.publish(device.report(device.quiet_claims(), keep=True))
        return refusals(system, device).get(reason)
    await_true(is_refused, reason)


def load(system, tmp_path, crl, *words, status=0):
    file = tmp_path / "list.crl"
    file.write_bytes(crl)
    number = system.database.one("SELECT min(trust_anchor_id) FROM trust_anchor")
    return system.database.cli("trust-anchor", "crl", *words, number, file, status=status)


def test_lists_that_are_refused_by_name(system, maker, tmp_path):
    stranger = Authority(maker.certificate, new_key())
    foreign_name = Authority(stranger.vouch("elsewhere", stranger.key, ca=True), stranger.key)

    def refused(crl, *words, status=1):
        file = tmp_path / "list.crl"
        file.write_bytes(crl)
        number = system.database.one("SELECT min(trust_anchor_id) FROM trust_anchor")
        done = subprocess.run([BIN / "fleetstate", "--database", system.database.uri("fleetstate_owner"), "trust-anchor", "crl", *words, str(number), file], capture_output=True, text=True)
        assert done.returncode == status, done
        return done.stderr
    good, before = maker.crl(), system.database.sql("SELECT * FROM crl ORDER BY 1")
    assert "its time is over" in refused(maker.crl(begins=NOW - 3 * DAY, ends=NOW - DAY))
    assert "its time has not begun" in refused(maker.crl(begins=NOW + DAY, ends=NOW + 2 * DAY))
    assert "another key signed it" in refused(stranger.crl())
    assert "another authority issued it" in refused(foreign_name.crl())
    assert "not one list" in refused(b"nothing of the kind", status=2)
    assert "not one list" in refused(good + good, status=2)
    assert "not one list" in refused(good[:200], status=2)
    assert "is over" in refused(b"\x30" * (2 << 20) + b"x", status=2)
    assert system.database.sql("SELECT * FROM crl ORDER BY 1") == before


def test_what_its_authority_takes_back(system, maker, tmp_path):
    enrolled, fresh, other = system.device(), system.device(), system.device()
    certificates = {d: x509.load_der_x509_certificate(d.chain[0]) for d in (enrolled, fresh)}
    for device in (enrolled, other):
        device.publish(device.full())
        system.await_stored(device, 1)
    read = system.collector.log().count("trust anchors read")
    assert load(system, tmp_path, maker.crl(*certificates.values(), begins=now())) == "1 keys revoked"
    await_true(lambda: system.collector.log().count("trust anchors read") > read, "the list read", 60)
    assert keys(system, enrolled)[0]["status"] == "revoked"

    def is_refused():
        enrolled.publish(enrolled.report(enrolled.quiet_claims(), keep=True))
        return refusals(system, enrolled).get("key-revoked")
    await_true(is_refused, "the enrolled one's key refused")

    def is_not_enrolled():
        fresh.publish(fresh.full(keep=True))
        return system.database.one("SELECT count(*) FROM refusal WHERE ueid = %s AND reason = 'certificate-revoked'", (fresh.ueid,))
    await_true(is_not_enrolled, "the fresh one's certificate refused")
    assert system.stored(fresh) == []
    other.publish(other.quiet())
    system.await_stored(other, 2)
    # As if a collector that had not read the list had enrolled it meanwhile: whoever reads it looks at those.
    system.database.sql("UPDATE device_key SET status = 'active', revoked_at = NULL, enrolled_at = now() WHERE device_id = (SELECT device_id FROM device WHERE ueid = %s)", (enrolled.ueid,))
    system.database.sql("UPDATE crl SET loaded_at = now()")
    await_true(lambda: keys(system, enrolled)[0]["status"] == "revoked", "its key taken back again", 60)
    # An older list does not take that back.
    load(system, tmp_path, maker.crl(begins=NOW - 2 * DAY), status=1)
    # An empty newer one does for certificates, and what was revoked stays so.
    assert load(system, tmp_path, maker.crl(begins=now())) == "0 keys revoked"

    def is_enrolled():
        fresh.publish(fresh.full(keep=True))
        return system.stored(fresh)
    await_true(is_enrolled, "the fresh one enrolled")
    assert keys(system, enrolled)[0]["status"] == "revoked"


def test_an_intermediate_s_list(system, maker, tmp_path):
    factory_key = new_key()
    certificate = maker.vouch("factory", factory_key, NOW - DAY, ca=True)
    factory = Authority(certificate, factory_key)
    (tmp_path / "factory.crt").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    device = system.device()
    leaf = factory.vouch(device.ueid.hex(), device.signer, NOW - DAY)
    device.chain = [wire.der(leaf), wire.der(certificate)]
    device.publish(device.full())
    system.await_stored(device, 1)
    assert load(system, tmp_path, factory.crl(leaf), status=1) == ""
    assert load(system, tmp_path, factory.crl(leaf), "--issuer", tmp_path / "factory.crt") == "1 keys revoked"
    # And all that the factory vouched for, when it is taken back itself.
    second = system.device()
    second.chain = [wire.der(factory.vouch(second.ueid.hex(), second.signer, NOW - DAY)), wire.der(certificate)]
    second.publish(second.full())
    system.await_stored(second, 1)
    assert load(system, tmp_path, maker.crl(certificate, begins=now())) == "1 keys revoked"
    assert keys(system, second)[0]["status"] == "revoked"
