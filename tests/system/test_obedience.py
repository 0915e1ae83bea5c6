"""The emitter's own obedience: started as root it becomes its own user with few capabilities, confines its system calls, listens on nothing, runs the
maker's executables within limits, and tells all of that. In a namespace over this machine's files: no user is made here."""

import json
import os
import pathlib
import re
import signal
import subprocess
import time

import pytest

import namespace
from parts import BIN, await_true
from test_broker import Broker
from test_emitter import EMITTER, Collector, Emitter
import device  # found through parts

needs_namespace = pytest.mark.skipif(bool(namespace.why_not()), reason=namespace.why_not() or "-")
SANITIZED = "sanitize" in str(BIN)
NEEDED = {"dac_read_search": 2, "sys_ptrace": 19, "net_admin": 12}


def status_of(pid):
    return dict(line.split(":", 1) for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines())


def caps(text):
    return {n for n in range(64) if int(text, 16) >> n & 1}


def state_of(opened):
    """The state's facts, by topic and name."""
    table = {}
    for row in re.findall(r'^(TOPIC|FACT)\((.*)\)', (pathlib.Path(__file__).parents[2] / "schema/facts.def").read_text(), re.M):
        words = [w.strip().strip('"') for w in row[1].split(",")]
        if row[0] == "TOPIC":
            table[words[0]] = (int(words[1]), words[2], {})
        else:
            table[words[0]][2][int(words[2])] = words[3]
    state = opened.claims[device.STATE]
    return {name: {facts[key]: value for key, value in state.get(number, {}).items()} for number, name, facts in table.values()}


@pytest.fixture(scope="module")
def broker(tmp_path_factory):
    broker = Broker(tmp_path_factory.mktemp("obedience-broker"))
    yield broker
    broker.stop()


@pytest.fixture
def ns(broker, tmp_path):
    with namespace.Namespace(tmp_path) as ns, ns.forward(broker.port):
        yield ns


def emitter_in(ns, broker, **settings):
    """An emitter's configuration and keys in the namespace, root's, and a broker that it reaches from there."""
    ns.run("useradd", "--system", "--no-create-home", "--user-group", "fleetstate-emitter")
    emitter = Emitter(broker, ns.directory, user="fleetstate-emitter", **settings)
    keys = ns.directory / "keys"
    keys.mkdir(mode=0o755)
    for option in ("ca", "receipt_ca", "tls_certificate", "tls_key", "sign_certificate", "sign_key"):
        path = pathlib.Path(emitter.settings[option])
        copy = keys / f"{option}-{path.name}"
        copy.write_bytes(path.read_bytes())
        copy.chmod(0o600 if option.endswith("key") else 0o644)
        emitter.settings[option] = copy
    emitter.settings["journal"] = ""
    emitter.settings["state_dir"] = emitter.state = ns.directory / "state"
    emitter.configure()
    return emitter


@needs_namespace
def test_root_becomes_its_own_user_with_few_capabilities(broker, ns):
    emitter = emitter_in(ns, broker)
    collector = Collector(broker, "obedience-user")
    process = ns.start(EMITTER, "--config", emitter.config, stderr=open(ns.directory / "log", "ab"))
    _, opened = collector.wait(emitter.ueid, lambda r: device.STATE in r.claims, "a report with state", 60)
    (pid,) = namespace.children(process.pid)
    uid = int(ns.run("id", "-u", "fleetstate-emitter").stdout)
    status = status_of(pid)
    assert set(map(int, status["Uid"].split())) == {uid} and uid != 0
    assert status["Groups"].split() in ([], [ns.run("id", "-g", "fleetstate-emitter").stdout.strip()])
    for name in ("CapEff", "CapPrm", "CapBnd"):
        assert caps(status[name]) <= set(NEEDED.values()), name
    assert caps(status["CapEff"]) == set(NEEDED.values())
    assert caps(status["CapAmb"]) == caps(status["CapInh"]) == set()
    assert status["NoNewPrivs"].strip() == "1" and status["Seccomp"].strip() == "2"
    told = state_of(opened)["emitter"]
    assert told["user"] == "own" and set(told["capabilities"]) == set(NEEDED) and told["listening"] == 0
    # The thread that observes is confined after all is open, so that the first report may be made before.
    assert (ns.directory / "state").stat().st_uid == uid
    assert {p.stat().st_uid for p in (ns.directory / "state").rglob("*")} == {uid}
    _, later = collector.wait(emitter.ueid, lambda r: device.STATE in r.claims and state_of(r)["emitter"].get("seccomp") is True, "a confined report", 60)
    assert state_of(later)["elements"]["CS.3"][0] in (3, 4)
    assert ns.kill(process) == 0


