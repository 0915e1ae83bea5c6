"""Accounts, lock-out, SSH, administrators and OpenSSL's defaults as the emitter has them, against the tools that mean them: sshd -T, passwd -S, lastb,
sudo, visudo, OpenSSL itself. In a namespace over this machine's files, in which the configuration is changed many times over."""

import json
import random
import struct
import subprocess
import sys
import time
from pathlib import Path

import pytest

from namespace import Namespace, why_not
from parts import BIN

pytestmark = pytest.mark.skipif(bool(why_not()), reason=why_not())


@pytest.fixture(scope="module")
def ns(tmp_path_factory):
    with Namespace(tmp_path_factory.mktemp("device")) as made:
        made.emitter = made.directory / "fleetstate-emitter"
        made.emitter.write_bytes((BIN / "fleetstate-emitter").read_bytes())
        made.emitter.chmod(0o755)
        made.forget_updates()
        made.run("mkdir", "-p", "/run/sshd")
        made.run("ssh-keygen", "-A")
        yield made


def state(ns, *options):
    return json.loads(ns.run(ns.emitter, "--print", *options).stdout)["state"]


# ---- sshd ----

ROOT = ("no", "yes", "prohibit-password", "without-password", "forced-commands-only", "NO", "Yes")
FLAG = ("yes", "no", "YES", "No")
LINES = {
    "PermitRootLogin": ROOT,
    "PasswordAuthentication": FLAG,
    "KbdInteractiveAuthentication": FLAG,
    "ChallengeResponseAuthentication": FLAG,
    "PermitEmptyPasswords": FLAG,
    "PubkeyAuthentication": FLAG,
    "MaxAuthTries": ("1", "3", "6", "010", "100"),
    "LoginGraceTime": ("0", "30", "2m", "1h30m", "45s", "1d"),
    "AuthenticationMethods": ("any", "publickey", "publickey,password", "password", "publickey password", "publickey,keyboard-interactive:pam password",
                              "keyboard-interactive"),
    "PubkeyAcceptedAlgorithms": ("+ssh-rsa", "-ssh-ed25519", "ssh-ed25519,ssh-rsa", "+ssh-dss,ssh-rsa", "ssh-ed25519"),
}
GLOBAL = {
    "UsePAM": FLAG,
    "Ciphers": ("+aes128-cbc", "aes256-ctr,3des-cbc", "-aes*", "^aes256-cbc", "aes256-gcm@openssh.com", "+aes128-cbc,aes192-cbc,aes256-cbc"),
    "MACs": ("+hmac-md5", "hmac-sha2-256,hmac-sha1-96", "-hmac-sha1*", "^hmac-md5-96-etm@openssh.com", "hmac-sha2-512"),
    "KexAlgorithms": ("+diffie-hellman-group1-sha1", "curve25519-sha256,diffie-hellman-group14-sha1", "-ecdh-*", "^diffie-hellman-group-exchange-sha1"),
    "HostKeyAlgorithms": ("+ssh-rsa", "ssh-ed25519,ssh-dss,rsa-sha2-512", "-ssh-*", "rsa-sha2-256"),
    "CASignatureAlgorithms": ("+ssh-rsa", "ssh-ed25519"),
}
CONDITIONS = ("User bob", "Group staff", "Address 10.0.0.0/8", "Host *.example.com", "User alice,bob LocalPort 22", "all")
WEAK = {
    "ciphers": {"3des-cbc", "aes128-cbc", "aes192-cbc", "aes256-cbc"},
    "macs": {"hmac-sha1-96", "hmac-sha1-96-etm@openssh.com", "hmac-md5", "hmac-md5-etm@openssh.com", "hmac-md5-96", "hmac-md5-96-etm@openssh.com"},
    "kexalgorithms": {"diffie-hellman-group1-sha1", "diffie-hellman-group14-sha1", "diffie-hellman-group-exchange-sha1"},
    "hostkeyalgorithms": {"ssh-rsa", "ssh-dss", "ssh-rsa-cert-v01@openssh.com", "ssh-dss-cert-v01@openssh.com"},
    "pubkeyacceptedalgorithms": {"ssh-rsa", "ssh-dss", "ssh-rsa-cert-v01@openssh.com", "ssh-dss-cert-v01@openssh.com"},
    "casignaturealgorithms": {"ssh-rsa", "ssh-dss"},
}


