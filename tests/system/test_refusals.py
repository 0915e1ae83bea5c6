"""What must not get in: each refused with its own reason, counted once in the metrics and the ledger, the good reports around it stored."""

import datetime
import re

import pytest
import requests
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from ingesting import System, await_true
import device as wire  # found through ingesting

NOW = datetime.datetime.utcnow()
DAY = datetime.timedelta(days=1)


@pytest.fixture(scope="module")
def system(tmp_path_factory):
    system = System(tmp_path_factory.mktemp("refusals"), postgres=["fsync=off"], park_seconds="1s")
    system.token = system.database.cli("token", "add", "--tenant", "acme", "--role", "viewer", "refusals")
    yield system
    system.close()


def ask(system, path):
    return requests.get(f"http://127.0.0.1:{system.collector.http}{path}", headers={"Authorization": f"Bearer {system.token}"}, timeout=10)


def counters(system):
    found = re.findall(r'^fleetstate_refused_total\{reason="([a-z-]+)"\} ([0-9]+)$', ask(system, "/metrics").text, re.M)
    assert len(found) > 20
    return {reason: int(n) for reason, n in found}


def new_key():
    return ec.generate_private_key(ec.SECP256R1())


def certificate(system, device, key, *, name=None, begins=NOW - DAY, ends=NOW + 9 * DAY, usage=wire.DOCUMENT_SIGNING, issuer="maker-ca",
                issuer_key=None):
    """A chain of one, for `key`, by the maker's own CA unless another key signs."""
    pki = system.broker.pki
    ca = x509.load_pem_x509_certificate((pki / f"{issuer}.crt").read_bytes())
    ca_key = issuer_key or serialization.load_pem_private_key((pki / f"{issuer}.key").read_bytes(), None)
    one = (x509.CertificateBuilder().issuer_name(ca.subject).public_key(key.public_key()).serial_number(x509.random_serial_number())
           .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name or device.ueid.hex())]))
           .not_valid_before(begins).not_valid_after(ends)
           .add_extension(x509.KeyUsage(True, *[False] * 8), critical=True)
           .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
           .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(ca.public_key()), critical=False)
           .sign(ca_key, None if isinstance(ca_key, ed25519.Ed25519PrivateKey) else hashes.SHA256()))
    return [one.public_bytes(serialization.Encoding.DER)]


def bad(device, **wrong):
    return device.report(device.quiet_claims(), keep=True, **wrong)


def by_another_key(system, device, **of_certificate):
    key = new_key()
    return bad(device, signer=key, chain=certificate(system, device, key, **of_certificate))


def long_heads(payload):
    return payload[:2] + wire.long_head(0, int.from_bytes(payload[3:7], "big")) + payload[7:]


def twice(payload):
    return bytes([payload[0] + 1]) + payload[1:7] + payload[1:7] + payload[7:]


def state_with(device, state):
    claims = device.full_claims()
    claims[wire.STATE] = state
    claims[wire.META][3] = wire.facts_digest(wire.sha256(wire.encode(state)), wire.sha256(wire.encode(device.inventory)))
    return device.report(claims, keep=True)


