"""The secure baseline of the configuration: made and signed by `fleetstate baseline`, believed by the emitter only by the one key, and what drifted from it."""

import json
import os
import subprocess

import cbor2
import pytest
from cryptography.hazmat.primitives import serialization

from parts import BIN
import device  # found through parts

FILES = {"etc/app/a.conf": "a = 1\n", "etc/app/b.conf": "b = 2\n", "etc/hosts": "127.0.0.1 localhost\n"}
PATTERNS = ("/etc/app/*.conf", "/etc/hosts")


def key(directory, name, kind=("-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256")):
    private, public, certificate = (directory / f"{name}.{end}" for end in ("key", "pub", "crt"))
    subprocess.run(["openssl", "genpkey", *kind, "-out", private], check=True, capture_output=True)
    subprocess.run(["openssl", "pkey", "-in", private, "-pubout", "-out", public], check=True)
    subprocess.run(["openssl", "req", "-x509", "-key", private, "-subj", f"/CN={name}", "-days", "2", "-out", certificate], check=True, capture_output=True)
    return private, public, certificate


@pytest.fixture
def tree(tmp_path):
    root = tmp_path / "root"
    for name, text in FILES.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(0o644)
    (root / "etc/app/c.conf").symlink_to("/run/not-there")
    private, public, certificate = key(tmp_path, "maker")
    made = cli("baseline", "make", "--root", root, "--key", private, "--out", root / "etc/baseline", *PATTERNS)
    assert made.returncode == 0 and made.stdout == "3 files\n", made.stderr
    return root, public, certificate


def cli(*words):
    return subprocess.run([BIN / "fleetstate", *map(str, words)], capture_output=True, text=True)


def look(root, key_file, *options):
    words = [BIN / "fleetstate-emitter", "--print", "--root", root, "--baseline", "/etc/baseline", "--baseline-key", key_file, *options]
    told = json.loads(subprocess.run(list(map(str, words)), check=True, capture_output=True, text=True).stdout)["state"]
    return told["configuration"], told["unknown"]


def test_nothing_drifted(tree):
    root, public, certificate = tree
    for key_file in (public, certificate):
        told, _ = look(root, key_file)
        assert told["baseline_signed"] and told["drift"] == [] and told["restore"] == "baseline"
        assert {(row["path"], row["drift"]) for row in told["files"]} == {(f"/{name}", "none") for name in FILES}


@pytest.mark.parametrize("change,drift", [
    (lambda root: (root / "etc/app/a.conf").write_text("a = 2\n"), "/etc/app/a.conf changed"),
    (lambda root: (root / "etc/app/a.conf").unlink(), "/etc/app/a.conf missing"),
    (lambda root: (root / "etc/app/new.conf").write_text(""), "/etc/app/new.conf added"),
    (lambda root: (root / "etc/hosts").chmod(0o666), "/etc/hosts mode 0666"),
    (lambda root: (root / "etc/hosts").chmod(0o4644), "/etc/hosts mode 4644"),
    (lambda root: os.chown(root / "etc/hosts", 1000, 0), "/etc/hosts owner 1000:0"),
    (lambda root: os.chown(root / "etc/hosts", 0, 7), "/etc/hosts owner 0:7"),
])
def test_drift_is_told(tree, change, drift):
    root, public, _ = tree
    if drift.find(" owner ") > 0 and os.getuid() != 0:
        pytest.skip("changing an owner needs root")
    change(root)
    told, _ = look(root, public)
    assert told["baseline_signed"] and told["drift"] == [drift]


def test_another_key_is_not_believed(tree, tmp_path):
    root, _, _ = tree
    _, other, _ = key(tmp_path, "other")
    told, unknown = look(root, other)
    assert told["baseline_signed"] is False and "drift" not in told and "unknown-key" in unknown["configuration.drift"]
    assert told["restore"] == "none" if "restore" in told else "configuration.restore" in unknown
    assert cli("baseline", "show", root / "etc/baseline", "--key", other).returncode == 1


def test_no_byte_can_be_changed(tree):
    root, public, _ = tree
    path = root / "etc/baseline"
    whole = path.read_bytes()
    for at in range(0, len(whole), 7):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1:])
        told, unknown = look(root, public)
        assert told["baseline_signed"] is False and "configuration.drift" in unknown, at
    path.write_bytes(whole[:-1])
    assert look(root, public)[0]["baseline_signed"] is False
    path.write_bytes(whole + b"\0")
    assert look(root, public)[0]["baseline_signed"] is False


def test_without_a_key_or_with_a_bad_one_nothing_is_said(tree, tmp_path):
    root, _, _ = tree
    for key_file in (tmp_path / "none", root / "etc/hosts", key(tmp_path, "rsa", ("-algorithm", "RSA"))[1]):
        told, unknown = look(root, key_file)
        assert "baseline_signed" not in told and "configuration.baseline_signed" in unknown and "configuration.drift" in unknown
    told, unknown = look(root, "")
    assert unknown["configuration.baseline_signed"] == "baseline_key is not set"


def test_what_else_the_key_signs_is_no_baseline(tree, tmp_path):
    """A right signature says who signed; what, only the payload does."""
    root, public, _ = tree
    path = root / "etc/baseline"
    right = cbor2.loads(cbor2.loads(path.read_bytes()).value.value[2])
    private = serialization.load_pem_private_key((tmp_path / "maker.key").read_bytes(), None)
    assert right[1] == "fleetstate-baseline" and right[4] == sorted(PATTERNS) and [row[0] for row in right[5]] == sorted(f"/{name}" for name in FILES)
    path.write_bytes(device.sign1(private, device.encode(right)))
    assert look(root, public)[0]["baseline_signed"] is True
    wrong = [{**right, 1: "fleetstate-report"}, {**right, 2: 2}, {**right, 6: 0}, {key: value for key, value in right.items() if key != 4},
             {**right, 5: right[5][::-1]}, {**right, 5: [right[5][0]] * 2}, {**right, 5: [["etc/x", *right[5][0][1:]]]}, {**right, 5: [right[5][0][:4]]}, {}]
    for payload in wrong:
        path.write_bytes(device.sign1(private, device.encode(payload)))
        told, unknown = look(root, public)
        assert told["baseline_signed"] is False and "configuration.drift" in unknown, payload


def test_show_lists_the_files(tree):
    root, public, _ = tree
    shown = cli("baseline", "show", root / "etc/baseline", "--key", public)
    assert shown.returncode == 0
    assert [line.split()[-1] for line in shown.stdout.splitlines()] == sorted(f"/{name}" for name in FILES)


@pytest.mark.parametrize("words,status", [
    (("make", "/etc/hosts"), 2),
    (("make", "--key", "/nonexistent", "/etc/hosts"), 2),
    (("make",), 2),
    (("show", "/etc/hosts"), 2),
    (("show", "/nonexistent", "--key", "/nonexistent"), 2),
])
def test_wrong_calls(words, status):
    done = cli("baseline", *words)
    assert done.returncode == status and done.stderr and not done.stdout


def test_relative_patterns_and_empty_matches_are_refused(tree, tmp_path):
    root, _, _ = tree
    private = tmp_path / "maker.key"
    assert cli("baseline", "make", "--root", root, "--key", private, "etc/hosts").returncode == 2
    assert cli("baseline", "make", "--root", root, "--key", private, "/nothing/*").returncode == 1
