#!/usr/bin/python3
"""Many connections that want little, from a process of their own: some that say nothing, some that send a byte a second, some that hardly read.
	crowd.py PORT IDLE SENDERS READERS TARGET TOKEN [CA]
Says "there" once all of them are, and how many were closed when its standard input ends."""

import resource
import select
import socket
import ssl
import sys


def open_one(port, context, small=False):
    s = socket.socket()
    if small:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    s.connect(("127.0.0.1", port))
    return context.wrap_socket(s, server_hostname="127.0.0.1") if context else s


def main(port, idle, senders, readers, target, token, ca=None):
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    context = ssl.create_default_context(cafile=ca) if ca else None
    idle = [open_one(int(port), context) for _ in range(int(idle))]
    senders = [open_one(int(port), context) for _ in range(int(senders))]
    readers = [open_one(int(port), context, small=True) for _ in range(int(readers))]
    for s in senders:
        s.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-Slow: ")
    for s in readers:
        s.sendall(f"GET {target} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\r\n".encode())
    for s in readers:
        assert b" 200 " in s.recv(64), "no export"
    print("there", flush=True)
    while not select.select([sys.stdin], [], [], 1)[0]:
        for s in senders:
            s.sendall(b"a")
        for s in readers:
            assert s.recv(2048), "an export ended"
    poll = select.poll()
    for s in (*idle, *senders, *readers):
        poll.register(s, select.POLLRDHUP)
    print(len(poll.poll(0)), flush=True)


main(*sys.argv[1:])
