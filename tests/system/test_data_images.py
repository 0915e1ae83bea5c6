"""What an image tells of its volumes and of its small SSH server: by fstab and crypttab, and as OpenWrt configures dropbear."""

import json
import subprocess

import pytest

from parts import BIN


def look(root, *options):
    words = [BIN / "fleetstate-emitter", "--print", "--root", root, *options]
    told = json.loads(subprocess.run(list(map(str, words)), check=True, capture_output=True, text=True).stdout)["state"]
    return told, told["unknown"]


def image(tmp_path, **files):
    for name, text in files.items():
        path = tmp_path / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path


VOLUMES = (
    ("/dev/mapper/data / ext4 rw 0 1\n/dev/sda1 /boot ext4 rw\n/dev/mapper/swap none swap sw\n", "data UUID=1 none luks\nswap /dev/sda3 /dev/urandom swap\n",
     {"encrypted_volumes": ["/"], "plain_volumes": ["/boot"], "plain_swap": False, "wipe": "crypto-erase"}),
    ("/dev/sda2 / ext4 rw 0 1\ntmpfs /tmp tmpfs rw\nproc /proc proc rw\n/dev/sda3 none swap sw\n", "# none\n",
     {"encrypted_volumes": [], "plain_volumes": ["/"], "plain_swap": True, "wipe": None}),
    ("UUID=2 / ext4 ro 0 1\n/dev/mmcblk0p4 /a\\040b ext4 rw\n", "", {"encrypted_volumes": [], "plain_volumes": ["/a b"], "plain_swap": False, "wipe": None}),
    ("UUID=2 / ext4 rw 0 1\n", "data UUID=1 none luks\n", {"encrypted_volumes": [], "plain_volumes": None, "plain_swap": False, "wipe": None}),
    ("/dev/mapper/vg-root / ext4 rw 0 1\n/dev/mapper/data /srv ext4\n", "data UUID=1 none luks\n",
     {"encrypted_volumes": ["/srv"], "plain_volumes": None, "plain_swap": False, "wipe": None}),
    ("# nothing\n", "", {"encrypted_volumes": None, "plain_volumes": None, "plain_swap": None, "wipe": None}),
    ("/dev/sda2\n\n/dev/sda3 /x\n", "", {"encrypted_volumes": None, "plain_volumes": None, "plain_swap": None, "wipe": None}),
)


@pytest.mark.parametrize("fstab,crypttab,expected", VOLUMES)
def test_volumes_of_an_image(tmp_path, fstab, crypttab, expected):
    told, unknown = look(image(tmp_path, etc__fstab=fstab, etc__crypttab=crypttab))
    for name, value in expected.items():
        assert told.get("data", {}).get(name) == value, unknown
        assert (f"data.{name}" in unknown) == (value is None)


def test_a_declared_way_of_wiping(tmp_path):
    told, _ = look(image(tmp_path, etc__fstab="/dev/sda2 / ext4 rw\n"), "--wipe", "the button at the back")
    assert told["data"]["wipe"] == "declared"


DROPBEAR = (
    ("config dropbear\n\toption PasswordAuth 'on'\n\toption RootPasswordAuth 'on'\n\toption Port '22'\n", ("yes", True, 10)),
    ("config dropbear\n\toption PasswordAuth 'off'\n\toption RootPasswordAuth 'off'\n\toption MaxAuthTries '3'\n", ("prohibit-password", False, 3)),
    ("config dropbear\n\toption RootLogin '0'\n", ("no", True, 10)),
)


@pytest.mark.parametrize("uci,expected", DROPBEAR)
def test_dropbear_of_openwrt(tmp_path, uci, expected):
    root = image(tmp_path, etc__config__dropbear=uci, etc__dropbear__authorized_keys="ssh-ed25519 AAAAC3 me\n", usr__sbin__dropbear="",
                 etc__passwd="root:x:0:0:root:/root:/bin/ash\n", etc__shadow="root:!:0:0:99999:7:::\n")
    access = look(root)[0]["access"]
    assert (access["ssh_root"], access["ssh_password"], access["ssh_tries"]) == expected
    assert access["authorised_keys"] == 1 and access["usable"] == ["root"] and access["ssh"] is True


def test_an_image_without_an_ssh_server(tmp_path):
    told, unknown = look(image(tmp_path, usr__sbin__x="", etc__passwd="root:x:0:0:root:/root:/bin/ash\n", etc__shadow="root::0:0:99999:7:::\n"))
    assert told["access"]["ssh"] is False and unknown["access.ssh_root"] == "no SSH server"
    assert told["access"]["empty_password"] == ["root"]


def test_what_may_not_be_read_is_not_said(tmp_path):
    """An account whose password is elsewhere: no shadow, and so no word on it."""
    told, unknown = look(image(tmp_path, etc__passwd="root:x:0:0:root:/root:/bin/ash\n"))
    assert told["access"]["accounts"] == 1
    for fact in ("usable", "empty_password", "weak_password_hash", "locked", "default_password"):
        assert fact not in told["access"] and unknown[f"access.{fact}"] == "no etc/shadow"


def test_both_ends_differ(tmp_path):
    """What a hardened image shows, a neglected one does not."""
    good = image(tmp_path / "good", etc__fstab="/dev/mapper/d / ext4 ro\n", etc__crypttab="d /dev/sda2 none luks\n", etc__passwd="root:x:0:0::/root:/bin/sh\n",
                 etc__shadow="root:!:1::::::\n", etc__ssh__sshd_config="PermitRootLogin no\nPasswordAuthentication no\nKbdInteractiveAuthentication no\n", usr__sbin__sshd="",
                 **{"etc__pam.d__login": "auth required pam_faillock.so deny=3\nauth required pam_unix.so\n"})
    bad = image(tmp_path / "bad", etc__fstab="/dev/sda2 / ext4 rw\n/dev/sda3 none swap sw\n", etc__passwd="root::0:0::/root:/bin/sh\ntoor:x:0:0::/:/bin/sh\n",
                etc__shadow="toor:abQ9KY.KfrYrc:1::::::\n", etc__ssh__sshd_config="PermitRootLogin yes\nPermitEmptyPasswords yes\nCiphers +3des-cbc\n", usr__sbin__sshd="",
                **{"etc__pam.d__login": "auth required pam_unix.so nodelay\n"})
    (bad / "etc/shadow").chmod(0o644)
    (good / "etc/shadow").chmod(0o600)
    bad.joinpath("etc/passwd").chmod(0o666)
    good, bad = look(good)[0], look(bad)[0]
    assert good["access"]["empty_password"] == [] and bad["access"]["empty_password"] == ["root"]
    assert good["access"]["second_root"] == [] and bad["access"]["second_root"] == ["toor"]
    assert bad["access"]["weak_password_hash"] == ["toor"]
    assert good["access"]["ssh_root"] == "no" and bad["access"]["ssh_root"] == "yes" and bad["access"]["ssh_empty_password"]
    assert bad["access"]["ssh_weak"] == ["ciphers 3des-cbc"]
    assert good["access"]["lockout_tries"] == 3 and bad["access"]["lockout_tries"] == 0 and bad["access"]["delay_s"] == 0
    assert good["configuration"]["writable"] is False and bad["configuration"]["writable"] is True
    assert good["data"]["wipe"] == "crypto-erase" and bad["data"]["plain_swap"]
    assert good["configuration"]["loose"] == [] and sorted(bad["configuration"]["loose"]) == ["/etc/passwd mode 0666", "/etc/shadow mode 0644"]
