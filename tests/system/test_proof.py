"""Inclusion proofs: that a signed checkpoint covers a report, shown by the collector, judged by the command line and by tests/proof.py, which knows only the
description of the format."""

import json
import random
import subprocess

import psycopg2
import pytest
import requests
from cryptography.hazmat.primitives import serialization

from ingesting import BIN, System, await_true, provision
from device import Refused, certificates, decode, der, encode, sha256, sign1  # found through ingesting
from proof import CHECKPOINT, has_sections, open_report, verify_proof

CROWD = 1100  # devices before and behind: leaves under several nodes
SEED = """
WITH d AS (INSERT INTO device (tenant_id, ueid, lifecycle, first_seen) SELECT t.tenant_id, '\\x01'::bytea || substr(sha256((%s || i)::bytea), 1, 16), 'active', now()
	FROM tenant t, generate_series(1, %s) i WHERE t.id = 'globex' RETURNING device_id, tenant_id, ueid)
INSERT INTO device_hot (device_id, tenant_id, epoch, hi, head, last_seen) SELECT device_id, tenant_id, 1, 1, sha256(ueid), now() FROM d
"""


@pytest.fixture(scope="module")
def system(tmp_path_factory):
    directory = tmp_path_factory.mktemp("proof")
    provision("ca", directory / "other")  # another operator's, whose certificates are no younger than the checkpoints
    system = System(directory, postgres=["fsync=off"], checkpoint_interval="2s")
    system.database.cli("tenant", "add", "globex", "Globex")
    system.tokens = {tenant: system.database.cli("token", "add", "--tenant", tenant, "--role", "viewer", "proof") for tenant in ("acme", "globex")}
    system.ca = (system.broker.pki / "operator-ca.crt").read_bytes()
    yield system
    system.close()


class Held:
    """Keeps the collectors from making a checkpoint."""

    def __init__(self, system):
        self.db = psycopg2.connect(system.database.uri("fleetstate_owner"))

    def __enter__(self):
        self.db.cursor().execute("SELECT pg_advisory_lock(8259, 8)")
        return self

    def __exit__(self, *_):
        self.db.close()


def ask(system, sha, token="acme"):
    return requests.get(f"http://127.0.0.1:{system.collector.http}/v1/reports/{sha}/proof", headers={"Authorization": "Bearer " + system.tokens[token]}, timeout=20)


def await_other(system, message, name, token="acme"):
    """The first answer that is not this problem."""
    def other():
        answer = ask(system, sha256(message).hex(), token)
        same = answer.status_code != 200 and answer.json()["type"] == "urn:fleetstate:problem:" + name
        return not same and (answer,)  # an answer that is a problem is false
    return await_true(other, "another answer than " + name)[0]


def proof_of(system, message, token="acme"):
    answer = await_other(system, message, "not-covered", token)
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, "application/cbor"), answer.text
    return answer.content


@pytest.fixture(scope="module")
def told(system):
    """One device's reports, all below one checkpoint, in the middle of a crowd."""
    with Held(system):
        system.database.sql(SEED, ("before", CROWD))
        device = system.device()
        shapes = "fqqqfqeqfqq"  # full, quiet, eventful
        messages = [{"f": device.full, "q": device.quiet, "e": device.eventful}[shape]() for shape in shapes]
        for message in messages:
            device.publish(message)
        system.await_stored(device, len(messages))
        system.database.sql(SEED, ("behind", CROWD))
    proofs = [proof_of(system, message) for message in messages]
    return device, messages, proofs


def command(system, directory, proof, message, *words, status=0, device=None):
    (directory / "proof").write_bytes(proof)
    chain = ["--chain", system.broker.pki / f"devices/{device.ueid.hex()}.crt"] if device else []
    done = subprocess.run([BIN / "fleetstate", "verify", "--json", "--proof", directory / "proof", "--ca", system.broker.pki / "maker-ca.crt",
                           *chain, *(words or ("--operator-ca", system.broker.pki / "operator-ca.crt")), "-"], input=message, capture_output=True)
    assert done.returncode == status, (done.stdout, done.stderr)
    return json.loads(done.stdout)["proof"] if status < 2 else None


def test_each_report_is_proved(system, told, tmp_path):
    device, messages, proofs = told
    for message, proof in zip(messages, proofs):
        checkpoint = verify_proof(proof, message, system.ca)
        _, _, leaf, index, path, chain = decode(proof)
        assert index == CROWD and checkpoint.devices == 2 * CROWD + 1 and len(path) > 10
        assert leaf[:3] == [device.ueid, device.epoch, len(messages)] and leaf[3] == sha256(messages[-1])
        answer = command(system, tmp_path, proof, message, device=device)
        assert answer["covered"] and answer["checkpoint"] == checkpoint.number
        # Quiet reports only until the first that has sections.
        kinds = [has_sections(open_report(one)) for one in chain]
        assert kinds == sorted(kinds) and (True not in kinds or all(kinds[kinds.index(True):]))
    assert [len(decode(proof)[5]) for proof in proofs] == [3, 5, 4, 3, 2, 2, 1, 1, 0, 1, 0]
    number = decode(decode(decode(proofs[0])[1]).value.value[2])[CHECKPOINT][0]
    assert bytes(system.database.one("SELECT message FROM checkpoint WHERE number = %s", (number,))) == decode(proofs[0])[1]


