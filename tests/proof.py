"""Checkpoints, inclusion proofs and manifests a second time, written from schema/checkpoint.cddl, proof.cddl and manifest.cddl alone."""

import collections
import datetime
import hashlib

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.x509.oid import ExtendedKeyUsageOID
from cryptography import x509

from device import (DOCUMENT_SIGNING, EAT_PROFILE, EVENTS, IAT, META, PROFILE, Refused, SECTIONS_PREV, STATE, UEID, check_report, common_name, decode, extension,
                    open_message, sha256)

CHECKPOINT = -65560
Checkpoint = collections.namedtuple("Checkpoint", "iat number previous devices root sha256")


MANIFEST = -65570
Manifest = collections.namedtuple("Manifest", "iat tenant format rows size sha256 position since")


def verify_sealed(message, operator_ca):
    """The claims of what the collector signed, up to the operator's CA, at its own time."""
    claims = decode(decode(message).value.value[2])
    opened = open_message(message, operator_ca, at=datetime.datetime.utcfromtimestamp(claims[IAT]))
    leaf = opened.chain[0]
    usage = extension(leaf, x509.ExtendedKeyUsage)
    if common_name(leaf) != "fleetstate-receipt" or not usage or DOCUMENT_SIGNING not in usage or ExtendedKeyUsageOID.CLIENT_AUTH in usage:
        raise Refused("a certificate that is not the collector's")
    return claims


def verify_checkpoint(message, operator_ca):
    claims = verify_sealed(message, operator_ca)
    if claims.get(EAT_PROFILE) != PROFILE or len(claims.get(CHECKPOINT, ())) != 4:
        raise Refused("not a checkpoint")
    return Checkpoint(claims[IAT], *claims[CHECKPOINT], sha256(message))


def verify_manifest(message, export, operator_ca):
    """The Manifest that the export's bytes have, or Refused."""
    try:
        claims = verify_sealed(message, operator_ca)
        manifest = Manifest(claims[IAT], *claims[MANIFEST])
    except (AttributeError, TypeError, ValueError, KeyError, IndexError, OverflowError, RecursionError, UnsupportedAlgorithm) as error:
        raise Refused(f"not a manifest: {error!r}") from error
    if claims.get(EAT_PROFILE) != PROFILE or (len(export), sha256(export)) != (manifest.size, manifest.sha256):
        raise Refused("another export's manifest")
    return manifest


def encode_leaf(ueid, epoch, seq, head, sections):
    return ueid + epoch + seq.to_bytes(8, "big") + head + (sections or b"")


def root_of(leaf, index, devices, path):
    """RFC 9162 2.1.3.2, by the tree's shape rather than by its bits."""
    if devices <= 1:
        if path or index or devices != 1:
            raise Refused("a path of the wrong length")
        return hashlib.sha256(b"\0" + leaf).digest()
    if not path:
        raise Refused("a path of the wrong length")
    left = 1 << (devices - 1).bit_length() - 1
    if index < left:
        return hashlib.sha256(b"\1" + root_of(leaf, index, left, path[:-1]) + path[-1]).digest()
    return hashlib.sha256(b"\1" + path[-1] + root_of(leaf, index - left, devices - left, path[:-1])).digest()


def open_report(message):
    """Its claims; who signed it is not looked at."""
    claims = decode(decode(message).value.value[2])
    check_report(claims)
    return claims


def verify_proof(proof, report, operator_ca):
    """The Checkpoint that covers the report, or Refused."""
    try:
        profile, message, leaf, index, path, chain = decode(proof)
        ueid, epoch, seq, head, sections = leaf
        if profile != PROFILE or (len(ueid), len(epoch), len(head)) != (17, 8, 32) or (sections is not None and len(sections) != 32):
            raise Refused("not a proof")
        if any(not isinstance(h, bytes) or len(h) != 32 for h in path) or len(path) > 64:
            raise Refused("a hash of another length")
        checkpoint = verify_checkpoint(message, operator_ca)
        before, last = None, 0
        for one in [report, *chain]:
            claims = open_report(one)
            if claims[UEID] != ueid or claims[META][1] != epoch or not last < claims[META][0] <= seq:
                raise Refused("a report that does not belong there")
            if before and before not in (claims[META][2], claims.get(SECTIONS_PREV)):
                raise Refused("a chain that does not hold together")
            before, last = sha256(one), claims[META][0]
        if before not in (head, sections):
            raise Refused("a chain that does not end at the leaf")
        if not 0 <= index < checkpoint.devices or root_of(encode_leaf(*leaf), index, checkpoint.devices, path) != checkpoint.root:
            raise Refused("a leaf that is not in the root")
        return checkpoint
    except (AttributeError, TypeError, ValueError, KeyError, IndexError, OverflowError, RecursionError, UnsupportedAlgorithm) as error:
        raise Refused(f"not a proof: {error!r}") from error


def has_sections(claims):
    return STATE in claims or EVENTS in claims
