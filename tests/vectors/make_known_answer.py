#!/usr/bin/python3
"""Makes the known answers beside it, from report.cddl and receipt.cddl with cbor2 and cryptography alone. Run again only when those change:
ECDSA takes a random number, so that the files differ each time. Nothing of the C code, nor of tests/device.py, has a part in them."""

import datetime
import hashlib
import json
import pathlib

import cbor2
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.x509.oid import NameOID, ObjectIdentifier

HERE = pathlib.Path(__file__).parent
FROM, UNTIL = datetime.datetime(2026, 1, 1), datetime.datetime(2056, 1, 1)
PROFILE = bytes.fromhex("69fe8cc694cda0f2b09f9db5d6e3f7d2fa8459")
P256 = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
UEID = bytes.fromhex("01000102030405060708090a0b0c0d0e0f")
EPOCH = bytes.fromhex("8877665544332211")


def check_order(x):
    """cbor2's canonical order goes by length first, which for the keys used here is the bytewise order: make sure."""
    if isinstance(x, dict):
        keys = [cbor2.dumps(key) for key in x]
        assert sorted(keys) == sorted(keys, key=lambda key: (len(key), key)), x
        for value in x.values():
            check_order(value)
    elif isinstance(x, list):
        for item in x:
            check_order(item)


def cbor(x):
    check_order(x)
    return cbor2.dumps(x, canonical=True)


def sha256(data):
    return hashlib.sha256(data).digest()


def name(text):
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def certify(subject, key, issuer, issuer_key, ca, usage=()):
    builder = (x509.CertificateBuilder().subject_name(name(subject)).issuer_name(name(issuer)).public_key(key.public_key())
               .serial_number(x509.random_serial_number()).not_valid_before(FROM).not_valid_after(UNTIL)
               .add_extension(x509.BasicConstraints(ca, None), True)
               .add_extension(x509.KeyUsage(not ca, False, False, False, False, ca, ca, False, False), True))
    if usage:
        builder = builder.add_extension(x509.ExtendedKeyUsage(usage), False)
    return builder.sign(issuer_key, hashes.SHA256())


def spki(key):
    return key.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def sign1(key, payload, chain):
    alg = -8 if isinstance(key, ed25519.Ed25519PrivateKey) else -7
    header = {1: alg, 4: sha256(spki(key))[:8]}
    if chain:
        ders = [one.public_bytes(serialization.Encoding.DER) for one in chain]
        header[33] = ders[0] if len(ders) == 1 else ders
    protected = cbor(header)
    tbs = cbor(["Signature1", protected, b"", payload])
    if alg == -8:
        signature = key.sign(tbs)
    else:
        r, s = decode_dss_signature(key.sign(tbs, ec.ECDSA(hashes.SHA256())))
        s = min(s, P256 - s)
        signature = r.to_bytes(32, "big") + s.to_bytes(32, "big")
    message = cbor2.CBORTag(61, cbor2.CBORTag(18, [protected, {}, payload, signature]))
    return cbor2.dumps(message, canonical=True), sha256(tbs)


STATE = {
    0: {4 * 256 + 2: "no efivars", 4 * 256 + 3: "no efivars"},
    1: {1: "SN-0042", 2: "acme", 3: "gate-2", 7: "3.1.4", 11: "gate-0042"},
    2: {3: 4, 4: 1 << 32},
    4: {1: "device-tree", 6: ["init=/bin/sh", "mitigations=off"], 7: True},
    6: {1: [["eth0", bytes.fromhex("020000000001"), True, None], ["lo", None, True, "loopback"]],
        2: [["tcp", bytes(4), 22, "sshd"], ["tcp", bytes.fromhex("20010db8000000000000000000000001"), 443, None]]},
    200: {1: ["a topic of a later version", {"at": [1, 2.5]}]},
}
READINGS = {3: {9: 86400}, 7: {3: -0.25, 4: 0.1}}
COMPONENTS = [
    [0, "openssl", "3.0.11-1~deb12u2", "amd64", None, None, "pkg:deb/debian/openssl@3.0.11-1~deb12u2?arch=amd64"],
    [0, "libssl3", "3.0.11-1~deb12u2", "amd64", "openssl", None, None],
    [7, "bootloader", "", None, None, None, None],
    [0, "libstdc++6", "12.2.0-14", "amd64", "gcc-12", "12.2.0-14+b1", None],
]
INVENTORY = sorted(COMPONENTS, key=cbor)