def spell(rng, keyword, value):
    """The same line as people write it."""
    keyword = rng.choice((keyword, keyword.lower(), keyword.upper()))
    if " " not in value and rng.random() < 0.2:
        value = f'"{value}"'
    return rng.choice((f"{keyword} {value}", f"  {keyword}\t{value}  ", f"{keyword}={value}", f"{keyword} = {value}", f"{keyword} {value} # why"))


def lines_of(rng, table, n):
    return [spell(rng, keyword, rng.choice(table[keyword])) for keyword in rng.choices(list(table), k=n)]


def write_variant(ns, rng):
    """A main file and up to three others, included at the top level, in a Match block, and from each other."""
    main = lines_of(rng, {**LINES, **GLOBAL}, rng.randrange(6))
    for name in ("10-a", "20-b"):
        text = lines_of(rng, LINES, rng.randrange(3))
        if rng.random() < 0.5:
            text += [f"Match {rng.choice(CONDITIONS)}", *lines_of(rng, LINES, 2)]
        ns.write(f"/etc/ssh/sshd_config.d/{name}.conf", "\n".join(text) + "\n")
    ns.write("/etc/ssh/inner", "\n".join([f"Match {rng.choice(CONDITIONS)}", *lines_of(rng, LINES, 2)]) + "\n")
    main.insert(rng.randrange(len(main) + 1), "Include /etc/ssh/sshd_config.d/*.conf")
    if rng.random() < 0.5:
        main.insert(rng.randrange(len(main) + 1), "include inner")
    main += lines_of(rng, {**LINES, **GLOBAL}, rng.randrange(3))
    for _ in range(rng.randrange(3)):
        main += [f"Match {rng.choice(CONDITIONS)}", *lines_of(rng, LINES, rng.randrange(1, 3))]
        if rng.random() < 0.3:
            main.append("Include inner sshd_config.d/20-b.conf")
    ns.write("/etc/ssh/sshd_config", "\n".join(main) + "\n")


def alone(methods, name):
    return methods == ["any"] or any(m.split(":")[0] == name for m in methods)


def sshd_says(ns):
    done = ns.run("/usr/sbin/sshd", "-T", check=False)
    if done.returncode:
        return None
    told = {}
    for line in done.stdout.splitlines():
        key, _, value = line.partition(" ")
        told.setdefault(key.lower(), []).append(value)
    methods = told["authenticationmethods"][0].split()
    password = told["passwordauthentication"] == ["yes"] and alone(methods, "password")
    password = password or (told["kbdinteractiveauthentication"] == told["usepam"] == ["yes"] and alone(methods, "keyboard-interactive"))
    return {
        "ssh_root": told["permitrootlogin"][0].replace("without-password", "prohibit-password"),
        "ssh_password": password,
        "ssh_empty_password": password and told["permitemptypasswords"] == ["yes"],
        "ssh_tries": int(told["maxauthtries"][0]),
        "ssh_grace_s": int(told["logingracetime"][0]),
        "ssh_weak": sorted(f"{kind} {name}" for kind, weak in WEAK.items() for name in weak & set(told[kind][0].split(","))),
    }


