"""The spool's files a second time, written from schema/spool.cddl alone."""

import struct

HEAD = 24  # of a record


def crc32c(data):
    """RFC 3720 B.4"""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def records(segment):
    """(epoch, [(seq, flags, message)]) of a segment, of which all must be whole and sound."""
    assert segment[:8] == b"FSPOOL1\n"
    at, out = 16, []
    while at < len(segment):
        magic, size, seq, flags, crc = struct.unpack_from(">4sIQII", segment, at)
        message = segment[at + HEAD:at + HEAD + size]
        assert magic == b"FSR1" and len(message) == size and crc == crc32c(segment[at:at + 20] + message)
        out.append((seq, flags, message))
        at += HEAD + size
    return segment[8:16], out
