"""What the emitter says, against tools that others wrote: efivar on an image's UEFI variables, and lynis where it speaks of the same thing."""

import json
import re
import subprocess

import pytest

from namespace import Namespace, why_not
from parts import BIN, ROOT

GLOBAL = "8be4df61-93ca-11d2-aa0d-00e098032b8c"


def observe(*words, run=lambda words: subprocess.run(words, capture_output=True, text=True, check=True).stdout):
    return json.loads(run([BIN / "fleetstate-emitter", "--config", "/dev/null", *words, "--print"]))["state"]


@pytest.mark.parametrize("image", ["hardened", "neglected"])
def test_efivar_reads_the_same(tmp_path, image):
    subprocess.run([ROOT / "tests/images/make", "opkg", tmp_path], check=True)
    boot = observe("--root", tmp_path / image)["boot"]
    for name, fact in (("SecureBoot", "secure"), ("SetupMode", "setup_mode")):
        said = subprocess.run(["efivar", "-p", "-n", f"{GLOBAL}-{name}"], capture_output=True, text=True, check=True,
                              env={"EFIVARFS_PATH": f"{tmp_path / image}/sys/firmware/efi/efivars/", "PATH": "/usr/bin:/bin"}).stdout
        value = re.search(r"^0{8}  (\d\d) ", said, re.M)
        assert boot[fact] == (value.group(1) == "01"), said


# lynis: a test's number, and whether the emitter finds what that test warns of.
LYNIS = {
    "AUTH-9204": lambda state: bool(state["access"]["second_root"]),
    "AUTH-9283": lambda state: bool(state["access"]["empty_password"]),
}


@pytest.mark.skipif(bool(why_not()), reason=why_not() or "")
def test_lynis_warns_of_the_same(tmp_path):
    """Of time services lynis takes one that is installed for one that runs, so that its TIME-3104 is not compared."""
    with Namespace(tmp_path) as ns:
        def both():
            # Without the group it looks at all of its five hundred tests to see that it wants two of them.
            ns.run("lynis", "audit", "system", "--quick", "--no-plugins", "--no-colors", "--quiet", "--tests-from-group", "authentication",
                   "--tests", " ".join(LYNIS), "--logfile", "/tmp/log", "--report-file", "/tmp/report", check=False)
            report = ns.run("cat", "/tmp/report").stdout
            warned = {test for test in LYNIS if re.search(rf"^(warning|suggestion)\[\]={test}\|", report, re.M)}
            ns.run("cp", BIN / "fleetstate-emitter", tmp_path)
            state = json.loads(ns.run(tmp_path / "fleetstate-emitter", "--config", "/dev/null", "--print").stdout)["state"]
            return warned, {test for test, found in LYNIS.items() if found(state)}

        lynis, ours = both()
        assert lynis == ours == set()
        ns.run("useradd", "-o", "-u", "0", "-s", "/bin/sh", "toor")
        ns.run("useradd", "-s", "/bin/sh", "guest")
        ns.run("passwd", "-d", "guest")
        lynis, ours = both()
        assert lynis == ours == {"AUTH-9204", "AUTH-9283"}