@needs_namespace
def test_a_state_of_roots_is_handed_over(broker, ns):
    emitter = emitter_in(ns, broker)
    collector = Collector(broker, "obedience-state")
    emitter.settings.pop("user")
    emitter.configure()
    process = ns.start(EMITTER, "--config", emitter.config, stderr=open(ns.directory / "log", "ab"))
    collector.wait(emitter.ueid, lambda r: True, "a report as root", 60)
    assert ns.kill(process) == 0
    assert (emitter.state / "signer").stat().st_uid == 0
    emitter.configure(user="fleetstate-emitter")
    before = len(collector.reports(emitter.ueid))
    process = ns.start(EMITTER, "--config", emitter.config, stderr=open(ns.directory / "log", "ab"))
    await_true(lambda: len(collector.reports(emitter.ueid)) > before, "a report as its own user", 60)
    assert (emitter.state / "signer").stat().st_uid != 0
    assert ns.kill(process) == 0


@needs_namespace
def test_a_user_that_is_not_there_is_an_error(broker, ns):
    emitter = emitter_in(ns, broker)
    emitter.configure(user="nobody-of-that-name")
    done = ns.run(EMITTER, "--config", emitter.config, check=False)
    assert done.returncode == 1 and "no such user" in done.stderr


@needs_namespace
def test_seccomp_can_be_left_out_and_that_is_told(broker, ns):
    emitter = emitter_in(ns, broker, seccomp="no")
    collector = Collector(broker, "obedience-free")
    process = ns.start(EMITTER, "--config", emitter.config, stderr=open(ns.directory / "log", "ab"))
    _, opened = collector.wait(emitter.ueid, lambda r: device.STATE in r.claims, "a report with state", 60)
    (pid,) = namespace.children(process.pid)
    assert status_of(pid)["Seccomp"].strip() == "0"
    told = state_of(opened)
    assert told["emitter"]["seccomp"] is False and told["elements"]["CS.3"][0] == 4
    assert ns.kill(process) == 0


@pytest.mark.parametrize("mode", [0o604, 0o602, 0o620, 0o666])
@pytest.mark.parametrize("option", ["sign_key", "tls_key"])
def test_a_key_that_others_can_read_is_refused(broker, tmp_path, option, mode):
    emitter = Emitter(broker, tmp_path)
    key = tmp_path / "open.key"
    key.write_bytes(pathlib.Path(emitter.settings[option]).read_bytes())
    key.chmod(mode)
    emitter.configure(**{option: key})
    done = emitter.call("--check")
    assert done.returncode == 2 and f"{option}: others" in done.stderr and f"{mode:04o}" in done.stderr


