"""A connection to the broker breaks for who sends receipts on it first: what paho could not write, and frees, must not be sent when the session goes on."""

import contextlib
import ctypes
import os
import pathlib
import re
import signal
import socket

import requests

from ingesting import System, await_true

DEVICES, REPORTS, SHARDS = 6, 4, 16
PIDFD_GETFD = 438  # Python 3.11 has no name for it
libc = ctypes.CDLL(None, use_errno=True)


def metric(system, token, name):
    text = requests.get(f"http://127.0.0.1:{system.collector.http}/metrics", headers={"Authorization": "Bearer " + token}, timeout=10).text
    return next(float(line.split()[1]) for line in text.splitlines() if line.startswith(f"fleetstate_{name} "))


def connections(pid, port):
    """The process's own sockets to the port, as ours too."""
    rows = (line.split() for line in pathlib.Path("/proc/net/tcp").read_text().splitlines()[1:])
    theirs = {row[9] for row in rows if row[2].endswith(f":{port:04X}") and row[3] == "01"}
    process = os.pidfd_open(pid)
    for fd in os.listdir(f"/proc/{pid}/fd"):
        with contextlib.suppress(FileNotFoundError):
            inode = re.fullmatch(r"socket:\[(\d+)\]", os.readlink(f"/proc/{pid}/fd/{fd}"))
            if inode and inode[1] in theirs:
                mine = libc.syscall(PIDFD_GETFD, process, int(fd), 0)
                assert mine >= 0, os.strerror(ctypes.get_errno())
                yield socket.socket(fileno=mine)
    os.close(process)


def break_while_receipts_wait(system, token, devices):
    """The broker, which is stopped, neither answers nor hangs up: only who sends can find out that nothing more can be sent."""
    taken, losses = metric(system, token, "messages_received_total"), metric(system, token, "broker_losses_total")
    with system.database.held("device_hot"):
        for _ in range(REPORTS):
            for device in devices:
                device.publish(device.quiet({"receipt": True}))
        await_true(lambda: metric(system, token, "messages_received_total") == taken + REPORTS * DEVICES, "the collector having all of them")
        system.broker.process.send_signal(signal.SIGSTOP)
        await_true(lambda: re.search(r"^State:\tT", pathlib.Path(f"/proc/{system.broker.process.pid}/status").read_text(), re.M), "the broker's stop")
        for connection in connections(system.collector.process.pid, system.broker.collector_port):
            with connection:
                connection.shutdown(socket.SHUT_WR)
    await_true(lambda: metric(system, token, "broker_losses_total") > losses, "a receipt that could not be written")
    system.broker.process.send_signal(signal.SIGCONT)


def test_the_session_goes_on_without_what_could_not_be_written(tmp_path):
    system = System(tmp_path, postgres=["fsync=off"])
    try:
        token = system.database.cli("token", "add", "--tenant", "acme", "--role", "viewer", "not sent")
        devices = [system.device() for _ in range(DEVICES)]
        for device in devices:
            device.publish(device.full())
            device.receipt_up_to(1)
        assert metric(system, token, "broker_clients_replaced_total") == 0
        connects = metric(system, token, "broker_connects_total")
        break_while_receipts_wait(system, token, devices)
        await_true(lambda: metric(system, token, "broker_connects_total") >= connects + SHARDS, "the connections", 60)
        assert metric(system, token, "broker_clients_replaced_total") > 0
        for device in devices:
            device.publish(device.quiet({"receipt": True}))
            assert device.receipt_up_to(device.seq, 30).digest == device.prev
    finally:
        system.broker.process.send_signal(signal.SIGCONT)
        system.close()
