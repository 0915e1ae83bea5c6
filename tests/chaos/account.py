"""What was signed, by the journals, against what is stored and what was declared dropped. A journal is a file outside the emitter's state; a line
is synced to it when the report is signed and before it is published: "ueid epoch seq sha256"."""

import collections
import queue
import ssl
import threading

import paho.mqtt.client
import psycopg2

from device import split
from machines import COLLECTOR_PORT, HUB, Failure
from parts import await_true

HEADS = """
SELECT encode(d.ueid, 'hex'), fleetstate.epoch_hex(h.epoch), h.hi,
 (SELECT min(lower(g.missing)) FROM fleetstate.report_gap g WHERE g.device_id = h.device_id AND g.epoch = h.epoch)
FROM fleetstate.device d JOIN fleetstate.device_hot h USING (device_id)"""
STORED = """
SELECT encode(d.ueid, 'hex'), fleetstate.epoch_hex(r.epoch), r.seq, encode(r.sha256, 'hex')
FROM fleetstate.report r JOIN fleetstate.device d USING (device_id)"""
DROPPED = """
SELECT encode(d.ueid, 'hex'), fleetstate.epoch_hex(r.epoch), lower(r.dropped), upper(r.dropped)
FROM fleetstate.report_drop r JOIN fleetstate.device d USING (device_id)"""

Count = collections.namedtuple("Count", "signed stored dropped skipped missing double unsigned forks duplicates late")


class Journal:
    """Reads on in a file that grows."""

    def __init__(self, path):
        self.path, self.at = path, 0
        self.rows = []  # (ueid, epoch, seq, sha256)

    def read(self):
        if not self.path.exists():
            return
        with open(self.path, "rb") as f:
            f.seek(self.at)
            text = f.read()
        whole = text[:text.rfind(b"\n") + 1]
        self.at += len(whole)
        for line in whole.decode().splitlines():
            ueid, epoch, seq, digest = line.split()
            self.rows.append((ueid, epoch, int(seq), digest))


class Account:
    def __init__(self, system):
        self.database = system.database
        self.journals = [Journal(part.journal) for part in (system.emitter, system.sim)]
        self.read_len = [0] * len(self.journals)
        self.heads = {}  # (ueid, epoch): the newest that was signed
        self.digests = set()
        self.lock = threading.Lock()

    def read(self):
        with self.lock:
            for i, journal in enumerate(self.journals):
                journal.read()
                for ueid, epoch, seq, digest in journal.rows[self.read_len[i]:]:
                    self.heads[ueid, epoch] = max(seq, self.heads.get((ueid, epoch), 0))
                    self.digests.add(digest)
                self.read_len[i] = len(journal.rows)
            return dict(self.heads)

    def signed(self):
        return sum(len(journal.rows) for journal in self.journals)

    def behind(self, heads):
        """Whose reports up to there are not all stored or declared."""
        stored = {(ueid, epoch): (hi, gap) for ueid, epoch, hi, gap in self.database.sql(HEADS)}
        none = (0, None)
        return {device: (seq, *stored.get(device, none)) for device, seq in heads.items()
                if stored.get(device, none)[0] < seq or (stored[device][1] is not None and stored[device][1] <= seq)}

    def is_stored(self, heads):
        try:
            return not self.behind(heads)
        except psycopg2.Error:
            return False

    def rows(self):
        self.read()
        return {row for journal in self.journals for row in journal.rows}

    def count(self):
        """Of what was signed when it begins; devices go on."""
        signed = self.rows()
        stored = collections.Counter(self.database.sql(STORED))
        signed_since = self.rows()
        dropped = set()
        for ueid, epoch, first, end in self.database.sql(DROPPED):
            dropped |= {(ueid, epoch, seq) for seq in range(first, end)}
        twice = sum(n - 1 for n in collections.Counter(row[:3] for row in stored.elements()).values())
        signed_numbers = {row[:3] for row in signed}
        not_stored = [row for row in signed if row not in stored]
        self.missing = [row for row in not_stored if row[:3] not in dropped]
        self.unsigned = [row for row in stored if row not in signed_since]
        forks, duplicates, late = self.database.sql("SELECT sum(forks), sum(duplicates), sum(late) FROM fleetstate.device_epoch")[0]
        return Count(signed=len(signed), stored=sum(n for row, n in stored.items() if row in signed), dropped=len(not_stored) - len(self.missing),
                     skipped=len(dropped - signed_numbers), missing=len(self.missing), double=twice, unsigned=len(self.unsigned), forks=int(forks),
                     duplicates=int(duplicates), late=int(late))


class Witness:
    """Hears reports at the broker while it is connected. What it heard must be in a journal already; and it can bring all of it once more."""

    KEPT = 20000

    def __init__(self, pki, account):
        self.account = account
        self.heard = collections.deque(maxlen=self.KEPT)
        self.unchecked = queue.SimpleQueue()
        self.connected = threading.Event()
        client = paho.mqtt.client.Client("chaos-witness", protocol=paho.mqtt.client.MQTTv5)
        client.tls_set(str(pki / "operator-ca.crt"), str(pki / "collectors/witness.crt"), str(pki / "collectors/witness.key"), ssl.CERT_REQUIRED)
        client.reconnect_delay_set(1, 1)
        client.max_inflight_messages_set(1000)
        client.on_connect = self.on_connect
        client.on_disconnect = lambda *_: self.connected.clear()
        client.on_message = self.on_message
        client.connect_async(HUB, COLLECTOR_PORT, keepalive=10)
        client.loop_start()
        self.client = client

    def on_connect(self, client, _data, _flags, code, _properties):
        if code == 0:
            client.subscribe("fleetstate/1/+/+/report", qos=0)
            self.connected.set()

    def on_message(self, _client, _data, message):
        self.heard.append((message.topic, bytes(message.payload)))
        self.unchecked.put(bytes(message.payload))

    def check(self, sha256):
        """Of what was published before the journals were read, what is not in them was published before its line was durable."""
        await_true(lambda: not self.unchecked.empty(), "a report that the witness hears", 30)
        published = []
        while not self.unchecked.empty():
            published += (sha256(report).hexdigest() for report in split(self.unchecked.get()))
        self.account.read()
        early = [digest for digest in published if digest not in self.account.digests]
        if early:
            raise Failure(f"published, but not in a journal: {early[:5]}")

    def bring_again(self, messages):
        await_true(self.connected.is_set, "the witness to be connected", 30)
        sent = [self.client.publish(topic, payload, qos=1) for topic, payload in messages]
        for info in sent:
            info.wait_for_publish(30)
            if not info.is_published():
                raise Failure("the broker does not take duplicates")

    def close(self):
        self.client.disconnect()
        self.client.loop_stop()
