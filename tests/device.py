"""The device a second time, written from schema/report.cddl and receipt.cddl alone: what it makes and accepts does not depend on the C code.
Runs on Debian's python3 with cbor2, cryptography and paho-mqtt 1.6. Every way to be wrong is a keyword of Device.report or Device.quiet/full."""

import collections
import datetime
import hashlib
import io
import os
import queue
import socket
import ssl
import struct
import threading
import time

import cbor2
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

PROFILE = bytes.fromhex("69fe8cc694cda0f2b09f9db5d6e3f7d2fa8459")
IAT, NONCE, UEID, EAT_PROFILE, BOOTCOUNT = 6, 10, 256, 265, 267
STATE, META, INVENTORY, BOOT_ID, READINGS, SECTIONS_PREV, DROPPED, EVENTS = range(-65537, -65545, -1)
ACCOUNT, RECEIPT_NONCE = -65550, -65551
ES256, ES384, EDDSA = -7, -35, -8
SAME_FAMILY = {-7: -7, -9: -7, -35: -35, -51: -35, -8: -8, -19: -8}
DOCUMENT_SIGNING = x509.ObjectIdentifier("1.3.6.1.5.5.7.3.36")
ORDERS = {
    "secp256r1": 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551,
    "secp384r1": 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFC7634D81F4372DDF581A0DB248B0A77AECEC196ACCC52973,
}
WANTS = ("chain", "state", "inventory")
# events.def: the parts of each kind's subject
LOGIN, LOGIN_FAILED, PRIVILEGE, PRIVILEGE_REFUSED, FILE, SOCKET_OPENED, SOCKET_CLOSED, USB_ADDED, USB_REMOVED, BOOT, PACKAGE_INSTALLED, \
    PACKAGE_REMOVED, PACKAGE_CHANGED, CLOCK_JUMPED, LOST = range(1, 16)
EVENT_PARTS = dict(enumerate((3, 3, 3, 3, 2, 4, 4, 2, 2, 0, 2, 2, 3, 1, 2), 1))


class Refused(Exception):
    """What a verifier would not take, and why."""


# Deterministic CBOR (RFC 8949 4.2.1): map keys in the bytewise order of their encodings, which cbor2's canonical mode does not have.

class Encoded(bytes):
    """An item that is encoded already, in whatever spelling."""


def head(major, n):
    for bits, limit, form in ((24, 1 << 8, ">B"), (25, 1 << 16, ">H"), (26, 1 << 32, ">I"), (27, 1 << 64, ">Q")):
        if n < 24:
            return bytes([major << 5 | n])
        if n < limit:
            return bytes([major << 5 | bits]) + struct.pack(form, n)
    raise OverflowError(n)


def long_head(major, n):
    """Not the shortest: always the eight-byte argument."""
    return bytes([major << 5 | 27]) + struct.pack(">Q", n)


def encode_float(x):
    for first, form in ((b"\xf9", ">e"), (b"\xfa", ">f"), (b"\xfb", ">d")):
        try:
            packed = struct.pack(form, x)
        except OverflowError:
            continue
        if struct.unpack(form, packed)[0] == x:
            return first + packed
    raise ValueError(x)


def encode(x):
    if isinstance(x, Encoded):
        return bytes(x)
    if x is None or isinstance(x, bool):
        return {None: b"\xf6", False: b"\xf4", True: b"\xf5"}[x]
    if isinstance(x, int):
        return head(0, x) if x >= 0 else head(1, -1 - x)
    if isinstance(x, float):
        return encode_float(x)
    if isinstance(x, (bytes, bytearray)):
        return head(2, len(x)) + bytes(x)
    if isinstance(x, str):
        return head(3, len(x.encode())) + x.encode()
    if isinstance(x, (list, tuple)):
        return head(4, len(x)) + b"".join(encode(item) for item in x)
    if isinstance(x, dict):
        pairs = sorted((encode(key), encode(value)) for key, value in x.items())
        return bytes(encode_pairs(pairs))
    if isinstance(x, cbor2.CBORTag):
        return head(6, x.tag) + encode(x.value)
    raise TypeError(type(x))


def encode_pairs(pairs):
    """A map of encoded keys and values, in the order given and with what is twice in it."""
    return Encoded(head(5, len(pairs)) + b"".join(key + value for key, value in pairs))


