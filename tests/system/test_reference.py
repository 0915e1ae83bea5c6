"""openapi.yaml as a page: all of it is there, every link leads somewhere, and nothing in it runs or comes from elsewhere."""

import html.parser
import re
import subprocess

import pytest
import requests
import yaml

from described import openapi
from parts import BIN, ROOT, await_true, free_port, is_open


class Page(html.parser.HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.ids, self.links, self.tags, self.attributes, self.words, self.open = [], [], set(), set(), "", []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}
        self.ids += [value for name, value in attrs if name == "id"]
        self.links += [value for name, value in attrs if name in ("href", "src")]
        if tag not in ("meta", "link"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, "elements are nested"

    def handle_data(self, data):
        self.words += data


@pytest.fixture(scope="module")
def served():
    """Nothing of it needs a database."""
    port = free_port()
    process = subprocess.Popen([BIN / "serve-alone", "postgresql://nobody@127.0.0.1:1/none", str(port)], stderr=subprocess.DEVNULL)
    await_true(lambda: is_open(port), "the server")
    yield f"http://127.0.0.1:{port}"
    process.terminate()
    assert process.wait(20) == 0


def test_the_whole_description_is_a_page(served):
    answer = requests.get(served + "/openapi.html", timeout=20)
    assert answer.status_code == 200 and answer.headers["Content-Type"] == "text/html; charset=utf-8"
    answer.encoding = "utf-8"
    page, described = Page(answer.text), openapi()
    assert not page.open and len(page.ids) == len(set(page.ids))
    operations = [o for path in described["paths"].values() for o in path.values()]
    assert {o["operationId"] for o in operations} | {"schema-" + name for name in described["components"]["schemas"]} <= set(page.ids)
    for operation in operations:
        assert operation["summary"] in page.words
        for parameter in operation.get("parameters", []):
            name = parameter.get("name") or described["components"]["parameters"][parameter["$ref"].rsplit("/", 1)[1]]["name"]
            assert name in page.words
    headers = described["components"]["headers"]
    for name, told in (("Retry-After", headers["RetryAfter"]["description"]), ("Idempotency-Replayed", "true"), ("Fleetstate-Position", "The position for")):
        assert name + told in page.words
    for link in page.links:
        assert link.removeprefix("#") in page.ids if link.startswith("#") else re.fullmatch(r"/[\w.]*", link), link
        if link.startswith("/"):
            assert requests.get(served + link, timeout=20).status_code == 200, link
    assert not page.tags & {"script", "style", "iframe", "img", "form"} and not [a for a in page.attributes if a.startswith("on") or a == "style"]
    assert 'href="/openapi.html"' in requests.get(served + "/", timeout=20).text


def test_what_is_described_is_text(tmp_path):
    """Whatever stands in the description."""
    described = openapi()
    described["info"]["title"] = described["paths"]["/v1/fleet"]["get"]["summary"] = '<script>alert(1)</script> & "x"'
    file = tmp_path / "openapi.yaml"
    file.write_text(yaml.safe_dump(described))
    page = subprocess.run([ROOT / "dashboards/reference", file], capture_output=True, text=True, check=True).stdout
    assert "script" not in Page(page).tags and '<script>alert(1)</script> & "x"' in Page(page).words
