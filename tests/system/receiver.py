"""Receivers of events: a webhook that can be told to misbehave, in this process or in one of its own that can be killed; and rsyslog over TLS."""

import hashlib
import hmac
import http.server
import json
import os
import pathlib
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time

HALF = "half"  # accept the message, promise an answer, close in its middle
STALL = "stall"  # accept the message and say nothing, for longer than the sender waits


class Request:
    def __init__(self, handler, body):
        self.at, self.path, self.headers, self.body = time.time(), handler.path, dict(handler.headers), body
        is_json = "json" in self.headers["Content-Type"]
        told = json.loads(body) if is_json else body.decode().splitlines()
        self.events = told if isinstance(told, list) else [told]
        self.status = 200

    def signed_with(self, secret, tolerance=60):
        """As the manual tells a receiver to do it."""
        parts = dict(part.split("=", 1) for part in self.headers["Fleetstate-Signature"].split(","))
        mac = hmac.new(secret.encode(), parts["t"].encode() + b"." + self.body, hashlib.sha256).hexdigest()
        return hmac.compare_digest(mac, parts["v1"]) and abs(time.time() - int(parts["t"])) < tolerance


class Webhook:
    """`answer(request)` says a status, or (status, headers), HALF or STALL; by default 200."""

    def __init__(self, host="127.0.0.1", port=0, certificate=None, key=None, answer=lambda request: 200, record=None):
        self.requests, self.answer, self.stop_stalling = [], answer, threading.Event()
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                request = Request(self, self.rfile.read(int(self.headers["Content-Length"])))
                outer.requests.append(request)
                answer = outer.answer(request)
                request.status = answer if isinstance(answer, int) else answer[0] if isinstance(answer, tuple) else None
                if record and request.status == 200:
                    record(request)
                if answer == STALL:
                    outer.stop_stalling.wait(120)
                    self.close_connection = True
                elif answer == HALF:
                    self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nhalf of")
                    self.close_connection = True
                else:
                    self.reply(request.status, answer[1] if isinstance(answer, tuple) else {})

            def reply(self, status, headers):
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", "3")
                self.end_headers()
                self.wfile.write(b"ok\n")

            def log_message(self, *_):
                pass

        class Server(http.server.ThreadingHTTPServer):
            address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
            daemon_threads = True

            def handle_error(self, *_):
                pass  # who is killed leaves broken connections

        self.server = Server((host, port), Handler)
        self.port = self.server.server_address[1]
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate, key)
            self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        self.url = f"{'https' if certificate else 'http'}://{f'[{host}]' if ':' in host else host}:{self.port}/events"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True)
        self.thread.start()

    def accepted(self):
        """Events of the messages that were answered with 200, in order of their arrival."""
        return [event for request in self.requests if request.status == 200 for event in request.events]

    def close(self):
        self.stop_stalling.set()
        self.server.shutdown()
        self.server.server_close()


class KillableWebhook:
    """In a process of its own: what it said yes to is in a file."""

    def __init__(self, directory, port):
        self.file, self.port, self.process = directory / "accepted", port, None
        self.url = f"http://127.0.0.1:{port}/events"

    def start(self):
        self.process = subprocess.Popen([sys.executable, __file__, str(self.port), self.file], stdout=subprocess.PIPE)
        assert self.process.stdout.readline() == b"listening\n"

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def accepted(self):
        if not self.file.exists():
            return []
        lines = self.file.read_text().split("\n")[:-1]
        return [event for line in lines for event in json.loads(line)]


RSYSLOG = """
global(workDirectory="{work}" processInternalMessages="off" parser.escapeControlCharactersOnReceive="off"
	defaultNetstreamDriver="ossl" defaultNetstreamDriverCAFile="{ca}" defaultNetstreamDriverCertFile="{certificate}"
	defaultNetstreamDriverKeyFile="{key}")
module(load="{modules}/imtcp" streamDriver.name="ossl" streamDriver.mode="1" streamDriver.authMode="x509/name" permittedPeer="{peer}"
	maxFrameSize="200000")
template(name="fields" type="list") {{
	constant(value="{{") property(outname="pri" name="pri" format="jsonf") constant(value=",")
	property(outname="time" name="timereported" dateFormat="rfc3339" format="jsonf") constant(value=",")
	property(outname="host" name="hostname" format="jsonf") constant(value=",")
	property(outname="app" name="app-name" format="jsonf") constant(value=",")
	property(outname="msgid" name="msgid" format="jsonf") constant(value=",")
	property(outname="data" name="structured-data" format="jsonf") constant(value=",")
	property(outname="message" name="msg" format="jsonf") constant(value="}}\\n")
}}
input(type="imtcp" port="{port}" address="127.0.0.1" ruleset="all")
ruleset(name="all") {{ action(type="omfile" file="{out}" template="fields" flushOnTXEnd="on") }}
"""


class Rsyslog:
    """A process of ours with its own configuration and pid file. `peer`: the name in the client's certificate."""

    def __init__(self, directory, port, ca, certificate, key, peer):
        self.out, self.port, self.process = directory / "lines", port, None
        self.pid, self.configuration = directory / "rsyslog.pid", directory / "rsyslog.conf"
        self.log = directory / "rsyslog.log"
        modules = next(pathlib.Path("/usr/lib").glob("*/rsyslog"))
        self.configuration.write_text(RSYSLOG.format(work=directory, ca=ca, certificate=certificate, key=key, peer=peer, port=port, out=self.out,
                                                     modules=modules))

    def start(self):
        self.pid.unlink(missing_ok=True)
        self.process = subprocess.Popen(["/usr/sbin/rsyslogd", "-n", "-f", self.configuration, "-i", self.pid, "-C"],
                                        stdout=open(self.log, "ab"), stderr=subprocess.STDOUT)
        deadline = time.monotonic() + 20
        while True:
            assert self.process.poll() is None, self.log.read_text()
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            except OSError:
                assert time.monotonic() < deadline, self.log.read_text()
                time.sleep(0.05)

    def stop(self, how=signal.SIGTERM):
        self.process.send_signal(how)
        self.process.wait(30)

    def lines(self):
        """Each line that rsyslog wrote, as what it took the message apart into."""
        if not self.out.exists():
            return []
        return [json.loads(line) for line in self.out.read_text().split("\n")[:-1]]


def structured_data(text):
    """RFC 5424 6.3, read anew: {id: [(name, value)]}."""
    elements, i = {}, 0
    while i < len(text):
        assert text[i] == "[", text[i:]
        end = min(j for j in (text.find(" ", i), text.find("]", i)) if j > 0)
        parameters = elements.setdefault(text[i + 1:end], [])
        i = end
        while text[i] == " ":
            equals = text.index("=", i)
            name, value, i = text[i + 1:equals], "", equals + 2
            assert text[equals + 1] == '"'
            while text[i] != '"':
                if text[i] == "\\" and text[i + 1] in '"\\]':
                    i += 1
                else:
                    assert text[i] != "]"
                value, i = value + text[i], i + 1
            parameters.append((name, value))
            i += 1
        assert text[i] == "]"
        i += 1
    return elements


if __name__ == "__main__":
    out = os.open(sys.argv[2], os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def keep(request):
        os.write(out, json.dumps(request.events).encode() + b"\n")
    webhook = Webhook(port=int(sys.argv[1]), record=keep)
    print("listening", flush=True)
    webhook.thread.join()
