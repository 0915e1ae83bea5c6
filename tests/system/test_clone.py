"""A key in two places: both are kept as evidence, the device is untrusted, and an operator's word is the way back."""

import json

import pytest
import requests

from ingesting import System, await_true

FORK, SECOND = 2, 64


@pytest.fixture(scope="module")
def system(tmp_path_factory):
    system = System(tmp_path_factory.mktemp("clone"), postgres=["fsync=off"])
    system.token = system.database.cli("token", "add", "--tenant", "acme", "--role", "viewer", "clone")
    yield system
    system.close()


def ask(system, device, path=""):
    return requests.get(f"http://127.0.0.1:{system.collector.http}/v1/devices/{device.ueid.hex()}{path}",
                        headers={"Authorization": "Bearer " + system.token}, timeout=10)


def await_posture(system, device, posture, reasons=None):
    def is_so():
        told = ask(system, device).json()
        return told["posture"] == posture and (reasons is None or told["reasons"] == reasons)
    await_true(is_so, f"{posture}: {ask(system, device).text}")


def alerts(system, device):
    told = json.loads(system.database.cli("alert", "list", "--json"))
    return {alert["policy"]: alert for alert in told if alert["what"] == device.ueid.hex()}


def audit(system, device):
    return system.database.cli("audit", "--device", device.ueid.hex())


def fresh(system):
    """A device that is told to be in order, as far as anybody can say."""
    device = system.device()
    device.publish(device.full())
    system.await_stored(device, 1)
    device.good = ask(system, device).json()["posture"]
    assert device.good != "untrusted"
    return device


def test_a_clone_of_the_state_and_the_way_back(system):
    device = fresh(system)
    clone = device.quiet({"interval": 299}, keep=True)
    device.publish(device.quiet())
    device.publish(clone)
    system.await_stored(device, 3)
    await_posture(system, device, "untrusted", ["fork"])
    # Both are there for whoever has to find out.
    answer = ask(system, device, f"/reports/{device.epoch.hex()}/2")
    assert answer.status_code == 300
    both = [requests.get(f"http://127.0.0.1:{system.collector.http}/v1/reports/{item['sha256']}", headers={"Authorization": "Bearer " + system.token},
                         timeout=10).content for item in answer.json()["items"]]
    assert clone in both and len(set(both)) == 2
    assert alerts(system, device)["fork"]["state"] == "open"
    assert "device.fork" in [t for t, in system.database.sql("SELECT type FROM event WHERE ueid = %s", (device.ueid,))]
    # The device is made anew, with the operator's word.
    former = device.epoch
    system.database.cli("device", "reprovision", device.ueid.hex())
    device.renew()
    device.publish(device.full())
    system.await_stored(device, 4)
    system.database.cli("alert", "resolve", "--comment", "found it", alerts(system, device)["fork"]["id"])
    await_posture(system, device, device.good)
    assert {flags for _, _, flags in system.stored(device)} == {0, FORK} and " 0 findings" in audit(system, device)
    # The clone goes on where it was.
    mine = device.epoch, device.seq, device.prev, device.sections_prev
    device.epoch, device.seq = former, 2
    device.publish(device.quiet())
    device.epoch, device.seq, device.prev, device.sections_prev = mine
    system.await_stored(device, 5)
    await_posture(system, device, "untrusted", ["second-epoch"])
    assert system.stored(device)[-1][:2] == (former.hex(), 3) and system.stored(device)[-1][2] & SECOND
    device.publish(device.quiet())
    system.await_stored(device, 6)
    assert ask(system, device).json()["epoch"] == device.epoch.hex() and " 0 findings" in audit(system, device)


def test_an_epoch_that_is_vouched_for_afterwards(system):
    device = fresh(system)
    former = device.epoch
    device.renew()
    messages = [device.full(), device.quiet(), device.quiet(), device.quiet()]
    for message in messages[:2] + messages[3:]:
        device.publish(message)
    system.await_stored(device, 4)
    await_posture(system, device, "untrusted", ["second-epoch"])
    system.database.cli("device", "reprovision", "--epoch", former.hex(), device.ueid.hex(), status=1)
    system.database.cli("device", "reprovision", "--epoch", "xyz", device.ueid.hex(), status=2)
    system.database.cli("device", "reprovision", "--epoch", device.epoch.hex(), device.ueid.hex())
    await_posture(system, device, device.good)
    told = ask(system, device).json()
    assert (told["epoch"], told["seq"]) == (device.epoch.hex(), 4)
    device.publish(device.quiet({"receipt": True}))
    receipt = device.receipt_up_to(5)
    assert receipt.epoch == device.epoch and "state" in receipt.wants
    device.publish(messages[2])
    system.await_stored(device, 6)
    assert system.epoch(device) == (0, 1, 0, 0)
    assert system.stored(device)[-2][2] == 0 and " 0 findings" in audit(system, device)
    # Its former self does not come back.
    device.epoch, device.seq = former, 1
    device.publish(device.quiet())
    await_posture(system, device, "untrusted", ["second-epoch"])