SCRIPTS = {
    "good": ("#!/bin/sh\necho all is well\n", 0o755, "all is well", None),
    "environment": ("#!/bin/sh\nenv | cut -d= -f1 | sort | tr '\\n' ' '\n", 0o755, None, None),
    "hangs": ("#!/bin/sh\nexec sleep 600\n", 0o755, None, "took longer"),
    "background": ("#!/bin/sh\nsleep 601 & sleep 602\n", 0o755, None, "took longer"),
    "quiet-hang": ("#!/bin/sh\nexec >&-\nexec sleep 603\n", 0o755, None, "took longer"),
    "floods": ("#!/bin/sh\nexec yes\n", 0o755, None, "more than 256"),
    "junk": ("#!/bin/sh\nprintf 'a\\001b'\n", 0o755, None, "no line of text"),
    "two-lines": ("#!/bin/sh\nprintf 'a\\nb\\n'\n", 0o755, None, "no line of text"),
}
MORE = {
    "silent": ("#!/bin/sh\n", 0o755, None, "no line of text"),
    "fails": ("#!/bin/sh\necho x\nexit 3\n", 0o755, None, "exit status 3"),
    "group": ("#!/bin/sh\necho x\n", 0o775, None, "others than root may write"),
    "others": ("#!/bin/sh\necho x\n", 0o757, None, "others than root may write"),
    "foreign": ("#!/bin/sh\necho x\n", 0o755, None, "not root's own"),
    "plain": ("#!/bin/sh\necho x\n", 0o644, None, "not executable"),
    "missing": (None, 0, None, "No such file"),
}


def pids_with(word):
    found = []
    for entry in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if word in entry.read_bytes().decode(errors="replace").split("\0"):
                found.append(entry)
        except OSError:
            pass
    return found


@pytest.mark.skipif(os.getuid() != 0, reason="the executables have to be root's")
@pytest.mark.parametrize("scripts", [SCRIPTS, MORE], ids=["limits", "refusals"])
def test_declared_executables_are_run_within_limits(tmp_path, scripts):
    for name, (text, mode, _, _) in scripts.items():
        if text is not None:
            (tmp_path / name).write_text(text)
            (tmp_path / name).chmod(mode)
    if "foreign" in scripts:
        os.chown(tmp_path / "foreign", 65534, 65534)
    config = tmp_path / "emitter.conf"
    config.write_text("declare = label = below the lid; region=EU\n" + "".join(f"declare_run = {n}={tmp_path / n}\n" for n in scripts))
    begin = time.monotonic()
    done = subprocess.run([EMITTER, "--config", config, "--print"], capture_output=True, text=True, timeout=120, env={**os.environ, "SECRET": "x"})
    took = time.monotonic() - begin
    assert done.returncode == 0, done.stderr
    rows = {row["name"]: row for row in json.loads(done.stdout)["state"]["declared"]["facts"]}
    assert rows["label"] == {"name": "label", "value": "below the lid", "from": "configuration"}
    for name, (_, _, value, why) in scripts.items():
        row = rows[name]
        if why:
            assert "value" not in row and why in row["from"] and row["from"].startswith(str(tmp_path / name)), row
        elif value:
            assert (row["value"], row["from"]) == (value, str(tmp_path / name))
    if "environment" in scripts:
        assert set(rows["environment"]["value"].split()) <= {"LC_ALL", "PATH", "PWD", "SHLVL", "_", "OLDPWD"}
        await_true(lambda: not any(pids_with(number) for number in ("600", "601", "602", "603")), "the end of what hung")
        assert took < 40


@pytest.mark.skipif(os.getuid() != 0, reason="the executables have to be root's")
def test_an_exit_status_counts_also_for_who_ignores_children(tmp_path):
    script, config = tmp_path / "script", tmp_path / "emitter.conf"
    script.write_text("#!/bin/sh\necho all is well\nexit 3\n")
    script.chmod(0o755)
    config.write_text(f"declare_run = a={script}\n")
    done = subprocess.run([EMITTER, "--config", config, "--print"], capture_output=True, text=True, timeout=60,
                          preexec_fn=lambda: signal.signal(signal.SIGCHLD, signal.SIG_IGN))
    (row,) = json.loads(done.stdout)["state"]["declared"]["facts"]
    assert "value" not in row and "exit status 3" in row["from"]


