"""What every bus must do: in process, over a Redis server of this machine, and over Kafka's own mock cluster.

Redis: `apt-get install redis-server` runs those tests. Kafka's mock is part of librdkafka (`test.mock.num.brokers`)."""

import shutil
import signal
import socket
import subprocess
import threading
import time

import pytest

from quantlab.core.errors import ConfigError
from quantlab.venues.bus import BIGGEST, Bus, BusError, KafkaBus, MemoryBus, RedisBus, open_bus


@pytest.fixture(scope="module")
def redis_server(tmp_path_factory):
    "A Redis server of its own; its process and its port."
    pytest.importorskip("redis", reason="redis is not installed: pip install 'quantlab[bus]'")
    if not shutil.which("redis-server"):
        pytest.skip("no redis-server here: apt-get install redis-server runs these tests")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    words = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir"]
    server = subprocess.Popen([*words, tmp_path_factory.mktemp("redis")], stdout=subprocess.DEVNULL)
    for _ in range(200):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                break
        time.sleep(0.02)
    yield server, port
    server.send_signal(signal.SIGCONT)
    server.kill()
    server.wait()


@pytest.fixture(scope="module")
def kafka_broker():
    "The mock cluster that lives in a producer."
    kafka = pytest.importorskip(
        "confluent_kafka", reason="confluent-kafka is not installed: pip install 'quantlab[bus]'"
    )
    holder = kafka.Producer({"bootstrap.servers": "nobody", "test.mock.num.brokers": 1, "log_level": 0})
    [broker] = holder.list_topics(timeout=5).brokers.values()
    yield f"{broker.host}:{broker.port}"
    del holder


COUNT = iter(range(10**6))


@pytest.fixture(params=["memory", "redis", "kafka"])
def bus(request):
    "How to open a bus; to open it again is another process that comes."
    if request.param == "memory":
        one = MemoryBus()
        return lambda: one
    if request.param == "redis":
        _, port = request.getfixturevalue("redis_server")
        return lambda: open_bus(f"redis://127.0.0.1:{port}/0")
    place = request.getfixturevalue("kafka_broker")
    return lambda: open_bus(f"kafka://{place}")


@pytest.fixture
def topic():
    return f"ticks-{next(COUNT)}"


def test_rows_come_in_order_and_from_a_position_on(bus, topic):
    one = bus()
    assert isinstance(one, Bus) and one.read(topic) == []
    places = [one.publish(topic, f'{{"n": {n}, "é": "ü"}}', key=f"k{n}") for n in range(7)]
    rows = one.read(topic)
    assert [row.position for row in rows] == places and len(set(places)) == 7
    assert [row.key for row in rows] == [f"k{n}" for n in range(7)] and rows[3].payload == '{"n": 3, "é": "ü"}'
    assert [row.key for row in one.read(topic, after=places[2], limit=3)] == ["k3", "k4", "k5"]
    assert one.read(topic, after=places[-1]) == [] and one.read(f"{topic}-other") == []


def test_a_key_is_read_once_however_often_it_is_published(bus, topic):
    for n in (0, 1, 0, 2, 1, 3):
        bus().publish(topic, f"{n}", key=f"k{n}")
    for _ in range(2):
        bus().publish(topic, "no key")
    assert [row.payload for row in bus().read(topic)] == ["0", "1", "2", "3", "no key", "no key"]
    got, kept, reader = [], "", bus()
    while rows := reader.read(topic, after=kept, limit=1):
        got.append(rows[0].payload)
        kept = rows[0].position
    assert got == ["0", "1", "2", "3", "no key", "no key"]


def test_a_reader_that_comes_back_goes_on(bus, topic):
    writer, kept, got = bus(), "", []
    for n in range(6):
        writer.publish(topic, f"{n}", key=f"k{n}")
        if n % 2:
            rows = bus().read(topic, after=kept)  # a new reader each time
            got += [row.payload for row in rows]
            kept = rows[-1].position
    writer.publish(topic, "1", key="k1")  # heard no answer before
    assert got == [f"{n}" for n in range(6)] and bus().read(topic, after=kept) == []


def test_a_reader_waits_for_the_first_row(bus, topic):
    one = bus()
    one.publish(topic, "old")
    kept = one.read(topic)[-1].position
    assert one.read(topic, after=kept, wait=0.05) == []
    later = threading.Timer(0.1, lambda: bus().publish(topic, "new"))
    later.start()
    assert [row.payload for row in one.read(topic, after=kept, wait=20)] == ["new"]
    later.join()


def test_what_no_bus_takes(bus, topic):
    one = bus()
    for name in ("", "Ticks", "a/b", "a b", "x" * 201):
        with pytest.raises(BusError, match="is no topic"):
            one.publish(name, "1")
        with pytest.raises(BusError, match="is no topic"):
            one.read(name)
    with pytest.raises(BusError, match="900000 are taken") as why:
        one.publish(topic, "ü" * (BIGGEST // 2 + 1))
    assert "\n" not in str(why.value) and one.read(topic) == []
    one.publish(topic, "x" * BIGGEST)
    assert len(one.read(topic)[0].payload) == BIGGEST


def test_two_publishers_with_the_same_keys(bus, topic):
    bus().publish(topic, "first")

    def talk():
        one = bus()
        for n in range(20):
            one.publish(topic, f"{n}", key=f"k{n}")

    both = [threading.Thread(target=talk) for _ in range(2)]
    [one.start() for one in both]
    [one.join() for one in both]
    rows = bus().read(topic, limit=1000)
    assert sorted(int(row.payload) for row in rows[1:]) == list(range(20))


def one_line(call, word):
    with pytest.raises(BusError) as why:
        call()
    assert word in str(why.value) and "\n" not in str(why.value) and "s3cret" not in str(why.value)


def test_redis_is_not_there_or_stops_answering(redis_server):
    server, port = redis_server
    one_line(lambda: RedisBus("redis://:s3cret@127.0.0.1:1/0"), "does not answer")
    one = RedisBus(f"redis://:@127.0.0.1:{port}/0", seconds=0.3)
    one.publish("alive", "1", key="a")
    server.send_signal(signal.SIGSTOP)
    try:
        one_line(lambda: one.publish("alive", "2", key="b"), "TimeoutError")
        one_line(lambda: one.read("alive"), "TimeoutError")
    finally:
        server.send_signal(signal.SIGCONT)
    one.publish("alive", "2", key="b")  # it may have been heard: the same key again
    assert [row.payload for row in one.read("alive")] == ["1", "2"]


def test_kafka_is_not_there_or_goes_away():
    kafka = pytest.importorskip("confluent_kafka")
    one_line(lambda: KafkaBus("127.0.0.1:1", seconds=0.5, settings={"sasl.password": "s3cret"}), "does not answer")
    holder = kafka.Producer({"bootstrap.servers": "nobody", "test.mock.num.brokers": 1, "log_level": 0})
    [broker] = holder.list_topics(timeout=5).brokers.values()
    one = KafkaBus(f"{broker.host}:{broker.port}", seconds=1.0)
    one.publish("alive", "1")
    assert [row.payload for row in one.read("alive")] == ["1"]
    del holder, broker
    one_line(lambda: one.publish("alive", "2", key="b"), "publish it again")
    one_line(lambda: one.read("alive"), "does not answer")


def test_an_open_line_to_another_machine_is_refused():
    for address in ("redis://192.0.2.1:6379/0", "kafka://192.0.2.1:9092"):
        with pytest.raises(ConfigError, match="in the open"):
            open_bus(address)
