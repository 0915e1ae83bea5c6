#!/usr/bin/python3
"""Writes defects.json: messages of tests/device.py, each wrong in one way, with the reason that must be given; and some that are right.
ECDSA takes a random number, so that the file differs each time: run it again only when there is something to add."""

import json
import pathlib
import sys

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

HERE = pathlib.Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

import device as d  # noqa: E402

KEYS = {"p256": ec.generate_private_key(ec.SECP256R1()), "p384": ec.generate_private_key(ec.SECP384R1()),
        "ed25519": ed25519.Ed25519PrivateKey.generate()}


def pem(key):
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())


def make(name="p256"):
    one = d.Device("01000102030405060708090a0b0c0d0e0f", b"", pem(KEYS[name]), b"")
    one.send_chain = False
    one.quiet()
    return one


def kid(name="p256"):
    return d.kid_of(KEYS[name].public_key())


def twice(payload):
    """The first claim again."""
    return b"\xa6" + payload[1:7] + payload[1:]


def reordered(payload):
    iat, rest = payload[1:7], payload[7:]
    return payload[:1] + rest[:3 + 18] + iat + rest[3 + 18:]


def long_iat(payload):
    return payload[:2] + d.long_head(0, int.from_bytes(payload[3:7], "big")) + payload[7:]


def inventory_backwards(one):
    one.inventory = list(reversed(one.inventory))
    return one.full()


def inventory_twice(one):
    one.inventory = sorted(one.inventory + one.inventory[:1], key=d.encode)
    return one.full()


def state(one, value):
    one.state = value
    return one.full()


def without_meta(one):
    claims = one.quiet_claims()
    del claims[d.META]
    return d.sign1(one.signer, d.encode(claims))


