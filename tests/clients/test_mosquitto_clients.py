"""mosquitto_pub and mosquitto_sub, across regions."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from tests.clients.conftest import Regions

pytestmark = pytest.mark.skipif(
    shutil.which("mosquitto_sub") is None, reason="Debian's mosquitto-clients are not installed"
)


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(arguments, capture_output=True, text=True, timeout=30, check=False)


@pytest.mark.parametrize("version", ["mqttv31", "mqttv311", "mqttv5"])
@pytest.mark.parametrize("qos", ["0", "1", "2"])
def test_publish_and_subscribe(regions: Regions, version: str, qos: str) -> None:
    topic = regions.topic()
    far, near = str(regions.far.mqtt_port), str(regions.near.mqtt_port)
    command = [
        "mosquitto_sub",
        "-p",
        far,
        "-V",
        version,
        "-t",
        f"{topic}/+",
        "-T",
        f"{topic}/probe",
        "-q",
        qos,
    ]
    subscriber = subprocess.Popen([*command, "-v", "-W", "20", "-C", "1"], stdout=subprocess.PIPE, text=True)
    try:
        regions.await_interest(f"{topic}/+")
        published = run(
            "mosquitto_pub", "-p", near, "-V", version, "-t", f"{topic}/x", "-q", qos, "-m", "hello"
        )
        assert published.returncode == 0, published.stderr
        output, _ = subscriber.communicate(timeout=20)
    finally:
        subscriber.kill()
    assert output.strip() == f"{topic}/x hello"


def test_retained(regions: Regions) -> None:
    topic = regions.topic()
    far, near = str(regions.far.mqtt_port), str(regions.near.mqtt_port)
    assert run("mosquitto_pub", "-p", near, "-t", topic, "-q", "1", "-r", "-m", "kept").returncode == 0
    regions.await_interest(f"{topic}/unrelated")
    heard = run("mosquitto_sub", "-p", far, "-t", topic, "-C", "1", "-W", "10", "-F", "%r %p")
    assert heard.stdout.strip() == "1 kept"


def test_will(regions: Regions) -> None:
    topic = regions.topic()
    far, near = str(regions.far.mqtt_port), str(regions.near.mqtt_port)
    command = ["mosquitto_sub", "-p", far, "-t", f"{topic}/+", "-T", f"{topic}/probe", "-C", "1", "-W", "20"]
    device_command = ["mosquitto_sub", "-p", near, "-t", topic, "-v", "--will-topic", f"{topic}/will"]
    with (
        subprocess.Popen([*command, "-v"], stdout=subprocess.PIPE, text=True) as waiting,
        subprocess.Popen(
            [*device_command, "--will-payload", "gone"], stdout=subprocess.PIPE, text=True
        ) as device,
    ):
        try:
            regions.await_interest(f"{topic}/+")
            assert run("mosquitto_pub", "-p", near, "-t", topic, "-m", "there", "-r").returncode == 0
            assert device.stdout is not None
            assert device.stdout.readline().strip() == f"{topic} there", "the device is connected"
            device.kill()
            output, _ = waiting.communicate(timeout=20)
        finally:
            waiting.kill()
            device.kill()
    assert output.strip() == f"{topic}/will gone"


def test_request_and_response(regions: Regions) -> None:
    topic = regions.topic()
    near = str(regions.near.mqtt_port)
    answering = ["mosquitto_sub", "-p", near, "-V", "mqttv5", "-t", f"{topic}/ask", "-C", "2", "-W", "20"]
    ready = run("mosquitto_pub", "-p", near, "-t", f"{topic}/ask", "-r", "-m", "ready")
    assert ready.returncode == 0
    with subprocess.Popen([*answering, "-F", "%R %D %p"], stdout=subprocess.PIPE, text=True) as answerer:
        asking = ["mosquitto_rr", "-p", near, "-V", "mqttv5", "-t", f"{topic}/ask", "-e", f"{topic}/answer"]
        more = ["-m", "question", "-q", "1", "-W", "20", "-D", "publish", "correlation-data", "id"]
        assert answerer.stdout is not None
        assert "ready" in answerer.stdout.readline(), "it is subscribed"
        with subprocess.Popen([*asking, *more], stdout=subprocess.PIPE, text=True) as asker:
            try:
                asked, _ = answerer.communicate(timeout=20)
                answer_to, correlation, question = asked.split()
                assert (answer_to, correlation) == (f"{topic}/answer", "id")
                answered = run(
                    *("mosquitto_pub", "-p", near, "-V", "mqttv5", "-t", answer_to, "-m", f"re:{question}"),
                    *("-D", "publish", "correlation-data", correlation),
                )
                assert answered.returncode == 0
                output, _ = asker.communicate(timeout=20)
            finally:
                asker.kill()
                answerer.kill()
    assert output.strip() == "re:question"