def test_whose_report_it_is(system, told):
    _, messages, _ = told
    sha = sha256(messages[0]).hex()
    for answer in ask(system, sha, "globex"), ask(system, "00" * 32), ask(system, sha[:-1]), ask(system, sha.upper()):
        assert answer.status_code == 404 and answer.json()["type"] == "urn:fleetstate:problem:not-found"


def test_over_a_transfer_each_proves_its_own(system, tmp_path):
    """What was before stays proven, and what comes after is; neither has anything of the other's, but for the hash that a report names anyhow."""
    device = system.device()
    messages = [device.full(), device.quiet()]
    with Held(system):
        for message in messages:
            device.publish(message)
        system.await_stored(device, 2)
    early = proof_of(system, messages[0])
    system.database.cli("device", "transfer", device.ueid.hex(), "globex")
    with Held(system):
        later = [device.quiet({"receipt": True}), device.full(), device.quiet({"receipt": True})]
        for message in later:
            device.publish(message)
        system.await_stored(device, 5)
    proofs = [proof_of(system, message, "globex") for message in later]
    whose = {"acme": (messages, [early, proof_of(system, messages[1])]), "globex": (later, proofs)}
    for tenant, (own, proven) in whose.items():
        other = "globex" if tenant == "acme" else "acme"
        for message, proof in zip(own, proven):
            verify_proof(proof, message, system.ca)
            assert command(system, tmp_path, proof, message, device=device)["covered"]
            _, _, leaf, _, _, chain = decode(proof)
            assert leaf[2] == (2 if tenant == "acme" else 5) and set(chain) <= set(own)
            assert ask(system, sha256(message).hex(), other).status_code == 404
    assert [len(decode(proof)[5]) for proof in proofs] == [1, 0, 0]


def test_before_there_is_a_checkpoint_it_is_said_when(system, told):
    device, _, _ = told
    with Held(system):
        message = device.quiet()
        device.publish(message)
        answer = await_other(system, message, "not-found")
        assert (answer.status_code, answer.json()["type"]) == (404, "urn:fleetstate:problem:not-covered")
        assert 0 <= answer.json()["due_in_s"] <= 2 and "due at 20" in answer.json()["detail"]
    verify_proof(proof_of(system, message), message, system.ca)


def resigned(system, proof):
    """The same checkpoint by the receipt key of another operator."""
    pki = system.directory / "other"
    key = serialization.load_pem_private_key((pki / "receipt.key").read_bytes(), None)
    chain = [der(one) for one in certificates((pki / "receipt.crt").read_bytes())]
    parts = decode(proof)
    parts[1] = sign1(key, decode(parts[1]).value.value[2], chain)
    return encode(parts), pki / "operator-ca.crt"


def changed(proof, *place, by):
    parts = decode(proof)
    at = parts
    for step in place[:-1]:
        at = at[step]
    at[place[-1]] = by(at[place[-1]])
    return encode(parts)


flip = lambda b: bytes([b[0] ^ 1]) + b[1:]


def test_each_alteration_has_a_name(system, told, tmp_path):
    device, messages, proofs = told
    proof, message = proofs[1], messages[1]
    others, ca = resigned(system, proof)
    stranger = system.device(connect=False)
    wrong = [
        ("proof-malformed", proof[:-1], message), ("proof-malformed", proof + b"\0", message), ("proof-malformed", b"", message),
        ("proof-malformed", changed(proof, 0, by=flip), message), ("proof-malformed", encode([*decode(proof), 0]), message),
        ("proof-malformed", changed(proof, 4, by=lambda p: [p[0][:-1], *p[1:]]), message),
        ("checkpoint-malformed", changed(proof, 1, by=lambda m: m[:-1]), message), ("checkpoint-malformed", changed(proof, 1, by=lambda m: message), message),
        ("checkpoint-untrusted", changed(proof, 1, by=lambda m: m[:-1] + bytes([m[-1] ^ 1])), message), ("checkpoint-untrusted", others, message),
        ("report-malformed", proof, message[:-1]), ("report-malformed", changed(proof, 5, 0, by=lambda m: m[:-1]), message),
        ("other-device", proof, stranger.full()), ("other-device", changed(proof, 2, 0, by=lambda u: u[:-1] + b"\0"), message),
        ("other-device", changed(proof, 2, 2, by=lambda seq: 1), message),
        ("chain-broken", proof, messages[2]), ("chain-broken", proof, messages[3]), ("chain-broken", changed(proof, 5, by=lambda c: c[1:]), message),
        ("chain-broken", changed(proof, 5, by=lambda c: c[:-1]), message), ("chain-broken", changed(proof, 5, by=lambda c: [c[1], c[0], *c[2:]]), message),
        ("chain-broken", changed(proof, 5, by=lambda c: []), message), ("chain-broken", changed(proof, 2, 4, by=flip), message),
        ("not-in-root", changed(proof, 2, 3, by=flip), message), ("not-in-root", changed(proof, 2, 2, by=lambda seq: seq + 1), message),
        ("not-in-root", changed(proof, 3, by=lambda i: i + 1), message), ("not-in-root", changed(proof, 3, by=lambda i: i ^ 1024), message),
        ("not-in-root", changed(proof, 3, by=lambda i: 1 << 40), message), ("not-in-root", changed(proof, 4, 0, by=flip), message),
        ("not-in-root", changed(proof, 4, -1, by=flip), message), ("not-in-root", changed(proof, 4, by=lambda p: p[:-1]), message),
        ("not-in-root", changed(proof, 4, by=lambda p: [*p, bytes(32)]), message), ("not-in-root", changed(proof, 4, by=lambda p: []), message),
    ]
    for name, bad, of in wrong:
        assert command(system, tmp_path, bad, of, status=1, device=device)["fault"] == name
        with pytest.raises(Refused):
            verify_proof(bad, of, system.ca)
    assert command(system, tmp_path, others, message, "--operator-ca", ca, device=device)["covered"]  # whom one believes is the auditor's choice
    assert command(system, tmp_path, proof, message, "--operator-ca", system.broker.pki / "maker-ca.crt", status=1, device=device)["fault"] == "checkpoint-untrusted"
    assert not command(system, tmp_path, proof, message, "--json", status=1, device=device)["covered"]  # nobody is named who could be believed


