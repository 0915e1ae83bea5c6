"""Devices observed offline: per package family a hardened and a neglected image. Each key element of NISTIR 8259 Table 1 must tell the two apart."""

import json
import subprocess

import pytest

from parts import BIN, ROOT

FAMILIES = ("dpkg", "opkg", "apk", "rpm")
ELEMENTS = ("DI.1", "DI.2", "DC.1", "DC.2", "DC.3", "DP.1", "DP.2", "DP.3", "LA.1", "LA.2", "LA.3", "SU.1", "SU.2", "SU.3", "SU.4", "SU.5", "SU.6",
            "CS.1", "CS.2", "CS.3", "CS.4", "CS.5")
# What an image of the family can't tell apart; the manual says why.
ALIKE = {"dpkg": (), "opkg": ("SU.1",), "apk": ("SU.1",), "rpm": ("SU.1",)}


def observe(tree):
    done = subprocess.run([BIN / "fleetstate-emitter", "--config", tree / "etc/fleetstate/emitter.conf", "--root", tree, "--print"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)["state"]


@pytest.fixture(scope="module", params=FAMILIES)
def family(request, tmp_path_factory):
    directory = tmp_path_factory.mktemp(request.param)
    subprocess.run([ROOT / "tests/images/make", request.param, directory], check=True)
    return request.param, observe(directory / "hardened"), observe(directory / "neglected")


def test_the_elements_are_those_of_the_table(family):
    for state in family[1:]:
        assert tuple(sorted(state["elements"])) == tuple(sorted(ELEMENTS))


@pytest.mark.parametrize("element", ELEMENTS)
def test_an_element_differs(family, element):
    name, hardened, neglected = (state if isinstance(state, str) else state["elements"][element] for state in family)
    if element in ALIKE[name]:
        assert hardened["status"] == neglected["status"], f"{element} differs after all: {hardened} {neglected}"
    else:
        assert hardened["status"] != neglected["status"], f"{element}: {hardened} and {neglected}"


def test_the_neglected_one_is_never_called_better(family):
    good = ("in-effect", "declared")
    _, hardened, neglected = family
    for element in ELEMENTS:
        assert not (neglected["elements"][element]["status"] in good and hardened["elements"][element]["status"] not in good), element
    assert neglected["verdict"]["overall"] == "degraded"
    assert hardened["verdict"]["overall"] != "degraded", hardened["verdict"]


def test_few_are_alike_and_the_manual_names_them():
    page = (ROOT / "emitter/fleetstate-emitter.8").read_text()
    alike = {element for elements in ALIKE.values() for element in elements}
    assert len(alike) <= 4
    for element in alike:
        assert f"{element} is the same" in page


def test_packages_of_the_family_are_listed(family):
    name, hardened, neglected = family
    for state in (hardened, neglected):
        assert state["packages"]["manager"] == name
        assert state["packages"]["installed"] == 2, state["unknown"]
