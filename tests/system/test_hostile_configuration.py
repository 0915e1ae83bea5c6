"""Configuration that includes itself, fills its limits, or is no file at all: the emitter says what it could not know, soon, and in little memory."""

import json
import os
import random
import subprocess

import pytest

from parts import BIN


@pytest.fixture
def tree(tmp_path):
    root = tmp_path / "root"
    for name in ("etc/ssh/sshd_config.d", "etc/pam.d", "etc/sudoers.d", "etc/ssl", "usr/sbin", "usr/bin", "usr/lib", "var/lib/dpkg", "var/log"):
        (root / name).mkdir(parents=True)
    for name in ("usr/sbin/sshd", "usr/bin/sudo", "usr/bin/doas"):
        (root / name).touch()
    rng = random.Random(8259)
    (root / "etc/passwd").write_text("".join(f"u{i}:x:{i}:0::/home/h{i}:/bin/sh\n" for i in range(16000)))
    (root / "etc/shadow").write_bytes(rng.randbytes(900000))
    (root / "etc/group").write_text("docker:x:1:" + ",".join(f"u{i}" for i in range(100000)) + "\n")
    (root / "etc/ssh/sshd_config").write_text("Include /etc/ssh/sshd_config\nInclude /etc/ssh/sshd_config.d/*\n" * 20)
    (root / "etc/pam.d/login").write_text("@include login\nauth include login\n" * 50)
    aliases = "".join(f"User_Alias A{i} = A{(i + 1) % 500},A{(i + 2) % 500}\n" for i in range(500))
    (root / "etc/sudoers").write_text("@include /etc/sudoers\n@includedir /etc/sudoers.d\n" + aliases + "A0 ALL=ALL\n" * 200)
    for i in range(200):
        (root / f"etc/ssh/sshd_config.d/{i}").symlink_to("../sshd_config")
        (root / f"etc/sudoers.d/l{i}").symlink_to("../sudoers")
    for name in ("etc/doas.conf", "etc/login.defs", "etc/fstab", "etc/baseline", "etc/passwords"):
        os.mkfifo(root / name)
    (root / "etc/crypttab").symlink_to("crypttab")
    (root / "etc/ssl/openssl.cnf").write_text(".include /etc/ssl/openssl.cnf\n.include /etc/ssl\n" * 100)
    with open(root / "usr/lib/libcrypto.so.3", "wb") as library:
        library.write(b"OpenSSL 3.0.1 ")
        library.truncate(1 << 34)
    conffiles = b"".join(b" /etc/%d %s\n" % (i, b"0" * 32) for i in range(100000))
    (root / "var/lib/dpkg/status").write_bytes(b"Package: a\nStatus: install ok installed\nConffiles:\n" + conffiles)
    return root


def test_it_ends_soon_and_says_why(tree):
    words = [BIN / "fleetstate-emitter", "--print", "--root", tree, "--baseline", "/etc/baseline", "--baseline-key", "/etc/hostname",
             "--default-passwords", "/etc/passwords", "--config-files", "/etc/*/* /*/*/*/* /etc/doas.conf /../x"]
    before = os.times()
    told = json.loads(subprocess.run(list(map(str, words)), check=True, capture_output=True, text=True, timeout=60).stdout)["state"]
    after = os.times()
    assert after.children_user + after.children_system - before.children_user - before.children_system < 20
    unknown = told["unknown"]
    assert "too deep" in unknown["access.ssh_root"] or "includes more than" in unknown["access.ssh_root"]
    assert unknown["access.login_retries"] == "etc/login.defs is not a regular file"
    assert unknown["data.crypto_library"].endswith("is larger than 32 MiB") or told["data"]["crypto_library"] == "OpenSSL 3.0.1"
    assert "includes too much" in unknown["data.tls_floor"] or "no OpenSSL" in unknown["data.tls_floor"]
    assert "not a regular file" in unknown["configuration.baseline"]
    assert "configuration.packaged_changed" in unknown
    assert "configuration.administrators" in unknown
    assert "symbolic links" in unknown["data.plain_volumes"]
    assert told["access"]["accounts"] == 16000
