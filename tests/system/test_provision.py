"""What deploy/provision makes, read by python3-cryptography: who signed what, for which use, and that nothing is made twice or half."""

import pathlib
import stat
import subprocess

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

ROOT = pathlib.Path(__file__).resolve().parents[2]
SIGNING = x509.ObjectIdentifier("1.3.6.1.5.5.7.3.36")
CLIENT, SERVER = ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH


def provision(*args, good=True):
    done = subprocess.run([ROOT / "deploy/provision", *map(str, args)], capture_output=True, text=True)
    assert (done.returncode == 0) == good, done.stderr
    return done.stdout.split() if good else done.stderr


@pytest.fixture(scope="module")
def pki(tmp_path_factory):
    # Paths of real people have blanks and letters outside ASCII.
    directory = tmp_path_factory.mktemp("pki") / "clés et certificats"
    provision("ca", directory)
    return directory


def certificate(pki, name):
    return x509.load_pem_x509_certificate((pki / f"{name}.crt").read_bytes())


def common_name(name):
    return name.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value


def check_leaf(pki, name, issuer, common, uses):
    leaf, authority = certificate(pki, name), certificate(pki, issuer)
    authority.public_key().verify(leaf.signature, leaf.tbs_certificate_bytes, ec.ECDSA(leaf.signature_hash_algorithm))
    key = serialization.load_pem_private_key((pki / f"{name}.key").read_bytes(), None)
    assert key.public_key().public_numbers() == leaf.public_key().public_numbers()
    assert key.curve.name == "secp256r1"
    assert common_name(leaf.subject) == common and len(leaf.subject.rdns) == 1
    usage = leaf.extensions.get_extension_for_class(x509.KeyUsage)
    assert usage.critical and usage.value.digital_signature and not usage.value.key_cert_sign
    assert set(leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value) == uses
    basic = leaf.extensions.get_extension_for_class(x509.BasicConstraints)
    assert basic.critical and not basic.value.ca
    assert leaf.serial_number.bit_length() > 64
    assert stat.S_IMODE((pki / f"{name}.key").stat().st_mode) == 0o600
    return leaf


@pytest.mark.parametrize("name, issuer, common, uses", [
    ("broker", "operator-ca", "localhost", {SERVER}),
    ("receipt", "operator-ca", "fleetstate-receipt", {SIGNING}),
    ("collectors/collector", "collectors-ca", "collector", {CLIENT}),
])
def test_what_the_operator_has(pki, name, issuer, common, uses):
    check_leaf(pki, name, issuer, common, uses)


def test_the_brokers_names(pki):
    names = certificate(pki, "broker").extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["localhost"]
    assert [str(a) for a in names.get_values_for_type(x509.IPAddress)] == ["127.0.0.1"]


@pytest.mark.parametrize("name", ["maker-ca", "operator-ca", "collectors-ca"])
def test_authorities(pki, name):
    authority = certificate(pki, name)
    assert authority.issuer == authority.subject
    assert authority.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    usage = authority.extensions.get_extension_for_class(x509.KeyUsage)
    assert usage.critical and usage.value.key_cert_sign and not usage.value.digital_signature


def test_a_device_with_one_key(pki):
    (ueid,) = provision("device", pki)
    assert len(ueid) == 34 and ueid.startswith("01") and ueid == ueid.lower()
    check_leaf(pki, f"devices/{ueid}", "maker-ca", ueid, {CLIENT, SIGNING})


def test_a_device_with_two_keys(pki):
    wanted = "01" + "5a" * 16
    assert provision("device", pki, "--ueid", wanted, "--two-keys", "--days", "10") == [wanted]
    tls = check_leaf(pki, f"devices/{wanted}", "maker-ca", wanted, {CLIENT})
    sign = check_leaf(pki, f"devices/{wanted}.sign", "maker-ca", wanted, {SIGNING})
    assert tls.public_key().public_numbers() != sign.public_key().public_numbers()
    assert (tls.not_valid_after - tls.not_valid_before).days == 10


def test_a_second_call_changes_nothing(pki):
    (ueid,) = provision("device", pki)
    before = {p: p.read_bytes() for p in pki.rglob("*") if p.is_file()}
    provision("ca", pki)
    assert provision("device", pki, "--ueid", ueid) == [ueid]
    assert {p: p.read_bytes() for p in pki.rglob("*") if p.is_file()} == before


def test_a_pair_that_was_left_half_is_made_anew(pki):
    (ueid,) = provision("device", pki)
    (pki / f"devices/{ueid}.crt").unlink()
    provision("device", pki, "--ueid", ueid)
    check_leaf(pki, f"devices/{ueid}", "maker-ca", ueid, {CLIENT, SIGNING})


def test_the_brokers_certificate_is_renewed_before_it_ends(tmp_path):
    provision("ca", tmp_path)
    first = certificate(tmp_path, "broker")
    authority = certificate(tmp_path, "operator-ca")
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "29",
                    "-subj", "/CN=localhost", "-CA", tmp_path / "operator-ca.crt", "-CAkey", tmp_path / "operator-ca.key",
                    "-keyout", tmp_path / "broker.key", "-out", tmp_path / "broker.crt"], check=True, capture_output=True)
    provision("ca", tmp_path)
    assert certificate(tmp_path, "broker").not_valid_after >= first.not_valid_after
    assert certificate(tmp_path, "operator-ca") == authority


def test_two_makers_and_lists(pki, tmp_path):
    provision("maker", pki, "globex")
    ours = provision("devices", pki, 3, "--list", tmp_path / "ours")
    theirs = provision("devices", pki, 2, "--maker", "globex", "--list", tmp_path / "theirs")
    assert len(set(ours) | set(theirs)) == 5
    assert provision("devices", pki, 4, "--list", tmp_path / "ours")[:3] == ours
    assert provision("devices", pki, 2, "--list", tmp_path / "ours") == ours[:2]
    for ueid in ours:
        check_leaf(pki, f"devices/{ueid}", "maker-ca", ueid, {CLIENT, SIGNING})
    for ueid in theirs:
        check_leaf(pki, f"devices/{ueid}", "globex-ca", ueid, {CLIENT, SIGNING})
    roots = (pki / "device-roots.crt").read_text()
    assert roots.count("BEGIN CERTIFICATE") == 2
    for name in ("maker-ca", "globex-ca"):
        assert (pki / f"{name}.crt").read_text().strip() in roots
    for name in ("operator-ca", "collectors-ca"):
        assert (pki / f"{name}.crt").read_text().strip() not in roots


@pytest.mark.parametrize("args", [
    ("device", "--ueid", "01" + "AB" * 16),
    ("device", "--ueid", "02" + "ab" * 16),
    ("device", "--ueid", "01" + "ab" * 15),
    ("device", "--ueid", "01" + "ab" * 14 + "/../x"),
    ("device", "--days", "0"),
    ("device", "--maker", "nobody"),
    ("device", "--maker", "../maker"),
    ("devices", "many"),
    ("devices", "-1"),
    ("collector", "../../etc/x"),
    ("collector", ""),
    ("maker", "a/b"),
    ("destroy",),
])
def test_refused(pki, args):
    before = {p for p in pki.rglob("*")}
    assert provision(args[0], pki, *args[1:], good=False).startswith("deploy/provision: ")
    assert {p for p in pki.rglob("*")} == before


@pytest.mark.parametrize("name", ["operator", "collectors"])
def test_an_authoritys_names_are_reserved(pki, name):
    provision("maker", pki, name, good=False)
    provision("device", pki, "--maker", name, good=False)