def test_ssh_settings_are_those_of_sshd(ns):
    rng = random.Random(8259)
    compared, values = 0, {}
    for _ in range(80):
        write_variant(ns, rng)
        theirs = sshd_says(ns)
        if theirs is None:
            continue  # what sshd would not start with is no setting in effect; test_sshd_config.c has what is refused here
        told = state(ns)
        ours = {key: told["access"].get(key) for key in ("ssh_root", "ssh_password", "ssh_empty_password", "ssh_tries", "ssh_grace_s", "ssh_weak")}
        if ours["ssh_weak"] is not None:
            ours["ssh_weak"] = sorted(ours["ssh_weak"])
        files = "\n".join(f"# {p}\n{ns.path(p).read_text()}" for p in ("/etc/ssh/sshd_config", "/etc/ssh/inner", "/etc/ssh/sshd_config.d/10-a.conf",
                                                                       "/etc/ssh/sshd_config.d/20-b.conf"))
        assert ours == theirs, files
        compared += 1
        for key, value in theirs.items():
            values.setdefault(key, set()).add(json.dumps(value))
    # The comparison is worth something only if it saw many values.
    assert compared >= 20
    assert len(values["ssh_root"]) >= 3 and len(values["ssh_password"]) == 2 and len(values["ssh_empty_password"]) == 2
    assert len(values["ssh_tries"]) >= 3 and len(values["ssh_grace_s"]) >= 3 and len(values["ssh_weak"]) >= 4


# ---- accounts ----

SHADOW = {"alice": "$y$j9T$F5Jx5fExrKuPp53xLKQ..1$X3DX6M94c7o.9agCG9G317fhZg9SqC.5i5rd.RhAtQ7", "bob": "!", "carol": "", "dave": "*", "erin": "$1$abcdefgh$BhQiFWNT0pnoZNAeTdlUZ/",
          "frank": "!$6$saltsalt$locked", "grace": "abQ9KY.KfrYrc", "heidi": "!!"}


@pytest.fixture(scope="module")
def people(ns):
    ns.path("/etc/shadow").chmod(0o640)
    ns.write("/etc/ssh/sshd_config", "UsePAM yes\n")  # whatever the last of many settings was
    passwd, shadow = ns.path("/etc/passwd"), ns.path("/etc/shadow")
    for i, (name, field) in enumerate(SHADOW.items()):
        with passwd.open("a") as out:
            out.write(f"{name}:x:{2000 + i}:{2000 + i}:,,,:/home/{name}:/bin/bash\n")
        with shadow.open("a") as out:
            out.write(f"{name}:{field}:19000:0:99999:7:::\n")
    with passwd.open("a") as out:
        out.write("toor:x:0:0::/root:/bin/sh\n")
    with shadow.open("a") as out:
        out.write("toor:*:19000:0:99999:7:::\n")
    return ns


def test_passwords_are_as_passwd_says(people):
    theirs = {}
    for line in people.run("passwd", "-S", "-a").stdout.splitlines():
        name, status = line.split()[:2]
        theirs[name] = status
    told = state(people)
    access = told["access"]
    assert "usable" in access, str(told["unknown"].get("access.usable"))
    assert access["accounts"] == len(theirs)
    assert access["locked"] == sum(s == "L" for s in theirs.values())
    assert access["empty_password"] == [n for n, s in theirs.items() if s == "NP"] == ["carol"]
    assert sorted(access["weak_password_hash"]) == ["erin", "grace"]
    assert access["second_root"] == ["toor"]
    assert sorted(access["usable"]) == ["alice", "carol", "erin", "grace"]


def test_a_key_makes_an_account_usable(people):
    people.write("/etc/ssh/sshd_config", "UsePAM yes\n")
    people.write("/home/bob/.ssh/authorized_keys", "# mine\nssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIA bob\nfrom=\"10.*\",command=\"a b\" ssh-rsa AAAAB3 x\nnonsense\n")
    access = state(people)["access"]
    assert "bob" in access["usable"] and access["authorised_keys"] == 2
    people.write("/etc/ssh/sshd_config", "PubkeyAuthentication no\n")
    access = state(people)["access"]
    assert "bob" not in access["usable"] and access["authorised_keys"] == 0
    people.write("/etc/ssh/sshd_config", "AuthorizedKeysCommand /bin/keys\nAuthorizedKeysCommandUser nobody\n")
    told = state(people)
    assert "authorised_keys" not in told["access"] and "program" in told["unknown"]["access.authorised_keys"]