def test_to_signal_all_of_its_name_ends_nothing(broker, tmp_path):
    emitter = Emitter(broker, tmp_path, declare_run="a=/bin/true")
    collector = Collector(broker, "obedience-signal")
    emitter.start()
    try:
        collector.wait(emitter.ueid, lambda r: True, "a report", 60)
        (keeper,) = namespace.children(emitter.process.pid)
        (runner,) = namespace.children(keeper)
        for pid in (emitter.process.pid, keeper, runner):
            os.kill(pid, signal.SIGHUP)
        await_true(lambda: "settings read again" in emitter.log(), "the settings")
        assert all(status_of(pid)["State"].split()[0] != "Z" for pid in (keeper, runner))
    finally:
        assert emitter.stop() == 0


@pytest.mark.skipif(os.getuid() != 0, reason="the executables have to be root's")
def test_who_runs_executables_is_started_again(broker, tmp_path):
    """By one that does nothing else; and when that one is killed, the other goes on."""
    script = tmp_path / "who"

    def change(word):
        script.write_text(f"#!/bin/sh\necho {word} $PPID\n")
        script.chmod(0o755)

    change("first")
    emitter = Emitter(broker, tmp_path, declare_run=f"who={script}")
    collector = Collector(broker, "obedience-runner")

    def await_said(value, why=""):
        def rows(opened):
            return state_of(opened)["declared"].get("facts", ()) if device.STATE in opened.claims else ()
        collector.wait(emitter.ueid, lambda r: any(row[1] == value and why in row[2] for row in rows(r)), f"{value} {why}", 60)

    emitter.start()
    try:
        collector.wait(emitter.ueid, lambda r: True, "a report", 60)
        (keeper,) = namespace.children(emitter.process.pid)
        (first,) = namespace.children(keeper)
        await_said(f"first {first}")
        os.kill(first, signal.SIGSTOP)
        change("second")
        await_said(None, "does not answer")
        os.kill(first, signal.SIGKILL)
        (second,) = await_true(lambda: [pid for pid in namespace.children(keeper) if pid != first], "another")
        await_said(f"second {second}")
        os.kill(keeper, signal.SIGKILL)
        change("third")
        await_said(f"third {second}")
    finally:
        assert emitter.stop() == 0
    await_true(lambda: not os.path.exists(f"/proc/{second}"), "the end of both")


