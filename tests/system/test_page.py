"""The analyst's page in a real browser: what is on it is what the interface says, and nothing is asked of anyone else."""

import json

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from running import run  # noqa: F401


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    options = webdriver.ChromeOptions()
    options.binary_location = "/usr/bin/chromium"
    for flag in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
                 "--disable-component-update", "--disable-sync", "--window-size=1360,1000",
                 f"--user-data-dir={tmp_path_factory.mktemp('chromium')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(service=Service("/usr/bin/chromedriver"), options=options)
    yield driver
    driver.quit()


def until(browser, condition, seconds=20):
    return WebDriverWait(browser, seconds).until(lambda b: condition())


def text(browser):
    return browser.find_element(By.ID, "main").text


@pytest.fixture
def page(browser, run):
    browser.get(run.env["FLEETSTATE_URL"] + "/")
    browser.find_element(By.ID, "token").send_keys(run.env["FLEETSTATE_TOKEN"] + "\n")
    until(browser, lambda: "devices" in text(browser) and browser.find_elements(By.CLASS_NAME, "tile"))
    return browser


def test_a_wrong_token_is_told_so(browser, run):
    browser.get(run.env["FLEETSTATE_URL"] + "/")
    browser.find_element(By.ID, "token").send_keys("fst_wrong\n")
    until(browser, lambda: "not known" in text(browser))
    assert not browser.find_element(By.ID, "nav").is_displayed()


def test_fleet_counts_are_the_interfaces(page, run):
    def same():
        fleet = run.get("/v1/fleet")
        tiles = {t.text.split("\n")[1]: int(t.text.split("\n")[0]) for t in page.find_elements(By.CLASS_NAME, "tile")}
        return {k: v for k, v in tiles.items() if v} == {k: v for k, v in fleet["posture"].items() if v}
    until(page, same)


def test_device_list_and_filter(page, run):
    page.get(run.env["FLEETSTATE_URL"] + "/#/devices")
    until(page, lambda: run.env["SELF_UEID"] in text(page))
    devices = list(run.items("/v1/devices"))
    assert len(page.find_elements(By.CSS_SELECTOR, "tbody tr")) == min(50, len(devices))
    model = next(d["hwmodel"] for d in devices if d["ueid"] != run.env["SELF_UEID"] and d["hwmodel"])
    page.find_element(By.ID, "f-model").send_keys(model + "\n")
    expected = sum(d["hwmodel"] == model for d in devices)
    until(page, lambda: len(page.find_elements(By.CSS_SELECTOR, "tbody tr")) == expected)
    assert "model=" in page.current_url


def test_one_device(page, run):
    me = run.env["SELF_UEID"]
    kernel = run.get(f"/v1/devices/{me}/state")["state"]["os"]["kernel"]
    page.get(run.env["FLEETSTATE_URL"] + f"/#/devices/{me}")
    until(page, lambda: kernel in text(page) and "unknown:" in text(page))
    for tab, word in (("inventory", "libc6"), ("reports", "quiet"), ("ledger", "received")):
        page.get(run.env["FLEETSTATE_URL"] + f"/#/devices/{me}/{tab}")
        until(page, lambda: word in text(page))


def test_it_is_live(page, run):
    page.get(run.env["FLEETSTATE_URL"] + f"/#/devices/{run.env['SELF_UEID']}/ledger")
    until(page, lambda: "Received" in text(page))
    before = text(page)
    until(page, lambda: text(page) != before, 90)


def test_no_outside_request_and_no_script_error(page, run):
    own = run.env["FLEETSTATE_URL"]
    asked = [json.loads(e["message"])["message"] for e in page.get_log("performance")]
    urls = {m["params"]["request"]["url"] for m in asked if m["method"] == "Network.requestWillBeSent"}
    assert urls and all(u.startswith((own, "data:", "blob:")) for u in urls), urls
    errors = [e for e in page.get_log("browser") if e["level"] == "SEVERE" and "401" not in e["message"]]
    assert errors == []


def test_markup_from_a_device_stays_text(page):
    assert page.execute_script("return document.querySelectorAll('main script, main img[onerror]').length") == 0


def test_policy_is_strict(run):
    policy = run.session.get(run.env["FLEETSTATE_URL"] + "/").headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy and "frame-ancestors 'none'" in policy
