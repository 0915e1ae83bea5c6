"""The system's own troubles on real parts: certificates that end, disks that fill, and who is told of them."""

import datetime
import pathlib
import shutil

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

import certificates
from certificates import SERVER, Authority
from ingesting import System, await_true

DAY = datetime.timedelta(days=1)


def ending(certificate, authority, days, lived=360):
    """The same once more, for the same key: it began `lived` days ago and ends in so many."""
    old = x509.load_pem_x509_certificate(certificate.read_bytes())
    issuer = x509.load_pem_x509_certificate(authority.with_suffix(".crt").read_bytes())
    key = serialization.load_pem_private_key(authority.with_suffix(".key").read_bytes(), None)
    now = datetime.datetime.utcnow()
    new = x509.CertificateBuilder(issuer.subject, old.subject, old.public_key(), x509.random_serial_number(), now - lived * DAY, now + days * DAY)
    for extension in old.extensions:
        new = new.add_extension(extension.value, extension.critical)
    return new.sign(key, hashes.SHA256())


def write(path, certificate):
    """All of it or nothing: the collector reads it whenever it likes."""
    new = path.with_suffix(".new")
    new.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    new.replace(path)


@pytest.fixture(scope="module")
def system(tmp_path_factory):
    """Its collector has a small disk of its own, seen by nobody else, a copy of its certificate, and TLS."""
    def before(system):
        system.disk = system.directory / "disk"
        system.disk.mkdir()
        system.certificate = system.directory / "client.crt"
        shutil.copy(system.collector.settings["certificate"], system.certificate)
        system.collector.settings.update(certificate=system.certificate, disks=system.disk, disk_free="4M")
        system.authority = Authority(system.directory, "http-ca")
        system.pair = system.authority.issue("http", (SERVER,), days=(-1, 300))
        system.crl = certificates.write(system.directory / "http.crl", system.authority.revoke())
        system.collector.settings.update(http_certificate=system.pair.crt, http_key=system.pair.key_file, http_client_ca=system.authority.path,
                                         http_client_crl=system.crl)
        system.collector.url = system.collector.url.replace("http:", "https:")
        system.collector.before = ["unshare", "--mount", "--map-root-user", "sh", "-c", 'mount -t tmpfs -o size=16m none "$0" && exec "$@"', system.disk]

    system = System(tmp_path_factory.mktemp("troubles"), postgres=["fsync=off"], before=before)
    yield system
    system.close()


def stands(system, policy):
    """What is said of it while it is so."""
    rows = system.database.sql("SELECT item::json -> 'reasons', severity FROM alert_item WHERE policy = %s AND state = 'open' AND item::json ->> 'scope' = 'system'", (policy,))
    assert len(rows) < 2
    return rows[0] if rows else None


def restart(system, **settings):
    system.collector.stop()
    system.collector.settings.update(settings)
    system.collector.start()


def test_a_disk_that_fills(system):
    file = pathlib.Path(f"/proc/{system.collector.process.pid}/root{system.disk}/file")
    await_true(lambda: system.database.one("SELECT count(*) FROM collector") == 1, "a first look")
    assert stands(system, "disk") is None
    file.write_bytes(bytes(13 << 20))
    reasons, severity = await_true(lambda: stands(system, "disk"), "the alert")
    assert (reasons, severity) == ([f"one: {system.disk}: less than 4 MiB of 16 are free"], "critical")
    file.unlink()
    await_true(lambda: not stands(system, "disk"), "its end")


def test_the_collectors_own_certificate(system):
    good = system.certificate.read_bytes()
    write(system.certificate, ending(system.certificate, system.broker.pki / "collectors-ca", 2))
    reasons, severity = await_true(lambda: stands(system, "certificate"), "the alert")
    assert severity == "high" and len(reasons) == 1
    assert reasons[0].startswith(f"one: {system.certificate} (CN=collector) ends 20")
    system.certificate.write_bytes(good)
    await_true(lambda: not stands(system, "certificate"), "its end")
    system.certificate.unlink()
    assert await_true(lambda: stands(system, "certificate"), "it again")[0] == [f"one: {system.certificate} can't be read"]
    system.certificate.write_bytes(good)
    await_true(lambda: not stands(system, "certificate"), "its end")


def test_the_http_interfaces_certificate(system):
    """A pair that can't be used is told of, and so is a list that is past its time."""
    authority, pair, crl = system.authority, system.pair, system.crl
    key = pair.key_file.read_bytes()
    certificates.write(pair.key_file, b"none")
    reasons, _ = await_true(lambda: stands(system, "certificate"), "the alert")
    assert reasons == ["one: http_certificate and http_key: The requested data were not available"]
    certificates.write(pair.key_file, key)
    await_true(lambda: not stands(system, "certificate"), "its end")
    certificates.write(crl, authority.revoke(days=(-9, -1)))
    assert await_true(lambda: stands(system, "certificate"), "the list")[0] == ["one: http_client_crl: a list in it is past its time"]
    certificates.write(crl, authority.revoke())
    await_true(lambda: not stands(system, "certificate"), "its end")