CASES = {
    "the other s": ("non-canonical", lambda s, d: bad(d, high_s=True)),
    "filled unprotected map": ("non-canonical", lambda s, d: bad(d, unprotected={4: b"x"})),
    "without tag 61": ("non-canonical", lambda s, d: bad(d, tags=(18,))),
    "without tags": ("non-canonical", lambda s, d: bad(d, tags=())),
    "heads not the shortest": ("non-canonical", lambda s, d: bad(d, payload=long_heads)),
    "a key twice": ("duplicate-key", lambda s, d: bad(d, payload=twice)),
    "trailing bytes": ("trailing-bytes", lambda s, d: bad(d, trailing=bytes(wire.SEQUENCE))),
    "trailing byte inside": ("trailing-bytes", lambda s, d: bad(d, payload=lambda payload: payload + b"\0")),
    "a byte short": ("truncated", lambda s, d: bad(d)[:-1]),
    "empty": ("truncated", lambda s, d: b""),
    "noise": ("malformed", lambda s, d: b"\xff" * 40),
    "oversized": ("too-large", lambda s, d: bytes(2 * 1024 * 1024 + 1)),
    "U+0000": ("text-invalid", lambda s, d: state_with(d, {1: {1: "a\0b"}})),
    "a text too long": ("limit-exceeded", lambda s, d: state_with(d, {1: {1: "a" * 1025}})),
    "wrong digest": ("digest-mismatch", lambda s, d: d.full(meta={"facts": bytes(16)}, keep=True)),
    "another profile": ("profile-unknown", lambda s, d: bad(d, change={wire.EAT_PROFILE: b"\x69" * 19})),
    "a claim missing": ("claim-missing", lambda s, d: bad(d, change={wire.BOOTCOUNT: wire.GONE})),
    "seq 0": ("claim-invalid", lambda s, d: d.report(d.quiet_claims(seq=0), keep=True)),
    "another device's claims": ("foreign-topic", lambda s, d: bad(d, change={wire.UEID: b"\x01" + bytes(16)})),
    "algorithm of another kind of key": ("algorithm-mismatch", lambda s, d: bad(d, alg=-8)),
    "algorithm that is none": ("algorithm-unknown", lambda s, d: bad(d, alg=-257)),
    "another signature": ("bad-signature", lambda s, d: bad(d, signature=bytes(31) + b"\1" + bytes(31) + b"\1")),
    "unknown key": ("unknown-key", lambda s, d: bad(d, signer=new_key(), chain=())),
    "expired certificate": ("certificate-expired", lambda s, d: by_another_key(s, d, begins=NOW - 99 * DAY, ends=NOW - 50 * DAY)),
    "certificate of tomorrow": ("certificate-not-yet-valid", lambda s, d: by_another_key(s, d, begins=NOW + DAY)),
    "certificate for TLS alone": ("certificate-usage", lambda s, d: by_another_key(s, d, usage=ExtendedKeyUsageOID.CLIENT_AUTH)),
    "certificate of another name": ("certificate-name", lambda s, d: by_another_key(s, d, name="01" + "ab" * 16)),
    "certificate of another CA": ("certificate-untrusted", lambda s, d: by_another_key(s, d, issuer="operator-ca")),
    "certificate in the maker's name": ("certificate-untrusted", lambda s, d: by_another_key(s, d, issuer_key=new_key())),
    "chain that is none": ("certificate-malformed", lambda s, d: bad(d, signer=new_key(), chain=[b"\x30\x03\x02\x01\x01"])),
}


@pytest.mark.parametrize("case", CASES)
def test_it_is_refused_with_its_own_reason(system, case):
    reason, make = CASES[case]
    device = system.device()
    device.publish(device.full())
    device.receipt_up_to(1)
    start = counters(system)
    message = make(system, device)
    for one in (device.quiet(), message, device.quiet({"receipt": True})):
        device.client.publish(device.report_topic, one, qos=1)
    device.receipt_up_to(3)
    await_true(lambda: counters(system) != start, "the refusal")
    assert {r: n - start[r] for r, n in counters(system).items() if n != start[r]} == {reason: 1}
    ledger = ask(system, f"/v1/devices/{device.ueid.hex()}/ledger").json()
    assert ledger["refused"] == {reason: 1}
    assert [(e["received"], e["missing"], e["forks"]) for e in ledger["epochs"]] == [([[1, 3]], [], 0)]
    sample = ask(system, f"/v1/refusals?ueid={device.ueid.hex()}").json()["items"]
    assert [(one["reason"], one["sha256"]) for one in sample] == [(reason, wire.sha256(message).hex())] or case == "oversized"


def test_topics_of_others_through_the_collectors_listener(system):
    """Where the broker does not stop it, the collector does."""
    device, other = system.device(), system.device()
    for one in (device, other):
        one.publish(one.full())
        one.receipt_up_to(1)
    pki = system.broker.pki
    gateway = wire.Device(device.ueid, str(pki / "collectors/collector.crt"), str(pki / "collectors/collector.key"), device.ca,
                          port=system.broker.collector_port)
    assert gateway.connect(client_id="gateway") == 0
    system.devices.append(gateway)
    message = device.quiet(keep=True)
    shard, wrong = wire.shard(device.ueid), f"{(int(wire.shard(device.ueid), 16) + 1) % 16:x}"
    for topic, counted, reason in ((other.report_topic, other, "unknown-key"),
                                   (f"fleetstate/1/{wrong}/{device.ueid.hex()}/report", device, "wrong-shard"),
                                   (f"fleetstate/1/{shard}/{device.ueid.hex().upper()}/report", None, "topic-malformed")):
        start = counters(system)
        gateway.publish(message, topic)
        await_true(lambda: counters(system) != start, reason)
        assert {r: n - start[r] for r, n in counters(system).items() if n != start[r]} == {reason: 1}
        if counted:
            await_true(lambda: ask(system, f"/v1/devices/{counted.ueid.hex()}/ledger").json()["refused"].get(reason) == 1, "the ledger")
    # With its chain, which names it, it is refused for the name; on the devices' listener the broker does not take it at all.
    start = counters(system)
    gateway.publish(device.report(device.quiet_claims(), keep=True, chain=device.chain), other.report_topic)
    await_true(lambda: counters(system) != start, "the refusal")
    assert device.publish(message, other.report_topic) == 0x87
    assert [len(system.stored(one)) for one in (device, other)] == [1, 1]