EVENTS = [
    [2, ["root", "sshd", "192.0.2.7"], 1790000000, 1790000042, 17],
    [2, [None, "sshd", "2001:db8::1"], 1790000001, 1790000001, 1],
    [2, None, 1789999999, 1790000200, 4711],
    [5, ["/etc/ssh/sshd_config", "written"], 1790000100, 1790000101, 2],
    [10, [], 1790000000, 1790000000, 1],
    [14, ["-3600"], 1790000002, 1790000002, 1],
    [4000, ["of a later version", None], 1790000003, 1790000003, (1 << 53) - 1],
]


def main():
    root_key, middle_key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    quiet_key, full_key, receipt_key = ec.generate_private_key(ec.SECP256R1()), ed25519.Ed25519PrivateKey.generate(), \
        ec.generate_private_key(ec.SECP256R1())
    root = certify("acme device root", root_key, "acme device root", root_key, True)
    middle = certify("acme line 1", middle_key, "acme device root", root_key, True)
    quiet_cert = certify(UEID.hex(), quiet_key, "acme device root", root_key, False)
    full_cert = certify(UEID.hex(), full_key, "acme line 1", middle_key, False)
    receipt_cert = certify("fleetstate-receipt", receipt_key, "acme device root", root_key, False,
                           [ObjectIdentifier("1.3.6.1.5.5.7.3.36")])

    state_digest, inventory_digest = sha256(cbor(STATE)), sha256(cbor(INVENTORY))
    facts = sha256(state_digest + inventory_digest)[:16]
    prev, sections_prev, boot_id, nonce = sha256(b"prev"), sha256(b"sections_prev"), sha256(b"boot id")[:16], sha256(b"nonce")[:8]

    quiet = {6: 1790000000, 256: UEID, 265: PROFILE, 267: 7, -65538: [41, EPOCH, prev, facts, 300, False]}
    full = {6: 1790000300, 10: nonce, 256: UEID, 265: PROFILE, 267: 8, -65537: STATE,
            -65538: [1042, EPOCH, prev, facts, 300, True], -65539: INVENTORY, -65540: boot_id, -65541: READINGS,
            -65542: sections_prev, -65543: [[42, 41 + 64, 2], [106, 1041, 1]], -65544: EVENTS[:1]}
    eventful = {6: 1790000600, 256: UEID, 265: PROFILE, 267: 8, -65538: [1043, EPOCH, prev, facts, 300, True],
                -65542: sections_prev, -65544: EVENTS}
    receipt = {6: 1790000301, 256: UEID, 265: PROFILE,
               -65550: [EPOCH, 1042, sha256(b"message 1042"), [[3, 3], [40, 41]], [[sha256(b"refused"), "bad-signature"]], 5, 50],
               -65551: nonce}

    expected = {"ueid": UEID.hex(), "epoch": EPOCH.hex(), "prev": prev.hex(), "sections_prev": sections_prev.hex(), "facts": facts.hex(),
                "state_digest": state_digest.hex(), "inventory_digest": inventory_digest.hex(), "boot_id": boot_id.hex(),
                "nonce": nonce.hex(), "state": cbor(STATE).hex(), "readings": cbor(READINGS).hex(), "inventory": cbor(INVENTORY).hex(),
                "events_section": cbor(EVENTS).hex(), "names": [item[1] for item in INVENTORY], "receipt_digest": sha256(b"message 1042").hex(),
                "refused_digest": sha256(b"refused").hex()}
    for label, key, claims, chain in (("quiet", quiet_key, quiet, []), ("events", quiet_key, eventful, []), ("full", full_key, full, [full_cert, middle]),
                                      ("receipt", receipt_key, receipt, [receipt_cert])):
        payload = cbor(claims)
        message, tbs = sign1(key, payload, chain)
        (HERE / f"known-{label}.cbor").write_bytes(message)
        expected[label] = {"payload": payload.hex(), "tbs": tbs.hex(), "spki": spki(key).hex(), "size": len(message)}
    (HERE / "known-ca.pem").write_bytes(root.public_bytes(serialization.Encoding.PEM))
    (HERE / "known-quiet.crt").write_bytes(quiet_cert.public_bytes(serialization.Encoding.PEM))
    (HERE / "known-full.crt").write_bytes(b"".join(one.public_bytes(serialization.Encoding.PEM) for one in (full_cert, middle)))
    (HERE / "known.json").write_text(json.dumps(expected, indent=1) + "\n")


main()