def test_default_passwords_are_found(people):
    made = subprocess.run(["openssl", "passwd", "-6", "-salt", "saltsalt", "admin"], check=True, text=True, stdout=subprocess.PIPE).stdout.strip()
    shadow = people.path("/etc/shadow")
    shadow.write_text("".join(f"heidi:{made}:19000:0:99999:7:::\n" if line.startswith("heidi:") else line for line in shadow.read_text().splitlines(True)))
    people.write("/etc/defaults", "heidi:admin\nalice:admin\nnobody:admin\ncarol:x\n", 0o600)
    assert state(people, "--default-passwords", "/etc/defaults")["access"]["default_password"] == ["heidi"]
    people.write("/etc/defaults", "heidi:other\n", 0o600)
    assert state(people, "--default-passwords", "/etc/defaults")["access"]["default_password"] == []


def test_failed_logins_are_those_of_lastb(ns):
    now = int(time.time())
    rows = [(6, now - 10), (6, now - 3600), (7, now - 86000), (6, now - 90000), (6, now - 10 * 86400)]

    def record(kind, when):
        return struct.pack("<hxxi32s4s32s256shhiii4i20x", kind, 1, b"ssh:notty", b"", b"eve", b"192.0.2.1", 0, 0, 0, when, 0, 0, 0, 0, 0)

    ns.write("/var/log/btmp", "")
    ns.path("/var/log/btmp").write_bytes(b"".join(record(*row) for row in sorted(rows, key=lambda r: r[1])))
    since = time.strftime("%Y%m%d%H%M%S", time.localtime(now - 86400))
    theirs = [line for line in ns.run("lastb", "-s", since).stdout.splitlines() if line.startswith("eve")]
    assert state(ns)["access"]["failed_logins"] == len(theirs) == 3


# ---- lock-out ----

STACKS = (
    ("auth required pam_faillock.so preauth\nauth sufficient pam_unix.so\nauth [default=die] pam_faillock.so authfail\n", "deny = 5\nunlock_time = 900\n", (5, 900, 2)),
    ("auth required pam_faillock.so preauth deny=4 unlock_time=never\nauth sufficient pam_unix.so nodelay\n", "deny = 5\n", (4, 0, 0)),
    ("auth required pam_faildelay.so delay=4000000\nauth required pam_unix.so\n", "", (0, None, 4)),
    ("@include common-auth\n", "", (0, None, 2)),
    ("auth required \\\n pam_tally2.so deny=7 unlock_time=60\nauth required pam_unix.so\n", "", (7, 60, 2)),
    ("# auth required pam_faillock.so\naccount required pam_faillock.so\nauth required pam_unix.so\n", "deny = 2\n", (0, None, 2)),
)


@pytest.mark.parametrize("stack,conf,expected", STACKS)
def test_lock_out(ns, stack, conf, expected):
    ns.write("/etc/ssh/sshd_config", "PasswordAuthentication no\nKbdInteractiveAuthentication no\n")
    ns.write("/etc/pam.d/login", stack)
    ns.write("/etc/security/faillock.conf", conf)
    access = state(ns)["access"]
    assert (access["lockout_tries"], access.get("lockout_s"), access["delay_s"]) == expected


def test_the_loosest_way_in_counts(ns):
    ns.write("/etc/pam.d/login", "auth required pam_faillock.so deny=3\nauth required pam_unix.so\n")
    ns.write("/etc/ssh/sshd_config", "UsePAM yes\n")
    assert state(ns)["access"]["lockout_tries"] == 0
    ns.write("/etc/pam.d/sshd", "auth required pam_faillock.so deny=8\nauth required pam_unix.so\n")
    assert state(ns)["access"]["lockout_tries"] == 8
    ns.write("/etc/ssh/sshd_config", "UsePAM no\n")
    assert state(ns)["access"]["lockout_tries"] == 0


# ---- sudo ----