def altered(bytes_, rng):
    """One to four bytes changed, one taken out or one put in."""
    data = bytearray(bytes_)
    how = rng.randrange(4)
    at = rng.randrange(len(data))
    if how == 0:
        del data[at]
    elif how == 1:
        data.insert(at, rng.randrange(256))
    else:
        for _ in range(rng.randrange(1, 5)):
            at = rng.randrange(len(data))
            data[at] ^= rng.randrange(1, 256)
    return bytes(data)


def test_a_thousand_alterations(system, told, tmp_path):
    device, messages, proofs = told
    rng = random.Random(8259)
    for i in range(1000):
        at = rng.randrange(6, len(proofs))
        proof, message = proofs[at], messages[at]
        if rng.randrange(4):
            bad, of = altered(proof, rng), message
        else:
            bad, of = proof, altered(message, rng)
        if (bad, of) == (proof, message):
            continue
        with pytest.raises(Refused):
            verify_proof(bad, of, system.ca)
        if i % 25 == 0:
            assert "fault" in command(system, tmp_path, bad, of, status=1, device=device)


def test_a_report_between_is_gone(system):
    """The evidence that would lead to the checkpoint was deleted: that is said, and no proof is made up."""
    with Held(system):
        device = system.device()
        messages = [device.full(), device.quiet(), device.quiet(), device.full(), device.quiet()]
        for message in messages:
            device.publish(message)
        system.await_stored(device, 5)
        system.database.sql("DELETE FROM report_quiet WHERE seq = 3 AND device_id = (SELECT device_id FROM device WHERE ueid = %s)", (device.ueid,))
    answer = await_other(system, messages[1], "not-covered")
    assert (answer.status_code, answer.json()["type"]) == (409, "urn:fleetstate:problem:chain-broken")
    verify_proof(proof_of(system, messages[0]), messages[0], system.ca)  # does not need it
    verify_proof(proof_of(system, messages[3]), messages[3], system.ca)


def test_too_much_lies_between(system):
    with Held(system):
        device = system.device()
        first = device.full()
        device.publish(first)
        system.await_stored(device, 1)
        system.database.sql("INSERT INTO report_full (device_id, epoch, seq, received_at, tenant_id, issued_at, sha256, sections, message)"
                            " SELECT device_id, epoch, n, now(), tenant_id, now(), sha256(n::text::bytea), 1, decode(repeat('00', 2097152), 'hex')"
                            " FROM device_hot JOIN device d USING (device_id, tenant_id), generate_series(2, 6) n WHERE d.ueid = %s", (device.ueid,))
        device.seq = 6
        device.publish(device.quiet())
        system.await_stored(device, 7)
    answer = await_other(system, first, "not-covered")
    assert (answer.status_code, answer.json()["type"]) == (409, "urn:fleetstate:problem:chain-too-long")


def test_an_epoch_that_was_over_before(system):
    with Held(system):
        device = system.device()
        old = device.full()
        device.publish(old)
        system.await_stored(device, 1)
        system.database.cli("device", "reprovision", device.ueid.hex())
        device.renew()
        device.publish(device.full())
        system.await_stored(device, 2)
        answer = ask(system, sha256(old).hex())
        assert answer.status_code == 404 and "none will" in answer.json()["detail"] and "due_in_s" not in answer.json()


def test_the_audit_reads_the_leaves_too(system, told):
    words = "--device", told[0].ueid.hex(), "--ca", system.broker.pki / "operator-ca.crt"
    totals = json.loads(system.database.cli("audit", "--json", *words).splitlines()[-1])
    assert totals["findings"] == 0 < totals["checkpoints"]
