#!/usr/bin/python3
"""An asset system that follows what changes: following.py URL TOKEN STATE. Takes all there is once, then only what changed; what it knows and the position that it
is as of lie in one file, exchanged whole, so that it may be killed at any time. It ends when STATE.stop is there and nothing has changed since."""

import csv
import io
import json
import os
import pathlib
import sys
import time

import requests


def follow(url, token, file):
    state = json.loads(file.read_text()) if file.exists() else {"position": None, "known": {}}
    stop = file.with_suffix(".stop")
    session = requests.Session()
    session.headers["Authorization"] = "Bearer " + token
    while True:
        stopping = stop.exists()
        since = "" if state["position"] is None else f"&changed_since={state['position']}"
        try:
            answer = session.get(f"{url}/v1/assets?format=csv{since}", timeout=20)
        except requests.RequestException:  # it was killed, or broke off
            time.sleep(0.1)
            continue
        if answer.status_code != 200:
            assert answer.status_code in (429, 500, 503), answer.text
            time.sleep(0.1)
            continue
        rows = list(csv.DictReader(io.StringIO(answer.content.decode(), newline=""), strict=True))
        for row in rows:
            if row.pop("gone"):
                state["known"].pop(row["ueid"], None)
            else:
                state["known"][row["ueid"]] = row
        state["position"] = int(answer.headers["Fleetstate-Position"])
        fresh = file.with_suffix(".fresh")
        fresh.write_text(json.dumps(state))
        os.replace(fresh, file)
        if stopping and not rows:
            return
        time.sleep(0.05)


if __name__ == "__main__":
    follow(sys.argv[1], sys.argv[2], pathlib.Path(sys.argv[3]))
