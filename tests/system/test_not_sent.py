"""The broker goes while receipts wait to be sent: what paho could not write, and frees, must not be sent when the session goes on."""

import requests

from ingesting import System, await_true

DEVICES, REPORTS, SLOTS, SHARDS = 6, 120, 256, 16


def metric(system, token, name):
    text = requests.get(f"http://127.0.0.1:{system.collector.http}/metrics", headers={"Authorization": "Bearer " + token}, timeout=10).text
    return next(float(line.split()[1]) for line in text.splitlines() if line.startswith(f"fleetstate_{name} "))


def break_while_receipts_wait(system, token, devices):
    """Who receives waits for room in the queue, with some of every device's reports still to come: mostly he sees the end of the connection later
    than who sends, who writes receipts for every small batch meanwhile."""
    messages = [(device, device.quiet({"receipt": True})) for _ in range(REPORTS) for device in devices]
    with system.database.held("device_hot"):
        sent = [device.client.publish(device.report_topic, message, qos=1) for device, message in messages]
        await_true(lambda: metric(system, token, "queue_slots") == SLOTS, "the queue being full")
        await_true(lambda: all(message.is_published() for message in sent), "the broker having all of them")
        system.broker.stop()
    await_true(lambda: metric(system, token, "queue_slots") == 0, "the queue being empty")
    system.broker.start()


def test_the_session_goes_on_without_what_could_not_be_written(tmp_path):
    system = System(tmp_path, postgres=["fsync=off"], queue_slots=SLOTS, batch_max=4, batch_window_ms=1, keep_alive="2m")
    try:
        token = system.database.cli("token", "add", "--tenant", "acme", "--role", "viewer", "not sent")
        devices = [system.device() for _ in range(DEVICES)]
        for device in devices:
            device.publish(device.full())
            device.receipt_up_to(1)
        # Four times of five, measured, one who sends is told; to be told never in eight times takes more than bad luck.
        for _ in range(8):
            connects = metric(system, token, "broker_connects_total")
            break_while_receipts_wait(system, token, devices)
            await_true(lambda: metric(system, token, "broker_connects_total") >= connects + SHARDS, "the connections", 60)
            if metric(system, token, "broker_clients_replaced_total") > 0:
                break
            for device in devices:
                device.close()
                assert device.connect() == 0
        assert metric(system, token, "broker_clients_replaced_total") > 0, "every time who received was the first to see it"
        for device in devices:
            device.close()
            assert device.connect() == 0
            device.publish(device.quiet({"receipt": True}))
            assert device.receipt_up_to(device.seq, 30).digest == device.prev
    finally:
        system.close()