def texts(x):
    if isinstance(x, str):
        yield x
    elif isinstance(x, dict):
        for pair in x.items():
            yield from texts(list(pair))
    elif isinstance(x, (list, tuple)):
        for item in x:
            yield from texts(item)


def decode(data):
    """Takes only the one spelling: what cbor2 reads must be written again as it was."""
    try:
        x = cbor2.loads(data)
    except (cbor2.CBORDecodeError, ValueError, UnicodeDecodeError, MemoryError) as error:
        raise Refused(f"not CBOR: {error}") from error
    if encode(x) != data:
        raise Refused("not the one spelling")
    if any("\0" in text for text in texts(x)):
        raise Refused("U+0000 in a text")
    return x


def sha256(data):
    return hashlib.sha256(data).digest()


# Keys, certificates and COSE_Sign1 (RFC 9052).

def read(pem):
    """Bytes, or the content of the file of that name."""
    if isinstance(pem, bytes):
        return pem
    with open(pem, "rb") as file:
        return file.read()


def certificates(pem):
    mark = b"-----BEGIN CERTIFICATE-----"
    return [x509.load_pem_x509_certificate(mark + part) for part in read(pem).split(mark)[1:]]


def der(certificate):
    return certificate.public_bytes(serialization.Encoding.DER)


def kid_of(public_key):
    spki = public_key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return sha256(spki)[:8]


def alg_of(key):
    if isinstance(key, (ed25519.Ed25519PrivateKey, ed25519.Ed25519PublicKey)):
        return EDDSA
    return {"secp256r1": ES256, "secp384r1": ES384}[key.curve.name]


def sig_structure(protected, payload):
    return encode(["Signature1", protected, b"", payload])


def hash_of(key):
    return hashes.SHA256() if alg_of(key) == ES256 else hashes.SHA384()


