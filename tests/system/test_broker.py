"""What the broker's configuration promises, asked of a real mosquitto: who may connect where, under which name, and touch what."""

import os
import socket
import ssl
import subprocess
import threading

import paho.mqtt.client as mqtt
import pytest
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions

import parts
from parts import provision

PATIENCE = 10
NOT_AUTHORISED = 0x87
NO_SUBSCRIBERS = 0x10  # a success
PACKET_TOO_LARGE = 0x95


class Broker(parts.Broker):
    def device(self, **kwargs):
        (ueid,) = provision("device", self.pki)
        return Client(self.port, self.pki, f"devices/{ueid}", client_id=kwargs.pop("client_id", "whatever"), ueid=ueid, **kwargs)

    def collector(self, client_id, **kwargs):
        return Client(self.collector_port, self.pki, "collectors/collector", client_id=client_id, **kwargs)


class Client:
    """An MQTT 5 client that keeps what happened, and whose calls wait for the broker's answer."""

    def __init__(self, port, pki, pair, client_id, ueid=None, expiry=0, clean=True, tls=None, will=None):
        self.ueid, self.changed = ueid, threading.Condition()
        self.connack = self.left = None
        self.acks, self.subacks, self.messages = {}, {}, []
        self.mqtt = mqtt.Client(client_id=client_id, protocol=mqtt.MQTTv5)
        self.mqtt.tls_set(str(pki / "operator-ca.crt"), str(pki / f"{pair}.crt"), str(pki / f"{pair}.key"))
        if tls:
            self.mqtt._ssl_context.maximum_version = tls
        self.mqtt.on_connect = lambda c, u, flags, code, props: self._note("connack", code)
        self.mqtt.on_disconnect = lambda c, u, code, props=None: self._note("left", code)
        self.mqtt.on_message = lambda c, u, m: self._note("message", m)
        self.mqtt.on_subscribe = lambda c, u, mid, codes, props: self._note("suback", (mid, codes[0].value))
        # Whoever loses a connection here lost it for good: a client that comes back by itself would hide what is asked.
        self.mqtt.reconnect_delay_set(3600, 3600)
        handle = self.mqtt._handle_pubackcomp
        if will:
            self.mqtt.will_set(will, b"will", 1)
        # paho 1.6 hands no reason of a PUBACK to anyone, so it is read where it comes in.
        self.mqtt._handle_pubackcomp = lambda cmd: self._puback(handle, cmd)
        self.properties = Properties(PacketTypes.CONNECT)
        self.properties.SessionExpiryInterval = expiry
        self.port, self.clean = port, clean

    def _note(self, what, value):
        with self.changed:
            if what == "message":
                self.messages.append(value)
            elif what == "suback":
                self.subacks[value[0]] = value[1]
            else:
                setattr(self, what, value)
            self.changed.notify_all()

    def _puback(self, handle, cmd):
        packet = bytes(self.mqtt._in_packet["packet"])
        with self.changed:
            self.acks[int.from_bytes(packet[:2], "big")] = packet[2] if len(packet) > 2 else 0
            self.changed.notify_all()
        return handle(cmd)

    def until(self, condition, what):
        with self.changed:
            assert self.changed.wait_for(condition, PATIENCE), f"waited in vain for {what}"

    def connect(self):
        self.mqtt.connect("localhost", self.port, keepalive=30, clean_start=self.clean, properties=self.properties)
        self.mqtt.loop_start()
        self.until(lambda: self.connack is not None or self.left is not None, "CONNACK")
        assert self.connack.value == 0, self.connack
        return self

    def publish(self, topic, payload=b"x", retain=False):
        """The PUBACK's reason; None if the broker hung up instead."""
        sent = self.mqtt.publish(topic, payload, 1, retain)
        self.until(lambda: sent.mid in self.acks or self.left is not None, "PUBACK")
        return self.acks.get(sent.mid)

    def subscribe(self, topic):
        _, mid = self.mqtt.subscribe(topic, options=SubscribeOptions(qos=1))
        self.until(lambda: mid in self.subacks, "SUBACK")
        return self.subacks[mid]

    def received(self, n):
        self.until(lambda: len(self.messages) >= n, f"{n} messages")
        return [(m.topic, m.payload) for m in self.messages]

    def close(self, how=0):
        self.mqtt.disconnect()
        self.mqtt.loop_stop()

    def vanish(self):
        """Goes without a DISCONNECT, so that the broker sends the will."""
        self.mqtt._sock.shutdown(socket.SHUT_RDWR)
        self.mqtt.loop_stop()

    def __enter__(self):
        return self.connect()

    def __exit__(self, *_):
        self.close()


