"""A wall clock of its own for what is started meanwhile: tests/clock.c."""

import contextlib
import struct
import subprocess

import pytest

from parts import ROOT


@contextlib.contextmanager
def wall_clock(directory):
    """Gives a function that sets the clock that many seconds ahead of the machine's."""
    library, file = directory / "clock.so", directory / "clock"
    subprocess.run(["cc", "-D_GNU_SOURCE", "-shared", "-fPIC", "-o", library, ROOT / "tests/clock.c"], check=True)

    def shift(seconds):
        # In place: whoever has mapped the file sees it.
        with open(file, "r+b" if file.exists() else "wb") as f:
            f.write(struct.pack("=q", seconds))
    shift(0)
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("LD_PRELOAD", str(library))
        environment.setenv("TEST_CLOCK", str(file))
        environment.setenv("ASAN_OPTIONS", "verify_asan_link_order=0", prepend=":")
        yield shift