def sign(key, data, high_s=False):
    if alg_of(key) == EDDSA:
        return key.sign(data)
    n, size = ORDERS[key.curve.name], key.curve.key_size // 8
    r, s = decode_dss_signature(key.sign(data, ec.ECDSA(hash_of(key))))
    if (s > n // 2) != high_s:
        s = n - s
    return r.to_bytes(size, "big") + s.to_bytes(size, "big")


def verify(key, signature, data):
    if alg_of(key) == EDDSA:
        key.verify(signature, data)
        return
    size = key.curve.key_size // 8
    if len(signature) != 2 * size:
        raise Refused("signature of the wrong width")
    r, s = int.from_bytes(signature[:size], "big"), int.from_bytes(signature[size:], "big")
    if s > ORDERS[key.curve.name] // 2:
        raise Refused("high s")
    key.verify(encode_dss_signature(r, s), data, ec.ECDSA(hash_of(key)))


def sign1(key, payload, chain=(), *, alg=None, kid=None, high_s=False, protected=None, unprotected=Encoded(b"\xa0"), tags=(61, 18),
          signature=None, trailing=b""):
    """A message. Each keyword makes it wrong in one way."""
    header = {1: alg_of(key) if alg is None else alg, 4: kid_of(key.public_key()) if kid is None else kid}
    if chain:
        header[33] = chain[0] if len(chain) == 1 else list(chain)
    protected = encode(header) if protected is None else protected
    if signature is None:
        signature = sign(key, sig_structure(protected, payload), high_s)
    message = encode([protected, unprotected, payload, signature])
    for tag in reversed(tags):
        message = head(6, tag) + message
    return message + trailing


def issued(certificate, issuer):
    """Whether `issuer` signed it."""
    key, data, signature = issuer.public_key(), certificate.tbs_certificate_bytes, certificate.signature
    try:
        if isinstance(key, rsa.RSAPublicKey):
            key.verify(signature, data, padding.PKCS1v15(), certificate.signature_hash_algorithm)
        elif isinstance(key, ec.EllipticCurvePublicKey):
            key.verify(signature, data, ec.ECDSA(certificate.signature_hash_algorithm))
        else:
            key.verify(signature, data)
    except InvalidSignature:
        return False
    return certificate.issuer == issuer.subject


def extension(certificate, kind):
    try:
        return certificate.extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None


def check_issuer(issuer, below):
    basic, usage = extension(issuer, x509.BasicConstraints), extension(issuer, x509.KeyUsage)
    if not basic or not basic.ca:
        raise Refused("an issuer that is no CA")
    if basic.path_length is not None and below > basic.path_length:
        raise Refused("a chain longer than its CA allows")
    if usage and not usage.key_cert_sign:
        raise Refused("an issuer that may not sign certificates")


def check_chain(chain, ca_pem, at=None):
    """Leaf first, up to one of the CAs. Returns the CA's certificate."""
    at = at or datetime.datetime.utcnow()
    for certificate in chain:
        if not certificate.not_valid_before <= at <= certificate.not_valid_after:
            raise Refused("a certificate out of its time")
    for i, certificate in enumerate(chain[:-1]):
        check_issuer(chain[i + 1], i)
        if not issued(certificate, chain[i + 1]):
            raise Refused("a chain that does not hold together")
    for ca in certificates(ca_pem):
        if issued(chain[-1], ca):
            check_issuer(ca, len(chain) - 1)
            return ca
    raise Refused("a chain that does not end at the CA")


def common_name(certificate):
    names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return names[0].value if len(names) == 1 else None


SEQUENCE = 16 * 1024  # bytes of reports in one message, when it is more than one


def split(payload):
    """The reports of a message: a CBOR sequence (RFC 8742)."""
    stream, ends = io.BytesIO(payload), [0]
    while ends[-1] < len(payload):
        cbor2.CBORDecoder(stream).decode()
        ends.append(stream.tell())
    if len(ends) > 2 and len(payload) > SEQUENCE:
        raise Refused("more than goes in one message")
    return [payload[at:end] for at, end in zip(ends, ends[1:])]


def joined(reports):
    """The messages that they go in: as few as they can be."""
    messages = []
    for report in reports:
        if messages and len(messages[-1]) + len(report) <= SEQUENCE:
            messages[-1] += report
        else:
            messages.append(report)
    return messages


Message = collections.namedtuple("Message", "claims alg kid chain payload tbs sha256")


def open_message(message, ca_pem, cert_pem=None, at=None):
    """Form, chain and signature. `cert_pem`: the signer's certificate, for a message without a chain."""
    outer = decode(message)
    try:
        if outer.tag != 61 or outer.value.tag != 18:
            raise Refused("not 61(18(...))")
        protected, unprotected, payload, signature = outer.value.value
    except (AttributeError, TypeError, ValueError) as error:
        raise Refused("not 61(18([...]))") from error
    if unprotected != {}:
        raise Refused("unprotected map not empty")
    header = decode(protected)
    if not set(header) <= {1, 4, 33} or not {1, 4} <= set(header):
        raise Refused("header")
    chain = header.get(33, [])
    chain = [x509.load_der_x509_certificate(one) for one in ([chain] if isinstance(chain, bytes) else chain)]
    chain = chain or certificates(cert_pem or b"")
    if not chain:
        raise Refused("no certificate")
    check_chain(chain, ca_pem, at)
    usage = extension(chain[0], x509.KeyUsage)
    if usage and not usage.digital_signature:
        raise Refused("a certificate that is not for signing")
    key = chain[0].public_key()
    if header[4] != kid_of(key) or SAME_FAMILY.get(header[1]) != alg_of(key):
        raise Refused("key or algorithm is not the certificate's")
    tbs = sig_structure(protected, payload)
    try:
        verify(key, signature, tbs)
    except InvalidSignature as error:
        raise Refused("bad signature") from error
    return Message(decode(payload), header[1], header[4], chain, payload, sha256(tbs), sha256(message))


def facts_digest(state_digest, inventory_digest):
    return sha256(state_digest + inventory_digest)[:16]


def is_part(part):
    return part is None or (isinstance(part, str) and 1 <= len(part.encode()) <= 256)


def check_events(events):
    if not isinstance(events, list) or not 1 <= len(events) <= 256 or len(encode(events)) > 64 * 1024:
        raise Refused("how many events")
    for event in events:
        try:
            kind, subject, first, last, count = event
        except (TypeError, ValueError) as error:
            raise Refused("an event of another shape") from error
        if not (1 <= kind < 1 << 16 and 0 <= first <= last <= 253402300799 and 1 <= count < 1 << 53):
            raise Refused("an event's kind, times or count")
        if subject is not None and not (isinstance(subject, list) and len(subject) <= 4 and all(map(is_part, subject))):
            raise Refused("an event's subject")
        if subject is not None and kind in EVENT_PARTS and len(subject) != EVENT_PARTS[kind]:
            raise Refused("parts that the event's kind does not have")
    keys = [encode(event[0]) + encode(event[1]) for event in events]
    if keys != sorted(set(keys)):
        raise Refused("events that are no set in order")


def check_report(claims):
    for key in (IAT, UEID, EAT_PROFILE, BOOTCOUNT, META):
        if key not in claims:
            raise Refused(f"claim {key} is missing")
    if claims[EAT_PROFILE] != PROFILE:
        raise Refused("another profile")
    if len(claims[META]) != 6 or not 1 <= claims[META][0] < 1 << 53:
        raise Refused("meta")
    if (STATE in claims) != (INVENTORY in claims) or (STATE not in claims and READINGS in claims):
        raise Refused("sections that do not stand together")
    if SECTIONS_PREV in claims and STATE not in claims and EVENTS not in claims:
        raise Refused("no sections to follow others")
    if EVENTS in claims:
        check_events(claims[EVENTS])
    if STATE not in claims:
        return
    inventory = claims[INVENTORY]
    if not isinstance(inventory, bytes):
        items = [encode(item) for item in inventory]
        if items != sorted(set(items)):
            raise Refused("an inventory that is no set in order")
        inventory = sha256(encode(inventory))
    if claims[META][3] != facts_digest(sha256(encode(claims[STATE])), inventory):
        raise Refused("facts digest")


def verify_message(message, ca_pem, cert_pem=None, at=None):
    """A stored report, up to the maker's CA. Returns a Message, or raises Refused."""
    opened = open_message(message, ca_pem, cert_pem, at)
    check_report(opened.claims)
    if common_name(opened.chain[0]) != opened.claims[UEID].hex():
        raise Refused("a certificate of another device")
    return opened


Receipt = collections.namedtuple("Receipt", "iat ueid epoch up_to digest missing refused wants pace_ms nonce")


def verify_receipt(message, ca_pem, at=None):
    """A receipt, up to the operator's CA. Returns a Receipt, or raises Refused."""
    opened = open_message(message, ca_pem, at=at)
    leaf, claims = opened.chain[0], opened.claims
    usage = extension(leaf, x509.ExtendedKeyUsage)
    if common_name(leaf) != "fleetstate-receipt" or not usage or DOCUMENT_SIGNING not in usage:
        raise Refused("a certificate that is not for receipts")
    if ExtendedKeyUsageOID.CLIENT_AUTH in usage or ExtendedKeyUsageOID.SERVER_AUTH in usage:
        raise Refused("a receipt's certificate that is for TLS too")
    if claims.get(EAT_PROFILE) != PROFILE or len(claims.get(ACCOUNT, ())) != 7:
        raise Refused("not a receipt")
    epoch, up_to, digest, missing, refused, wants, pace = claims[ACCOUNT]
    return Receipt(claims[IAT], claims[UEID].hex(), epoch, up_to, digest, [tuple(one) for one in missing],
                   [(one[0], one[1]) for one in refused], {name for bit, name in enumerate(WANTS) if wants >> bit & 1}, pace,
                   claims.get(RECEIPT_NONCE))


# The device.

GONE = object()  # a claim's value: leave it out

DEFAULT_STATE = {
    0: {4 * 256 + 2: "no efivars"},
    1: {1: "SN-0001", 2: "acme", 3: "gate-2", 6: "acme-os", 7: "3.1.4"},
    3: {1: "debian", 3: "12", 7: "6.1.0-18-amd64"},
    5: {1: "dpkg", 2: 2},
    6: {2: [["tcp", bytes(4), 22, "sshd"], ["udp", bytes(16), 123, None]]},
}
DEFAULT_READINGS = {3: {9: 3600}, 7: {3: 0.25}}
DEFAULT_INVENTORY = [
    [0, "openssl", "3.0.11-1~deb12u2", "amd64", None, None, "pkg:deb/debian/openssl@3.0.11-1~deb12u2?arch=amd64"],
    [0, "libssl3", "3.0.11-1~deb12u2", "amd64", "openssl", None, None],
]

DEFAULT_EVENTS = [
    [LOGIN_FAILED, ["root", "sshd", "192.0.2.7"], 1790000000, 1790000042, 17],
    [FILE, ["/etc/hosts", "written"], 1790000050, 1790000050, 1],
    [BOOT, [], 1790000000, 1790000000, 1],
]


def in_order(components):
    return sorted(components, key=encode)


def shard(ueid):
    return sha256(ueid).hex()[0]


class Device:
    """ueid: 17 bytes or hex. cert, key: PEM files of the TLS client and, unless sign_cert and sign_key name others, of the signer; a certificate
    file may hold its intermediates. ca: of the broker; receipt_ca: of the operator."""

    def __init__(self, ueid, cert, key, ca, host="127.0.0.1", port=8883, *, sign_cert=None, sign_key=None, receipt_ca=None, epoch=None,
                 interval=300, bootcount=1):
        self.ueid = bytes.fromhex(ueid) if isinstance(ueid, str) else ueid
        self.cert, self.key, self.ca, self.host, self.port = cert, key, ca, host, port
        self.chain = [der(one) for one in certificates(sign_cert or cert)]
        self.signer = serialization.load_pem_private_key(read(sign_key or key), None)
        self.receipt_ca = receipt_ca or ca
        self.interval, self.bootcount = interval, bootcount
        self.send_chain = True
        self.state, self.inventory = DEFAULT_STATE, in_order(DEFAULT_INVENTORY)
        self.renew(epoch)
        self.client = None

    def renew(self, epoch=None):
        """A state directory made anew: another epoch."""
        self.epoch = os.urandom(8) if epoch is None else epoch
        self.seq, self.prev, self.sections_prev = 0, None, None

    # Making reports.

    def facts(self):
        return facts_digest(sha256(encode(self.state)), sha256(encode(self.inventory)))

    def meta(self, **wrong):
        meta = {"seq": self.seq + 1, "epoch": self.epoch, "prev": self.prev, "facts": self.facts(), "interval": self.interval,
                "receipt": False}
        meta.update(wrong)
        return list(meta.values())

    def quiet_claims(self, **meta):
        return {IAT: int(time.time()), UEID: self.ueid, EAT_PROFILE: PROFILE, BOOTCOUNT: self.bootcount, META: self.meta(**meta)}

    def full_claims(self, inventory_set=True, **meta):
        claims = self.quiet_claims(**{"receipt": True, **meta})
        claims[STATE] = self.state
        claims[INVENTORY] = self.inventory if inventory_set else sha256(encode(self.inventory))
        if self.sections_prev:
            claims[SECTIONS_PREV] = self.sections_prev
        return claims

    def report(self, claims, *, change=None, payload=None, chain=None, signer=None, keep=False, **wrong):
        """Signs `claims` and moves on to the next sequence number. `change`: claims to replace, GONE takes one out. `payload`: bytes instead, or
        a function of the right ones. `chain`, `signer`: others than ours. `keep`: do not move on. The rest goes to sign1."""
        claims = {key: value for key, value in {**claims, **(change or {})}.items() if value is not GONE}
        data = encode(claims)
        data = payload(data) if callable(payload) else data if payload is None else payload
        message = sign1(signer or self.signer, data, (self.chain if self.send_chain else ()) if chain is None else chain, **wrong)
        if not keep:
            self.seq = claims[META][0]
            self.prev = sha256(message)
            if STATE in claims or EVENTS in claims:
                self.sections_prev = self.prev
        return message

    def quiet(self, meta=None, **wrong):
        return self.report(self.quiet_claims(**(meta or {})), **wrong)

    def answer(self, receipt, nonce=None, **wrong):
        """What a challenge asks for: its nonce in the next report, at once."""
        return self.report(self.quiet_claims(receipt=True), change={NONCE: nonce or receipt.nonce}, **wrong)

    def full(self, inventory_set=True, meta=None, readings=DEFAULT_READINGS, **wrong):
        claims = self.full_claims(inventory_set, **(meta or {}))
        if readings:
            claims[READINGS] = readings
        return self.report(claims, **wrong)

    def eventful(self, events=None, meta=None, **wrong):
        """Events without a state."""
        claims = self.quiet_claims(**{"receipt": True, **(meta or {})})
        claims[EVENTS] = DEFAULT_EVENTS if events is None else events
        if self.sections_prev:
            claims[SECTIONS_PREV] = self.sections_prev
        return self.report(claims, **wrong)

    # Talking to the broker.

    @property
    def report_topic(self):
        return f"fleetstate/1/{shard(self.ueid)}/{self.ueid.hex()}/report"

    @property
    def receipt_topic(self):
        return f"fleetstate/1/{self.ueid.hex()}/receipt"

    def connect(self, timeout=10, client_id=None, clean=True):
        """Mutual TLS, MQTT 5. Returns the CONNACK's reason code once the receipts are subscribed to, or once refused."""
        import paho.mqtt.client as mqtt
        from paho.mqtt.packettypes import PacketTypes
        from paho.mqtt.properties import Properties

        class Client(mqtt.Client):
            """paho 1.6 reads a PUBACK's reason code and throws it away."""

            def _handle_pubackcomp(self, cmd):
                packet = bytes(self._in_packet["packet"])
                self.acknowledged(int.from_bytes(packet[:2], "big"), packet[2] if len(packet) > 2 else 0)
                return super()._handle_pubackcomp(cmd)

        self.receipts, self.acks, self.changed = queue.Queue(), {}, threading.Condition()
        self.connack, self.subscribed = None, False
        self.client = client = Client(client_id or self.ueid.hex(), protocol=mqtt.MQTTv5)
        client.acknowledged = lambda mid, code: self.note(lambda: self.acks.__setitem__(mid, code))
        client.on_connect = self.on_connect
        client.on_subscribe = lambda *_: self.note(lambda: setattr(self, "subscribed", True))
        client.on_message = lambda _client, _data, message: self.receipts.put(message.payload)
        # As the emitter's: a second report would else wait for the broker's acknowledgement of the first.
        client.on_socket_open = lambda _client, _data, sock: sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        client.tls_set(ca_certs=self.ca, certfile=self.cert, keyfile=self.key, cert_reqs=ssl.CERT_REQUIRED,
                       tls_version=ssl.PROTOCOL_TLS_CLIENT)
        properties = Properties(PacketTypes.CONNECT)
        properties.SessionExpiryInterval = 0 if clean else 3600
        client.connect(self.host, self.port, keepalive=30, clean_start=clean, properties=properties)
        client.loop_start()
        self.wait(lambda: self.subscribed or self.connack not in (None, 0), timeout, "CONNACK and SUBACK")
        return self.connack

    def on_connect(self, client, _data, _flags, code, _properties=None):
        self.note(lambda: setattr(self, "connack", code if isinstance(code, int) else code.value))
        if self.connack == 0:
            client.subscribe(self.receipt_topic, qos=1)

    def note(self, change):
        with self.changed:
            change()
            self.changed.notify_all()

    def wait(self, condition, timeout, what):
        with self.changed:
            if not self.changed.wait_for(condition, timeout):
                raise TimeoutError(what)

    def publish(self, message, topic=None, qos=1, retain=False, timeout=10):
        """Returns the PUBACK's reason code: 0 taken, 16 nobody subscribes, 135 not authorised ..."""
        info = self.client.publish(topic or self.report_topic, message, qos=qos, retain=retain)
        if qos == 0:
            return None
        self.wait(lambda: info.mid in self.acks, timeout, "PUBACK")
        return self.acks.pop(info.mid)

    def receipt(self, timeout=10):
        """The next receipt, verified and ours; raises queue.Empty when none comes in time."""
        receipt = verify_receipt(self.receipts.get(timeout=timeout), self.receipt_ca)
        if receipt.ueid != self.ueid.hex():
            raise Refused("a receipt for another device")
        if receipt.epoch == self.epoch and "chain" not in receipt.wants and receipt.up_to > 0:
            self.send_chain = False
        return receipt

    def receipt_up_to(self, seq, timeout=10):
        """Waits for the receipt that accounts for `seq` of this epoch."""
        end = time.monotonic() + timeout
        while True:
            receipt = self.receipt(max(0.0, end - time.monotonic()))
            missing = any(first <= seq <= last for first, last in receipt.missing)
            if receipt.epoch == self.epoch and receipt.up_to >= seq and not missing:
                return receipt

    def challenge(self, timeout=10):
        """Waits for a receipt that has a nonce."""
        end = time.monotonic() + timeout
        while True:
            receipt = self.receipt(max(0.0, end - time.monotonic()))
            if receipt.nonce:
                return receipt

    def close(self):
        if self.client:
            self.client.disconnect()
            self.client.loop_stop()
            self.client = None