@pytest.mark.parametrize("settings, message", [
    ("declare = label\n", "declare: wants name=value"),
    ("declare = a b=c\n", "declare: a name has"),
    ("declare_run = a=bin/true\n", "declare_run: wants absolute paths"),
    ("declare_elements = XX.1=text\n", "declare_elements: wants key elements"),
])
def test_wrong_declarations_are_named(tmp_path, settings, message):
    config = tmp_path / "emitter.conf"
    config.write_text(settings)
    done = subprocess.run([EMITTER, "--config", config, "--print"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 2 and message in done.stderr and done.stdout == ""


def test_an_image_is_judged_by_its_own_emitter(tmp_path):
    root = tmp_path / "root"
    (root / "etc/fleetstate").mkdir(parents=True)
    (root / "etc/fleetstate/emitter.conf").write_text(
        "sign_key = /etc/fleetstate/sign.key\ntls_key = /etc/fleetstate/tls.key\nuser = fleetstate-emitter\ninterval = 5m\n"
        "declare_elements = DI.2=the label below the lid\n")
    (root / "etc/fleetstate/emitter.conf").chmod(0o640)
    for name in ("sign.key", "tls.key"):
        (root / "etc/fleetstate" / name).write_text("")
        (root / "etc/fleetstate" / name).chmod(0o600)

    def look():
        done = subprocess.run([EMITTER, "--config", "/dev/null", "--root", root, "--print"], capture_output=True, text=True, timeout=60)
        return json.loads(done.stdout)["state"]

    state = look()
    assert state["emitter"]["interval_s"] == 300 and state["emitter"]["user"] == "own" and state["emitter"]["private_files"] is True
    assert {e: state["elements"][e]["status"] for e in ("CS.1", "CS.3", "CS.4", "CS.5", "DI.2")} == {
        "CS.1": "in-effect", "CS.3": "in-effect", "CS.4": "in-effect", "CS.5": "in-effect", "DI.2": "declared"}
    (root / "etc/fleetstate/sign.key").chmod(0o644)
    state = look()
    assert state["emitter"]["private_files"] is False and state["elements"]["CS.3"]["status"] == "weak"
    (root / "etc/fleetstate/emitter.conf").unlink()
    (root / "etc/rsyslog.conf").write_text("*.* @@log.example:514\n")
    state = look()
    assert state["emitter"]["log_forwarding"] == ["rsyslog plain"]
    assert {e: state["elements"][e]["status"] for e in ("CS.1", "CS.3", "CS.4", "CS.5", "DI.2")} == {
        "CS.1": "unknown", "CS.3": "unknown", "CS.4": "unknown", "CS.5": "weak", "DI.2": "unknown"}


@pytest.mark.parametrize("way", ["keep", "hash", "omit"])
def test_personal_facts_go_by_the_makers_way(tmp_path, way):
    done = subprocess.run([EMITTER, "--config", "/dev/null", "--personal", way, "--print"], capture_output=True, text=True, timeout=60)
    state = json.loads(done.stdout)["state"]
    name = os.uname().nodename
    told = state["device"].get("hostname")
    assert told == name if way == "keep" else re.fullmatch("hmac:[0-9a-f]{16}", told) if way == "hash" else told is None
    if way == "omit":
        assert state["unknown"]["device.hostname"] == "personal: left out"



PERSONAL = {
    "an account": "alice-of-acme", "a member of a mighty group": "bob-of-acme", "who has no password": "carol-of-acme", "a second root": "dave-of-acme",
    "whose hash is weak": "erin-of-acme", "a sudoer": "frank-of-acme", "a sudoer's group": "smiths-of-acme", "whom sshd lets in": "grace-of-acme",
    "from where": "198.51.100.0/24", "whom doas lets in": "heidi-of-acme", "whom polkit asks": "ivan-of-acme", "whose log-in failed": "judy-of-acme",
    "from where it failed": "203.0.113.77", "who logged in": "kim-of-acme", "whence": "203.0.113.78", "who used sudo": "leo-of-acme", "the host": "host-of-acme",
}
LOG = """\
Nov 26 10:00:01 host-of-acme sshd[11]: Failed password for judy-of-acme from 203.0.113.77 port 4711 ssh2
Nov 26 10:00:02 host-of-acme sshd[12]: Accepted password for kim-of-acme from 203.0.113.78 port 4712 ssh2
Nov 26 10:00:03 host-of-acme sudo: leo-of-acme : TTY=pts/0 ; PWD=/ ; USER=root ; COMMAND=/bin/true
"""


def people(ns):
    """A machine whose every personal fact names somebody."""
    alone = {"alice": 2001, "bob": 2002, "carol": 2003, "dave": 0, "erin": 2005}
    with open(ns.path("/etc/passwd"), "a") as passwd, open(ns.path("/etc/shadow"), "a") as shadow:
        for (name, uid), field in zip(alone.items(), ("$6$salt$" + "a" * 86, "!", "", "!", "$1$salt$" + "a" * 22)):
            passwd.write(f"{name}-of-acme:x:{uid}:{uid}::/home/{name}:/bin/sh\n")
            shadow.write(f"{name}-of-acme:{field}:19000:0:99999:7:::\n")
    with open(ns.path("/etc/group"), "a") as group:
        group.write("docker:x:2999:bob-of-acme\n")
    for program in "sudo", "doas":
        if not ns.path(f"/usr/bin/{program}").exists():
            ns.write(f"/usr/bin/{program}", "#!/bin/sh\n", 0o755)
    ns.write("/etc/sudoers", "frank-of-acme ALL=(ALL) NOPASSWD: ALL\n%smiths-of-acme ALL=(ALL) ALL\n", 0o440)
    ns.write("/etc/doas.conf", "permit nopass heidi-of-acme\n")
    ns.write("/etc/polkit-1/rules.d/40-who.rules", 'polkit.addAdminRule(function(a, s) { return ["unix-user:ivan-of-acme"]; });\n')
    ns.write("/etc/ssh/sshd_config", "PasswordAuthentication no\nMaxAuthTries 3\nMatch User grace-of-acme\n  PasswordAuthentication yes\n"
             "Match Address 198.51.100.0/24\n  MaxAuthTries 9\n")
    ns.run("hostname", "host-of-acme")


def texts(value):
    """Every text in a report, also in what is nested."""
    if isinstance(value, dict):
        return [text for pair in value.items() for one in pair for text in texts(one)]
    if isinstance(value, (list, tuple)):
        return [text for one in value for text in texts(one)]
    return [value.decode(errors="replace") if isinstance(value, bytes) else str(value)]


@needs_namespace
def test_no_report_names_anybody_against_the_makers_will(broker, ns):
    """The whole of what leaves the device, by each way: state, readings, reasons and events."""
    people(ns)
    log = ns.path("/var/log/auth.log")
    log.write_text("")
    emitter = emitter_in(ns, broker, event_delay="1s")
    collector = Collector(broker, "obedience-personal")
    emitter.settings.pop("user")
    named = {}
    for way in "keep", "hash", "omit":
        emitter.configure(personal=way, state_dir=ns.directory / f"state-{way}")  # its own, as what waits from before is sent as it was written
        before = len(collector.reports(emitter.ueid))
        process = ns.start(EMITTER, "--config", emitter.config, stderr=open(ns.directory / "log", "ab"))

        def said():
            return [opened.claims for _, opened in collector.reports(emitter.ueid)[before:]]

        await_true(lambda: any(device.STATE in claims for claims in said()), "a state", 60)
        with open(log, "a") as file:
            file.write(LOG)
        await_true(lambda: {1, 2, 3} <= {event[0] for claims in said() for event in claims.get(device.EVENTS, ())}, "its events", 60)
        assert ns.kill(process) == 0
        whole = "\n".join(text for claims in said() for text in texts(claims))
        named[way] = {what for what, word in PERSONAL.items() if word in whole}
        assert ("hmac:" in whole) == (way == "hash") and ("personal: left out" in whole) == (way == "omit")
    assert named == {"keep": set(PERSONAL), "hash": set(), "omit": set()}


def test_a_reason_names_nobody_by_a_home(tmp_path):
    root = tmp_path / "root"
    (root / "etc/ssh").mkdir(parents=True)
    (root / "usr/sbin").mkdir(parents=True)
    (root / "usr/sbin/sshd").write_text("")
    (root / "etc/ssh/sshd_config").write_text("PasswordAuthentication no\n")
    (root / "etc/passwd").write_text("alice-of-acme:x:1000:1000::/home/alice-of-acme:/bin/sh\n")
    (root / "etc/shadow").write_text("alice-of-acme:!:19000::::::\n")
    (root / "home/alice-of-acme/.ssh/authorized_keys").mkdir(parents=True)
    done = subprocess.run([EMITTER, "--config", "/dev/null", "--root", root, "--personal", "omit", "--print"], capture_output=True, text=True, timeout=60)
    assert json.loads(done.stdout)["state"]["unknown"]["access.authorised_keys"].startswith("an account's authorized_keys")
    assert "alice-of-acme" not in done.stdout


def test_a_configuration_of_dev_null_tells_nobody_anything():
    done = subprocess.run([EMITTER, "--config", "/dev/null", "--print"], capture_output=True, text=True, timeout=60)
    state = json.loads(done.stdout)["state"]
    assert state["unknown"]["emitter.private_files"] == "none of its files is there"
