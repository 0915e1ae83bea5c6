"""schema/version.c against the tools whose orders it follows: dpkg and rpm, over generated pairs."""

import ctypes
import random
import subprocess

import pytest

from parts import ROOT

DEBIAN, RPM = 0, 1
PAIRS = 3000


class Slice(ctypes.Structure):
    _fields_ = [("at", ctypes.c_char_p), ("len", ctypes.c_size_t)]


@pytest.fixture(scope="module")
def compare(tmp_path_factory):
    library = tmp_path_factory.mktemp("version") / "version.so"
    subprocess.run(["cc", "-std=c11", "-D_GNU_SOURCE", "-shared", "-fPIC", "-I", ROOT, "-o", library, ROOT / "schema/version.c"], check=True)
    function = ctypes.CDLL(library).version_compare
    function.argtypes = [ctypes.c_int, Slice, Slice]

    def call(order, a, b):
        n = function(order, Slice(a.encode(), len(a)), Slice(b.encode(), len(b)))
        return (n > 0) - (n < 0)
    return call


def make(rng, marks):
    """Short versions out of few pieces, so that pairs are often alike for a while."""
    pieces = ["0", "1", "9", "10", "01", "007", "a", "rc", "b", "Z", ".", ".", "+", *marks]
    text = rng.choice(["0", "1", "2", "10"]) + "".join(rng.choice(pieces) for _ in range(rng.randrange(6)))
    if rng.random() < 0.2:
        text = rng.choice(["0:", "1:", "12:"]) + text
    if rng.random() < 0.5:
        text += "-" + rng.choice(["0", "1", "1.1", "01", "2~b", "1a", "10"])
    return text.rstrip("-")  # dpkg takes no empty revision


def pairs(seed, marks):
    rng = random.Random(seed)
    made = []
    for _ in range(PAIRS):
        a = make(rng, marks)
        near = a[:rng.randrange(1, len(a) + 1)] + rng.choice(["", "0", "~", "1", "a", ".0", ".1"])
        made.append((a, near if rng.random() < 0.5 and near[-1] not in ":-" else make(rng, marks)))
    return made


def test_dpkg(compare):
    made = pairs(1, ["~", "~", "-"])
    wrong = []
    senses = set()
    for a, b in made:
        ours = compare(DEBIAN, a, b)
        relation = {-1: "lt", 0: "eq", 1: "gt"}[ours]
        senses.add(ours)
        done = subprocess.run(["dpkg", "--compare-versions", a, relation, b], capture_output=True, text=True)
        if done.returncode:
            wrong.append((a, relation, b, done.stderr))
    assert senses == {-1, 0, 1}
    assert not wrong


def test_rpm(compare, tmp_path):
    made = pairs(2, ["~", "~", "^", "^", "_"])
    listed = tmp_path / "pairs"
    listed.write_text("".join(f"{a} {b}\n" for a, b in made))
    script = f"for line in io.lines('{listed}') do local a, b = line:match('(%S+) (%S+)'); print(rpm.vercmp(a, b) .. ' ') end"
    theirs = [int(n) for n in subprocess.run(["rpm", "--eval", "%{lua: " + script + "}"], capture_output=True, text=True, check=True).stdout.split()]
    assert len(theirs) == PAIRS and set(theirs) == {-1, 0, 1}
    wrong = [(a, b, sense, compare(RPM, a, b)) for (a, b), sense in zip(made, theirs) if sense != compare(RPM, a, b)]
    assert not wrong