def test_a_trust_anchor(system, tmp_path):
    pki = system.broker.pki
    anchor = tmp_path / "anchor.crt"
    write(anchor, ending(pki / "maker-ca.crt", pki / "maker-ca", 2))
    system.database.cli("trust-anchor", "add", "--tenant", "acme", anchor)
    reasons, _ = await_true(lambda: stands(system, "certificate"), "the alert")
    assert reasons[0].startswith("one: trust anchor (CN=fleetstate-maker-ca) ends 20")
    system.database.cli("trust-anchor", "remove", system.database.one("SELECT max(trust_anchor_id) FROM trust_anchor"))
    await_true(lambda: not stands(system, "certificate"), "its end")


def test_devices_certificates_and_what_is_read_at_the_start(system, tmp_path):
    """A month ahead, and graver in the last week; renewed by the next report that carries a later one."""
    pki = system.broker.pki
    receipts = tmp_path / "receipt.crt"
    write(receipts, ending(pki / "receipt.crt", pki / "operator-ca", 2))
    devices = {}
    for days, lived in ((2, 360), (20, 360), (40, 360), (2, 5)):
        device = system.device()
        file = pki / f"devices/{device.ueid.hex()}.crt"
        device.publish(device.full(chain=[ending(file, pki / "maker-ca", days, lived).public_bytes(serialization.Encoding.DER)]))
        device.receipt_up_to(1)
        devices[days, lived] = device

    def told(key):
        rows = system.database.sql("SELECT policy, severity FROM alert_item WHERE ueid = %s AND state = 'open' ORDER BY policy", (devices[key].ueid,))
        return [tuple(row) for row in rows if row[0].startswith("certificate")]

    soon, urgent = ("certificate-ending", "medium"), ("certificate-urgent", "high")
    restart(system, receipt_certificate=receipts, database_size="1M", certificate_warning="30d")
    await_true(lambda: told((2, 360)) == [soon, urgent], "the alerts")
    assert told((20, 360)) == [soon] and told((40, 360)) == told((2, 5)) == []
    assert await_true(lambda: stands(system, "certificate"), "the receipts' certificate")[0][0].startswith(f"one: {receipts} (CN=fleetstate-receipt) ends 20")
    assert await_true(lambda: stands(system, "disk"), "the database's size")[0] == ["one: the database has nine tenths of its 1 MiB"]
    device = devices[2, 360]
    device.publish(device.full(chain=[ending(pki / f"devices/{device.ueid.hex()}.crt", pki / "maker-ca", 300, 1).public_bytes(serialization.Encoding.DER)]))
    device.receipt_up_to(2)
    restart(system, receipt_certificate=pki / "receipt.crt", database_size="1G")
    await_true(lambda: told((2, 360)) == [], "their end")
    await_true(lambda: not stands(system, "certificate") and not stands(system, "disk"), "the system's")


def test_who_is_told(system):
    """The operator of all; a tenant's feed of nothing but what impairs the service, and of that neither why nor by whom."""
    sql = system.database.sql
    for why in "a secret", None:
        for policy in "disk", "certificate":
            sql("SELECT report_trouble(%s, 'test', %s)", (policy, why), role="fleetstate_ingest")
    assert sql("SELECT DISTINCT tenant_id FROM event WHERE data ->> 'policy' IN ('disk', 'certificate')") == [(None,)]
    sql("SELECT report_trouble('outbox-lag', 'test', 'a secret')", role="fleetstate_ingest")
    assert sql("SELECT tenant_id, data -> 'reasons' FROM event WHERE data ->> 'policy' = 'outbox-lag' ORDER BY event_id") == [(None, ["a secret"]), (1, [])]
    alert = system.database.one("SELECT alert_id FROM alert_item WHERE policy = 'outbox-lag'")
    system.database.cli("alert", "comment", alert, "mine")
    system.database.cli("alert", "acknowledge", alert, "--comment", "mine")
    assert sql("SELECT type, data ? 'comment', data ? 'by' FROM event WHERE data ->> 'policy' = 'outbox-lag' AND tenant_id = 1 ORDER BY event_id") == [
        ("alert.opened", False, False), ("alert.acknowledged", False, False)]
    sql("SELECT report_trouble('outbox-lag', 'test', NULL)", role="fleetstate_ingest")