SUDOERS = (
    "alice ALL=(ALL:ALL) ALL\n",
    "alice ALL=(ALL) NOPASSWD: ALL\n",
    "alice ALL=(bob) ALL\n",
    "alice ALL=(root) /usr/bin/id\nDefaults !authenticate\n",
    "User_Alias ADMINS = alice, bob : OTHERS = dave\nADMINS ALL = NOPASSWD: /usr/bin/id, PASSWD: /usr/bin/ls\n",
    "Runas_Alias OP = root, bob\nalice ALL = (OP) ALL\n",
    "Runas_Alias OP = dave\nalice ALL = (OP) ALL\n",
    "Cmnd_Alias X = ALL\nalice ALL = \\\n  X\n#alice ALL=NOPASSWD: ALL\n",
    "%staff ALL=(ALL) ALL\nalice ALL=(ALL, !root) /usr/bin/id\n",
    "#2000 ALL=(ALL) ALL # alice\n",
    "alice, !bob ALL = ALL : ALL = NOPASSWD: /usr/bin/id\n",
    "alice ALL=(:staff) ALL\n",
)


def sudo_says(ns, user):
    """What `sudo -l -U` lists of what may be run as root: (everything, without a password), None if nothing."""
    out = ns.run("sudo", "-l", "-U", user, check=False).stdout
    entries = [line.strip() for line in out.splitlines() if line.startswith("    (")]
    found = None
    for line in entries:
        runas, _, rest = line[1:].partition(") ")
        users = [u.strip() for u in runas.split(":")[0].split(",")]
        if not ("root" in users or ("ALL" in users and "!root" not in users)) or runas.split(":")[0].strip() == user:
            continue
        free = "NOPASSWD:" in rest or "!authenticate" in out
        everything = "ALL" in rest.replace("NOPASSWD:", "").replace("PASSWD:", "").replace(",", " ").split()
        found = (everything or bool(found and found[0]), free or bool(found and found[1]))
    return found


@pytest.mark.parametrize("text", SUDOERS)
def test_administrators_are_those_of_sudo(people, text):
    ns = people
    ns.write("/etc/sudoers", "@includedir /etc/sudoers.d\n", 0o440)
    ns.run("rm", "-f", "/etc/sudoers.d/README")
    ns.write("/etc/sudoers.d/one", text, 0o440)
    ns.write("/etc/sudoers.d/not.this", "dave ALL=(ALL) NOPASSWD: ALL\n", 0o440)
    ns.run("visudo", "-c")
    told = state(ns)["configuration"]["administrators"]
    if text.startswith("#2000"):
        told = [line.replace("#2000 ", "alice ") for line in told]
    for user in ("alice", "bob", "dave"):
        mine = [line for line in told if line.startswith(f"{user} sudo")]
        theirs = sudo_says(ns, user)
        everything = any("for some commands" not in line for line in mine)
        ours = (everything, any("without password" in line for line in mine)) if mine else None
        assert ours == theirs, (user, told, ns.run("sudo", "-l", "-U", user, check=False).stdout)


# ---- OpenSSL ----

HEAD = "openssl_conf = init\n[init]\nssl_conf = ssl\n[ssl]\nsystem_default = sys\n"
OPENSSL = (
    HEAD + "[sys]\nMinProtocol = TLSv1.2\nCipherString = DEFAULT@SECLEVEL=2\n",
    HEAD + "[sys]\nMinProtocol = TLSv1.3\n",
    HEAD + "[sys]\nMinProtocol = TLSv1\nCipherString = DEFAULT:@SECLEVEL=0\n",
    HEAD + "[sys]\nCipherString = DEFAULT@SECLEVEL=1\nMinProtocol = TLSv1.1\n",
    HEAD + "[sys]\n1.minprotocol = TLSv1.2\n2.MinProtocol = TLSv1.3\nciphersTRING = ALL@SECLEVEL=3\n",
    HEAD + "[sys] # these\nMinProtocol = TLSv1.2\nMinProtocol = TLSv1.3\n[other]\nMinProtocol = TLSv1\n",
    HEAD + "[sys]\n.include /etc/ssl/more.cnf\n",
    HEAD + "[sys]\nDTLS.MinProtocol = DTLSv1.2\nTLS.MinProtocol = TLSv1.3\nCipherString = @SECLEVEL=4:HIGH\n",
    "# nothing\n",
    "openssl_conf = init\n[init]\nssl_conf = nowhere\n",
    HEAD + "[sys]\nMinProtocol = TLSv1.\\\n3\nCipherString = 'DEFAULT@SECLEVEL=2'\n",
)