@pytest.fixture(scope="module")
def broker(tmp_path_factory):
    # A blank and a letter outside ASCII: both occur in people's home directories.
    broker = Broker(tmp_path_factory.mktemp("dér broker"))
    yield broker
    broker.stop()


CONNECT = bytes.fromhex("100d00044d5154540502003c000000")  # MQTT 5, clean start, no client id
PUBLISH, DISCONNECT = 0x30, 0xE0


def tls(broker, port, pair=None, version=None):
    context = ssl.create_default_context(cafile=str(broker.pki / "operator-ca.crt"))
    if pair:
        context.load_cert_chain(broker.pki / f"{pair}.crt", broker.pki / f"{pair}.key")
    if version:
        context.maximum_version = version
    return context.wrap_socket(socket.create_connection(("127.0.0.1", port), PATIENCE), server_hostname="127.0.0.1")


def handshake(broker, port, pair=None, version=None):
    """None, or what went wrong. With TLS 1.3 the server's refusal arrives only with the first read."""
    try:
        with tls(broker, port, pair, version) as connection:
            connection.sendall(CONNECT)
            return None if connection.recv(1) else "closed"
    except (ssl.SSLError, ConnectionError) as error:
        return str(error) or "closed"


def packet_head(kind, size):
    head = [kind]
    while size > 127:
        head.append(size & 127 | 128)
        size >>= 7
    return bytes(head + [size])


@pytest.fixture(scope="module")
def some_device(broker):
    (ueid,) = provision("device", broker.pki)
    return ueid


def test_devices_listener_takes_a_devices_certificate(broker, some_device):
    assert handshake(broker, broker.port, f"devices/{some_device}") is None


def test_no_certificate_no_connection(broker):
    assert handshake(broker, broker.port)
    assert handshake(broker, broker.collector_port)


def test_a_devices_certificate_is_refused_at_the_collectors_listener(broker, some_device):
    assert handshake(broker, broker.port, f"devices/{some_device}") is None
    assert handshake(broker, broker.collector_port, f"devices/{some_device}")


def test_a_collectors_certificate_is_refused_at_the_devices_listener(broker):
    assert handshake(broker, broker.port, "collectors/collector")
    assert handshake(broker, broker.collector_port, "collectors/collector") is None


def test_a_stranger_with_a_good_name_is_refused(broker, some_device, tmp_path):
    provision("ca", tmp_path)
    provision("device", tmp_path, "--ueid", some_device)
    pair = os.path.relpath(tmp_path / "devices" / some_device, broker.pki)
    assert handshake(broker, broker.port, pair)


@pytest.mark.parametrize("use", ["sign", "receipt"])
def test_a_certificate_without_client_usage_is_refused(broker, use):
    (ueid,) = provision("device", broker.pki, "--two-keys")
    assert handshake(broker, broker.port, f"devices/{ueid}") is None
    assert handshake(broker, broker.port, f"devices/{ueid}.sign" if use == "sign" else "receipt")


def test_tls_1_2_is_refused(broker, some_device):
    assert "version" in handshake(broker, broker.port, f"devices/{some_device}", ssl.TLSVersion.TLSv1_2).lower()
    assert "version" in handshake(broker, broker.collector_port, "collectors/collector", ssl.TLSVersion.TLSv1_2).lower()


def test_a_second_makers_devices_are_taken_once_its_authority_is_in_the_roots(broker, tmp_path):
    b = Broker(tmp_path)
    try:
        provision("maker", b.pki, "globex")
        (ueid,) = provision("device", b.pki, "--maker", "globex")
        assert handshake(b, b.port, f"devices/{ueid}")
        b.stop()
        b.start()
        assert handshake(b, b.port, f"devices/{ueid}") is None
    finally:
        b.stop()