CASES = [
    ("quiet", "ok", lambda one: one.quiet()),
    ("full", "ok", lambda one: one.full()),
    ("inventory by digest", "ok", lambda one: one.full(inventory_set=False)),
    ("alg -9", "ok", lambda one: one.quiet(alg=-9)),
    ("a claim of later", "ok", lambda one: one.quiet(change={4711: [1.5, "x"]})),
    # the envelope
    ("no tags", "non-canonical", lambda one: one.quiet(tags=())),
    ("tag 18 only", "non-canonical", lambda one: one.quiet(tags=(18,))),
    ("other tags", "non-canonical", lambda one: one.quiet(tags=(61, 17))),
    ("unprotected filled", "non-canonical", lambda one: one.quiet(unprotected={4: b"x"})),
    ("trailing", "trailing-bytes", lambda one: one.quiet(trailing=b"\0")),
    ("high s", "non-canonical", lambda one: one.quiet(high_s=True)),
    ("another algorithm", "algorithm-unknown", lambda one: one.quiet(alg=-37)),
    ("header twice", "duplicate-key", lambda one: one.quiet(protected=bytes.fromhex("a30126012604" "48") + kid())),
    ("header backwards", "non-canonical", lambda one: one.quiet(protected=b"\xa2\x04\x48" + kid() + b"\x01\x26")),
    ("no kid", "malformed", lambda one: one.quiet(protected=bytes.fromhex("a10126"))),
    ("signed by another", "bad-signature", lambda one: one.quiet(signer=ec.generate_private_key(ec.SECP256R1()), kid=kid())),
    ("signature of nothing", "bad-signature", lambda one: one.quiet(signature=b"\1" * 64)),
    # the payload
    ("payload not the shortest", "non-canonical", lambda one: one.quiet(payload=long_iat)),
    ("claim twice", "duplicate-key", lambda one: one.quiet(payload=twice)),
    ("claims out of order", "non-canonical", lambda one: one.quiet(payload=reordered)),
    ("payload trailing", "trailing-bytes", lambda one: one.quiet(payload=lambda payload: payload + b"\0")),
    ("payload cut", "truncated", lambda one: one.quiet(payload=lambda payload: payload[:-1])),
    ("another profile", "profile-unknown", lambda one: one.quiet(change={d.EAT_PROFILE: "urn:example:other"})),
    ("no ueid", "claim-missing", lambda one: one.quiet(change={d.UEID: d.GONE})),
    ("no meta", "claim-missing", without_meta),
    ("seq 0", "claim-invalid", lambda one: one.quiet(meta={"seq": 0})),
    ("interval 0", "claim-invalid", lambda one: one.quiet(meta={"interval": 0})),
    ("wrong digest", "digest-mismatch", lambda one: one.full(meta={"facts": bytes(16)})),
    ("state without inventory", "claim-missing", lambda one: one.full(change={d.INVENTORY: d.GONE})),
    ("inventory without state", "claim-missing", lambda one: one.full(change={d.STATE: d.GONE}, readings=None)),
    ("inventory backwards", "non-canonical", inventory_backwards),
    ("component twice", "duplicate-key", inventory_twice),
    ("U+0000", "text-invalid", lambda one: state(one, {1: {1: "a\0b"}})),
    ("not UTF-8", "text-invalid", lambda one: state(one, {1: {1: d.Encoded(b"\x61\xff")}})),
    ("wrong type", "malformed", lambda one: state(one, {4: {2: "yes"}})),
    ("null fact", "malformed", lambda one: state(one, {4: {2: None}})),
    ("indefinite text", "non-canonical", lambda one: state(one, {1: {1: d.Encoded(b"\x7f\x61a\xff")}})),
    ("long text", "limit-exceeded", lambda one: state(one, {1: {1: "x" * 1025}})),
    ("long float", "non-canonical", lambda one: one.full(readings={7: {3: d.Encoded(bytes.fromhex("fb3fd0000000000000"))}})),
    ("infinite", "claim-invalid", lambda one: one.full(readings={7: {3: d.Encoded(bytes.fromhex("f97c00"))}})),
    ("events", "ok", lambda one: one.eventful()),
    ("events and a state", "ok", lambda one: one.full(change={d.EVENTS: d.DEFAULT_EVENTS})),
    ("events after a state", "ok", lambda one: (one.full(), one.eventful())[1]),
    ("no event", "claim-invalid", lambda one: one.eventful([])),
    ("events backwards", "non-canonical", lambda one: one.eventful(d.DEFAULT_EVENTS[::-1])),
    ("event twice", "duplicate-key", lambda one: one.eventful(d.DEFAULT_EVENTS[:1] * 2)),
    ("event of none", "claim-invalid", lambda one: one.eventful([[d.BOOT, [], 1, 1, 0]])),
    ("event before itself", "claim-invalid", lambda one: one.eventful([[d.BOOT, [], 2, 1, 1]])),
    ("event of other parts", "claim-invalid", lambda one: one.eventful([[d.FILE, ["/etc/hosts"], 1, 1, 1]])),
    ("event of a float", "malformed", lambda one: one.eventful([[d.BOOT, [], 1.5, 2, 1]])),
    ("too many events", "limit-exceeded", lambda one: one.eventful([[d.FILE, [f"{i:05}", "written"], 1, 1, 1] for i in range(257)])),
    ("sections before none", "claim-missing", lambda one: one.quiet(change={d.SECTIONS_PREV: bytes(32)})),
    ("drops itself", "claim-invalid", lambda one: one.quiet(change={d.DROPPED: [[1, 2, 1]]})),
]


def main():
    cases = [{"name": name, "key": "p256", "reason": reason, "message": make_message(make()).hex()} for name, reason, make_message in CASES]
    for key, alg in (("p384", -51), ("ed25519", -19)):
        cases.append({"name": key, "key": key, "reason": "ok", "message": make(key).full().hex()})
        cases.append({"name": f"alg {alg}", "key": key, "reason": "ok", "message": make(key).quiet(alg=alg).hex()})
    cases.append({"name": "high s, P-384", "key": "p384", "reason": "non-canonical", "message": make("p384").quiet(high_s=True).hex()})
    cases.append({"name": "alg of another key", "key": "p256", "reason": "algorithm-mismatch",
                  "message": make("ed25519").quiet(kid=kid()).hex()})
    spki = {name: key.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo).hex()
            for name, key in KEYS.items()}
    (HERE / "defects.json").write_text(json.dumps({"keys": spki, "cases": cases}, indent=1) + "\n")


main()
