"""`tests/check` itself: what it counts as failed, of tests whose programs are heard to the end."""

import os
import re
import shutil
import subprocess

import pytest

from parts import ROOT

# Each does what its sanitizer is there for, and ends well but for that.
RACES = """
#include <pthread.h>
static int counted;
static void *count(void *unused) { for (int i = 0; i < 100000; i++) counted++; return unused; }
int main(void) { pthread_t other; pthread_create(&other, 0, count, 0); count(0); pthread_join(other, 0); return 0; }
"""
LEAKS = """
#include <stdlib.h>
int main(void) { void *volatile kept = malloc(9); kept = 0; return kept != 0; }
"""
OVERRUNS = """
#include <stdlib.h>
int main(int argc, char **argv) { char *text = malloc(9); text[8 + argc] = 'x'; free(text); return argv == 0; }
"""
OVERFLOWS = """
#include <limits.h>
int main(int argc, char **argv) { return INT_MAX + argc == 0 && argv == 0; }
"""
FAULTS = {"AddressSanitizer": ("address", OVERRUNS), "LeakSanitizer": ("address", LEAKS), "ThreadSanitizer": ("thread", RACES), "runtime error": ("undefined", OVERFLOWS)}
TEST = """
import pathlib, subprocess
def test_it(tmp_path):
    with open(tmp_path / {log!r}, "w") as log:
        subprocess.run({program!r}, stderr=log)
    {then}
"""
FAILS_ONCE = "seen = pathlib.Path(__file__).with_suffix('.seen'); known = seen.exists(); seen.touch(); assert known"


@pytest.fixture
def checked(tmp_path):
    """Whether tests/check passes a test that runs a program and does `then`; what it said, and the files of the test that it kept."""
    for directory in "tests/system", "build/sanitize-address-undefined", "files":
        (tmp_path / directory).mkdir(parents=True)
    shutil.copy(ROOT / "tests/check", tmp_path / "tests/check")

    def check(program=("true",), then="", log="program.log"):
        (tmp_path / "tests/system/test_sample.py").write_text(TEST.format(program=program, then=then, log=log))
        env = {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST_", "FLEETSTATE_")) and k not in ("BUILD", "CFLAGS")}
        env = {**env, "TMPDIR": str(tmp_path / "files"), "OMP_NUM_THREADS": "1"}
        done = subprocess.run([tmp_path / "tests/check", "tests/system/test_sample.py"], env=env, capture_output=True, text=True, timeout=300)
        totals = re.fullmatch(r"(\d+) passed, (\d+) failed, 0 skipped", done.stdout.splitlines()[-1])
        assert totals, done.stdout + done.stderr
        assert (done.returncode == 0) == (int(totals[2]) == 0 < int(totals[1])), "the status is what the line says"
        return (int(totals[1]), int(totals[2])), done.stdout, list((tmp_path / "files").rglob("*.log"))
    yield check
    # Whoever looks through the logs of this run is not to find the words in those.
    shutil.rmtree(tmp_path / "files")


@pytest.mark.parametrize("words", FAULTS)
def test_what_a_sanitizer_says_in_a_programs_log_fails_the_run(checked, tmp_path, words):
    sanitizer, text = FAULTS[words]
    (tmp_path / "fault.c").write_text(text)
    subprocess.run(["cc", "-g1", f"-fsanitize={sanitizer}", "-o", tmp_path / "fault", tmp_path / "fault.c", "-lpthread"], check=True)
    counted, said, kept = checked([str(tmp_path / "fault")])
    assert counted == (1, 1) and "1 passed" in said, "the test itself saw nothing"
    assert words in said and "FAIL  a sanitizer had something to say" in said
    assert len(kept) == 1 and words in kept[0].read_text()


def test_nor_does_it_pass_when_run_again(checked, tmp_path):
    """What is no matter of time is not tried a second time."""
    (tmp_path / "fault.c").write_text(OVERFLOWS)
    subprocess.run(["cc", "-fsanitize=undefined", "-o", tmp_path / "fault", tmp_path / "fault.c"], check=True)
    counted, said, _ = checked([str(tmp_path / "fault")], FAILS_ONCE)
    assert counted == (0, 2) and "once more" not in said


def test_what_missed_a_limit_is_run_again_alone(checked):
    counted, said, kept = checked(then=FAILS_ONCE)
    assert counted == (1, 0) and "once more, alone: tests/system/test_sample.py::test_it" in said and kept == []
    assert checked(then="assert False")[0] == (0, 1)


def test_what_goes_well_is_counted_and_leaves_nothing(checked):
    assert checked(["sh", "-c", "echo no sanitizer had a word for it >&2"])[::2] == ((1, 0), [])
    # A test whose own output has the words.
    assert checked(then="print('ERROR: AddressSanitizer: SEGV'); assert False")[0] == (0, 2)
    # What could not even be read as a test.
    assert checked(then="this is none")[0] == (0, 1)
