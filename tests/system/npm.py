"""Independent readers from npm's registry, kept in build/npm. Without npm or its registry there is nothing to read with."""

import json
import shutil
import subprocess

import pytest

from parts import ROOT

PACKAGES = ("@cyclonedx/cyclonedx-library@7.1.0", "packageurl-js@2", "ajv@8", "ajv-formats@3", "ajv-formats-draft2019@1", "@redocly/openapi-core@1.34.5")
KEPT = ROOT / "build/npm"


def have_packages():
    if shutil.which("npm") is None:
        pytest.skip("npm is not installed")
    if all((KEPT / "node_modules" / package.rsplit("@", 1)[0] / "package.json").exists() for package in PACKAGES):
        return
    KEPT.mkdir(parents=True, exist_ok=True)
    words = ["npm", "install", "--prefix", KEPT, "--no-audit", "--no-fund", "--ignore-scripts", "--omit=optional", *PACKAGES]
    if subprocess.run(words, capture_output=True, timeout=240).returncode != 0:
        pytest.skip("npm's registry is not reachable")


def node(script, text):
    """What a script, which finds the text on its standard input, prints as JSON."""
    have_packages()
    done = subprocess.run(["node", "-e", script], cwd=KEPT, input=text, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
