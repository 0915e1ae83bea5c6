#!/usr/bin/python3
"""Makes the seeds of the fuzzers under corpus/: a few good inputs of each, and a few that are almost good.

Needs Debian's python3-cbor2 and python3-cryptography. The ECDSA signatures come out different each time; that is no matter.
"""
import hashlib
import pathlib

import cbor2
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

CORPUS = pathlib.Path(__file__).parent / "corpus"
ORDER = {
    32: 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551,
    48: 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFC7634D81F4372DDF581A0DB248B0A77AECEC196ACCC52973,
}
KEYS = {
    -7: ec.derive_private_key(1, ec.SECP256R1()),
    -35: ec.derive_private_key(1, ec.SECP384R1()),
    -8: ed25519.Ed25519PrivateKey.from_private_bytes(bytes(32)),
}
UEID = bytes([1]) + bytes(range(16))


def put(fuzzer, name, data):
    folder = CORPUS / fuzzer
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(data)


def spki(key):
    return key.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def signature(alg, text):
    key = KEYS[alg]
    if alg == -8:
        return key.sign(text)
    width, digest = (32, hashes.SHA256()) if alg == -7 else (48, hashes.SHA384())
    r, s = decode_dss_signature(key.sign(text, ec.ECDSA(digest)))
    s = min(s, ORDER[width] - s)
    return r.to_bytes(width, "big") + s.to_bytes(width, "big")


def message(alg, payload, chain=None):
    header = {1: alg, 4: hashlib.sha256(spki(KEYS[alg])).digest()[:8]}
    if chain:
        header[33] = chain
    protected = cbor2.dumps(header, canonical=True)
    text = cbor2.dumps(["Signature1", protected, b"", payload])
    return cbor2.dumps(cbor2.CBORTag(61, cbor2.CBORTag(18, [protected, {}, payload, signature(alg, text)])))


def cbor_seeds():
    items = {
        "numbers": [0, 23, 24, -1, -25, 65536, 2**63 - 1, -(2**63), 1.5, 0.1, 100000.5],
        "state": {0: {1026: "no efivars"}, 1: {1: "4711", 3: "gateway"}, 4: {2: True, 6: ["init="]}, 6: {1: [["eth0", b"\2" * 6, True, None]]}},
        "texts": ["", "a", "\u00fc", "\u6c34", "\U00010151", b"", b"\0\1"],
        "keys": {1: None, -1: False, "a": 0, "aa": []},
        "deep": [[[[[[[[]]]]]]]],
        "tags": [cbor2.CBORTag(18, 0), cbor2.CBORTag(61, [cbor2.CBORTag(4711, b"")])],
    }
    for name, item in items.items():
        put("cbor", name, cbor2.dumps(item, canonical=True))
    put("cbor", "indefinite", bytes.fromhex("9f01bf6161f5ff5f4101ffff"))
    put("cbor", "long-head", bytes.fromhex("8218171900ff"))
    put("cbor", "subnormal", bytes.fromhex("82f90001f903ff"))
    put("cbor", "lying-length", bytes.fromhex("9bffffffffffffffff00"))


def cose_seeds():
    for alg in KEYS:
        put("cose", f"good{alg}", message(alg, b"what the device saw"))
    put("cose", "chain-of-one", message(-7, b"x", b"leaf"))
    put("cose", "chain-of-three", message(-7, b"x", [b"leaf", b"first", b"second"]))
    put("cose", "no-payload", message(-8, b""))
    put("cose", "no-tag", message(-7, b"x")[2:])
    put("cose", "bad-signature", message(-7, b"x")[:-1] + b"\0")


def sequence_seeds():
    one, other = message(-7, b"x"), message(-8, b"what the device saw")
    put("sequence", "one", one)
    put("sequence", "three", one + other + one)
    put("sequence", "cut", one + other[:-1])
    put("sequence", "something-else-between", one + b"\x65hello" + other)
    put("sequence", "long-head", one + b"\xd8\x3d\xd2\x98\x04" + other[4:])
    put("sequence", "lying-length", one + b"\xd8\x3d\xd2\x84\x5b" + b"\xff" * 8 + other)
    put("sequence", "many", bytes.fromhex("d83dd28440a04040") * 130)


def topic_seeds():
    shard = hashlib.sha256(UEID).hexdigest()[0]
    put("topic", "report", f"fleetstate/1/{shard}/{UEID.hex()}/report".encode())
    put("topic", "wrong-shard", f"fleetstate/1/{int(shard, 16) ^ 1:x}/{UEID.hex()}/report".encode())
    put("topic", "receipt", f"fleetstate/1/{UEID.hex()}/receipt".encode())
    put("topic", "ueid", UEID.hex().encode())


if __name__ == "__main__":
    cbor_seeds()
    cose_seeds()
    sequence_seeds()
    topic_seeds()