def test_a_report_reaches_the_shards_session(broker):
    with broker.collector("fleetstate-shard-7") as shard, broker.device() as device:
        assert shard.subscribe("fleetstate/1/7/+/report") == 1
        assert device.publish(f"fleetstate/1/7/{device.ueid}/report", b"mine") == 0
        assert shard.received(1) == [(f"fleetstate/1/7/{device.ueid}/report", b"mine")]


FOREIGN = "01" + "ab" * 16


def test_a_device_does_not_hear_its_own_reports(broker):
    with broker.device() as device, broker.collector("sender-2") as collector:
        device.subscribe("#")
        device.publish(f"fleetstate/1/3/{device.ueid}/report")
        collector.publish(f"fleetstate/1/{device.ueid}/command", b"end")
        assert device.received(1) == [(f"fleetstate/1/{device.ueid}/command", b"end")]


def test_the_client_id_is_the_certificates_name(broker):
    """A second connection under another client id, but the same certificate, takes the first one's place."""
    (ueid,) = provision("device", broker.pki)
    first = Client(broker.port, broker.pki, f"devices/{ueid}", client_id="one")
    second = Client(broker.port, broker.pki, f"devices/{ueid}", client_id="two")
    with first:
        with second:
            first.until(lambda: first.left is not None, "the first being taken over")
            assert second.publish(f"fleetstate/1/0/{ueid}/report") == NO_SUBSCRIBERS


def test_a_device_named_like_a_collector_reads_nothing(broker, tmp_path):
    """Client ids are one space in mosquitto: such a name, if a maker's authority signs it, takes the session, but not what is in it."""
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "1",
                    "-subj", "/CN=fleetstate-shard-3", "-addext", "extendedKeyUsage=clientAuth",
                    "-CA", broker.pki / "maker-ca.crt", "-CAkey", broker.pki / "maker-ca.key",
                    "-keyout", tmp_path / "x.key", "-out", tmp_path / "x.crt"], check=True, capture_output=True)
    with broker.collector("fleetstate-shard-3", expiry=600) as collector:
        collector.subscribe("fleetstate/1/3/+/report")
    pair = os.path.relpath(tmp_path / "x", broker.pki)
    with broker.device() as device, Client(broker.port, broker.pki, pair, client_id="x", expiry=600, clean=False) as thief:
        assert device.publish(f"fleetstate/1/3/{device.ueid}/report") == 0
        assert thief.publish(f"fleetstate/1/3/{device.ueid}/report") == NOT_AUTHORISED
        assert thief.messages == []


def test_the_largest_report_passes(broker):
    with broker.collector("fleetstate-shard-9") as shard, broker.device() as device:
        shard.subscribe("fleetstate/1/9/+/report")
        assert device.publish(f"fleetstate/1/9/{device.ueid}/report", bytes(2 * 1024 * 1024)) == 0
        assert [len(payload) for _, payload in shard.received(1)] == [2 * 1024 * 1024]


def test_a_collector_keeps_to_its_topics(broker):
    with broker.collector("fleetstate-shard-1") as collector:
        assert collector.publish(f"fleetstate/1/1/{FOREIGN}/report") != NOT_AUTHORISED
        assert collector.publish("elsewhere") == NOT_AUTHORISED
        assert collector.subscribe("fleetstate/1/canary/x") == 1
        assert collector.publish("fleetstate/1/canary/x", b"tweet") == 0
        assert collector.received(1) == [("fleetstate/1/canary/x", b"tweet")]


def test_a_collectors_session_waits_for_its_successor_through_a_restart(tmp_path):
    broker = Broker(tmp_path)
    try:
        with broker.collector("fleetstate-shard-5", expiry=0xFFFFFFFF, clean=False) as shard:
            shard.subscribe("fleetstate/1/5/+/report")
        with broker.device() as device:
            for i in range(1500):
                device.mqtt.publish(f"fleetstate/1/5/{device.ueid}/report", b"%d" % i, 1)
            device.until(lambda: len(device.acks) == 1500, "1,500 PUBACKs")
            assert set(device.acks.values()) == {0}
        broker.stop()
        broker.start()
        with broker.collector("fleetstate-shard-5", expiry=0xFFFFFFFF, clean=False) as successor:
            got = successor.received(1500)
            assert [int(payload) for _, payload in got] == list(range(1500))
    finally:
        broker.stop()
