#!/usr/bin/python3
"""Writes the seeds of fuzz_report, fuzz_receipt, fuzz_manifest and fuzz_proof: payloads that are right, of every kind. A mutation can't find a matching facts digest by itself,
so that there is one report for each shape of its sections."""

import hashlib
import pathlib
import sys

from cryptography.hazmat.primitives.asymmetric import ed25519

HERE = pathlib.Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from device import (ACCOUNT, BOOTCOUNT, BOOT_ID, DEFAULT_EVENTS, DEFAULT_INVENTORY, DEFAULT_READINGS, DEFAULT_STATE, DROPPED, EAT_PROFILE, EVENTS, IAT, INVENTORY,  # noqa: E402
                    META, NONCE, PROFILE, READINGS, RECEIPT_NONCE, SECTIONS_PREV, STATE, UEID, encode, facts_digest, in_order, sign1)
from proof import MANIFEST  # noqa: E402

OURS = bytes.fromhex("01000102030405060708090a0b0c0d0e0f")
ALL_KINDS = {0: {1026: "no efivars"}, 1: {1: "SN"}, 2: {3: 4}, 4: {2: True, 6: ["init="]},
             6: {1: [["eth0", bytes(6), True, None]], 2: [["tcp", bytes(16), 22, "sshd"]]}, 200: {1: [1, -1, 1.5, None, b"x", {"a": 1}]}}


def sha256(data):
    return hashlib.sha256(data).digest()


def report(seq=41, state=None, inventory=None, by_digest=False, **more):
    claims = {IAT: 1790000000, UEID: OURS, EAT_PROFILE: PROFILE, BOOTCOUNT: 7}
    facts = bytes(16)
    if state is not None:
        digest = sha256(encode(inventory))
        facts = facts_digest(sha256(encode(state)), digest)
        claims[STATE], claims[INVENTORY] = state, digest if by_digest else inventory
    claims[META] = [seq, bytes(8), None if seq == 1 else bytes(32), facts, 300, state is not None]
    claims.update({int(key): value for key, value in more.items()})
    return claims


def receipt(*account, **more):
    return {IAT: 1790000000, UEID: OURS, EAT_PROFILE: PROFILE, ACCOUNT: list(account), **{int(key): value for key, value in more.items()}}


def manifest(*body, **more):
    return {IAT: 1790000000, EAT_PROFILE: PROFILE, MANIFEST: list(body), **{int(key): value for key, value in more.items()}}


SEEDS = {
    "report": {
        "quiet": report(),
        "first": report(seq=1),
        "declaring": report(seq=500, **{str(DROPPED): [[3, 40, 1], [41, 499, 2]], str(BOOT_ID): bytes(16), str(NONCE): bytes(8)}),
        "unknown-claim": report(**{"4711": {"a": [1.5, -1, None, True, b"x"]}}),
        "empty-sections": report(state={}, inventory=[]),
        "full": report(state=DEFAULT_STATE, inventory=in_order(DEFAULT_INVENTORY),
                       **{str(READINGS): DEFAULT_READINGS, str(SECTIONS_PREV): bytes(32)}),
        "events": report(**{str(SECTIONS_PREV): bytes(32), str(EVENTS): [*DEFAULT_EVENTS[:2], [5, None, 1, 2, 3], DEFAULT_EVENTS[2], [99, ["x"], 1, 1, 1]]}),
        "all-kinds": report(state=ALL_KINDS, inventory=[[7, "b", "", None, None, None, None]], by_digest=True),
    },
    "receipt": {
        "nothing": receipt(bytes(8), 0, None, [], [], 0, 0),
        "all": receipt(bytes(8), 1042, bytes(32), [[3, 3], [40, 41]], [[bytes(32), "bad-signature"]], 7, 50, **{str(RECEIPT_NONCE): bytes(8)}),
        "unknown-claim": receipt(bytes(8), 1, None, [], [], 1, 0, **{"4711": [1]}),
    },
    "manifest": {
        "all": manifest("acme", "csv", 1000000, 390889130, bytes(32), 41, None),
        "changes": manifest("acme", "ndjson", 0, 0, sha256(b""), 41, 40),
        "unknown-claim": manifest("a", "b", 1, 2, bytes(32), 3, 3, **{"4711": [1]}),
    },
}

KEY = ed25519.Ed25519PrivateKey.from_private_bytes(bytes(32))


def chain_of(*claims):
    """Signed reports, each with the digest of the one before."""
    messages = []
    for one in claims:
        if messages:
            one[META][2] = sha256(messages[-1])
        messages.append(sign1(KEY, encode(one)))
    return messages


def proof(messages, index, devices, path, sections=None):
    """Of the first of the messages; it holds when there is only one device."""
    leaf = [OURS, bytes(8), 40 + len(messages), sha256(messages[-1]), sections]
    root = sha256(b"\0" + OURS + bytes(8) + (40 + len(messages)).to_bytes(8, "big") + leaf[3] + (sections or b""))
    checkpoint = sign1(KEY, encode({IAT: 1790000300, EAT_PROFILE: PROFILE, -65560: [1, None, devices, root]}))
    return [PROFILE, checkpoint, leaf, index, path, messages]


QUIET = chain_of(report(seq=41), report(seq=42), report(seq=43))
SEEDS["proof"] = {
    "alone": proof(QUIET[:1], 0, 1, []),
    "chain": proof(QUIET, 0, 1, []),
    "path": proof(QUIET, 2, 5, [bytes(32), bytes([1]) * 32, bytes([2]) * 32], sections=bytes(32)),
}

for kind, seeds in SEEDS.items():
    for name, claims in seeds.items():
        (HERE / "corpus" / kind).mkdir(exist_ok=True)
        (HERE / "corpus" / kind / name).write_bytes(encode(claims))