ASK = """
import ctypes
ssl = ctypes.CDLL("libssl.so.3")
ssl.TLS_method.restype = ssl.SSL_CTX_new.restype = ctypes.c_void_p
ssl.SSL_CTX_new.argtypes = [ctypes.c_void_p]
ssl.SSL_CTX_get_security_level.argtypes = [ctypes.c_void_p]
ssl.SSL_CTX_ctrl.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_long, ctypes.c_void_p]
context = ssl.SSL_CTX_new(ssl.TLS_method())
print(ssl.SSL_CTX_ctrl(context, 130, 0, None), ssl.SSL_CTX_get_security_level(context))
"""


@pytest.mark.parametrize("text", OPENSSL)
def test_the_defaults_of_openssl_are_what_programs_get(ns, text):
    ns.write("/etc/ssl/openssl.cnf", text)
    ns.write("/etc/ssl/more.cnf", "MinProtocol = TLSv1.3\nCipherString = DEFAULT@SECLEVEL=3\n")
    floor, level = map(int, ns.run(sys.executable, "-c", ASK).stdout.split())
    data = state(ns)["data"]
    # From level 1 on OpenSSL 3 takes nothing below 1.2, whatever it was told.
    least = max(floor, 0x303) if level > 0 else floor
    assert (data["tls_floor"], data["tls_security_level"]) == ({0x301: "1.0", 0x302: "1.1", 0x303: "1.2", 0x304: "1.3"}[least], level)
    assert data["crypto_library"] == " ".join(ns.run("openssl", "version").stdout.split()[:2])


# ---- packages' files ----

def test_changed_conffiles_are_those_of_dpkg(ns):
    ns.write("/etc/adduser.conf", "changed\n")
    ns.run("rm", "-f", "/etc/deluser.conf")
    theirs = set()
    installed = False
    for line in ns.run("dpkg-query", "-W", "-f", "${db:Status-Status}\n${Conffiles}\n").stdout.splitlines():
        words = line.split()
        if not line.startswith(" "):
            installed = line == "installed" or (installed and not line)
        if not line.startswith(" ") or not installed or len(words) != 2 or len(words[1]) != 32:
            continue
        path = words[0]
        there = ns.run("md5sum", path, check=False).stdout.split()
        if not there:
            theirs.add(f"{path} missing")
        elif there[0] != words[1]:
            theirs.add(path)
    assert {"/etc/adduser.conf", "/etc/deluser.conf missing"} <= theirs
    assert set(state(ns)["configuration"]["packaged_changed"]) == theirs


# ---- volumes ----

def test_volumes_are_those_of_lsblk():
    """On this machine itself: nothing here is encrypted, so each writable disk is in the clear, once."""
    told = json.loads(subprocess.run([BIN / "fleetstate-emitter", "--print"], check=True, text=True, stdout=subprocess.PIPE).stdout)["state"]["data"]
    found = json.loads(subprocess.run(["findmnt", "-J", "-l", "-o", "TARGET,MAJ:MIN,OPTIONS"], check=True, text=True, stdout=subprocess.PIPE).stdout)
    disks = {}
    for row in found["filesystems"]:
        if not row["maj:min"].startswith("0:") and "rw" in row["options"].split(","):
            disks.setdefault(row["maj:min"], []).append(row["target"])
    kinds = json.loads(subprocess.run(["lsblk", "-J", "-l", "-o", "MAJ:MIN,TYPE"], check=True, text=True, stdout=subprocess.PIPE).stdout)["blockdevices"]
    crypt = {row["maj:min"].strip() for row in kinds if row["type"] == "crypt"}
    assert not crypt and told["encrypted_volumes"] == []
    assert sorted(told["plain_volumes"]) == sorted(min(points, key=len) for points in disks.values())
    assert told["plain_swap"] == any(not line.startswith("/dev/zram") for line in Path("/proc/swaps").read_text().splitlines()[1:])
