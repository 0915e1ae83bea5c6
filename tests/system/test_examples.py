"""The example files are what the programs print, so that a new option can't be forgotten in them; and the programs can read them."""

import subprocess

import pytest

from parts import BIN, ROOT

PROGRAMS = ["emitter", "collector"]


@pytest.mark.parametrize("program", PROGRAMS)
def test_the_example_is_the_programs_own(program):
    printed = subprocess.run([BIN / f"fleetstate-{program}", "--example"], check=True, capture_output=True, text=True).stdout
    assert (ROOT / f"deploy/examples/{program}.conf").read_text() == printed


@pytest.mark.parametrize("program", PROGRAMS)
def test_every_option_can_be_uncommented(program, tmp_path):
    """Only values that are missing may be complained of, never a name or a default."""
    lines = (ROOT / f"deploy/examples/{program}.conf").read_text().splitlines()
    options = [line.removeprefix("#") for line in lines if " = " in line and not line.startswith("# ")]
    assert len(options) > 20
    (tmp_path / "conf").write_text("\n".join(line for line in options if not line.endswith("= ")) + "\n")
    done = subprocess.run([BIN / f"fleetstate-{program}", "--config", tmp_path / "conf", "--check"], capture_output=True, text=True)
    assert not any(word in done.stderr for word in ("no such option", "not an option", "unknown", "out of range")), done.stderr
