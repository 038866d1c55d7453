"""Both real files through confluent-kafka and back: see check."""
import os
import struct
import time
import zlib

from confluent_kafka import Consumer, Producer, TopicPartition, TIMESTAMP_CREATE_TIME
from confluent_kafka.admin import AdminClient, NewTopic

BROKER = os.environ["BROKER"]
PARTITIONS = 64
FIRST_MS = 1_700_000_000_000
STEP_MS = 1000


def inputs():
    for file in ["web-access.log", "server-metrics.jsonl"]:
        with open(os.path.join(os.environ["REAL"], file), "rb") as lines:
            for line in lines:
                value = line.rstrip(b"\n")
                yield file, value.split(b" ", 1)[0] if file == "web-access.log" else None, value


INPUTS = list(inputs())


def partition_of(index):
    key = INPUTS[index][1]
    return index % PARTITIONS if key is None else zlib.crc32(key) % PARTITIONS


def headers_of(index):
    return [("file", INPUTS[index][0].encode()), ("line", struct.pack(">q", index)), ("nothing", None)]


def produce(topic, codec, acks):
    settings = {"bootstrap.servers": BROKER, "compression.type": codec, "linger.ms": 5,
                "queue.buffering.max.messages": 100_000}
    if acks == "idempotent":
        settings.update({"acks": "all", "enable.idempotence": True})
    else:
        settings["acks"] = acks
    producer = Producer(settings)
    expected, delivered = [[] for _ in range(PARTITIONS)], []

    def on_delivery(index):
        return lambda error, message: delivered.append((index, error, message.partition(), message.offset()))

    for index, (_, key, value) in enumerate(INPUTS):
        partition = partition_of(index)
        expected[partition].append(index)
        producer.produce(topic, value, key, partition, timestamp=FIRST_MS + index * STEP_MS,
                         headers=headers_of(index), on_delivery=on_delivery(index))
        producer.poll(0)
    assert producer.flush(60) == 0
    assert len(delivered) == len(INPUTS), f"{topic}: {len(delivered)} delivered"
    for index, error, partition, offset in delivered:
        assert error is None, f"{topic}: record {index}: {error}"
        if acks != "0":
            assert expected[partition][offset] == index, f"{topic}: record {index} acknowledged at {partition}:{offset}"
    return expected


def await_end(consumer, topic):
    until = time.monotonic() + 60
    while time.monotonic() < until:
        ends = [consumer.get_watermark_offsets(TopicPartition(topic, p), timeout=30)[1] for p in range(PARTITIONS)]
        if sum(ends) == len(INPUTS):
            return
    raise AssertionError(f"{topic} holds {sum(ends)} records")


def compare(consumer, topic, expected, begin, what):
    """Reads all partitions from `begin` on, and compares every record."""
    # A partition without records there is not assigned: nothing would come of it.
    wanted = [p for p in range(PARTITIONS) if begin[p] < len(expected[p])]
    consumer.assign([TopicPartition(topic, p, begin[p]) for p in wanted])
    following = list(begin)
    left = sum(len(expected[p]) - begin[p] for p in wanted)
    until = time.monotonic() + 60
    while left > 0 and time.monotonic() < until:
        for message in consumer.consume(1000, 1):
            assert message.error() is None, message.error()
            partition, offset = message.partition(), message.offset()
            assert offset == following[partition], f"{what}: {partition}:{offset}, not {following[partition]}"
            index = expected[partition][offset]
            found = (message.key(), message.value(), message.headers(), message.timestamp())
            _, key, value = INPUTS[index]
            sent = (key, value, headers_of(index), (TIMESTAMP_CREATE_TIME, FIRST_MS + index * STEP_MS))
            assert found == sent, f"{what}: {partition}:{offset} is not record {index}: {found}"
            following[partition] += 1
            left -= 1
    assert left == 0, f"{what}: {left} records are missing"


def by_time(consumer, topic, expected, index):
    """Every partition from the first record that has a timestamp or a later one."""
    timestamp = FIRST_MS + index * STEP_MS - 1
    told = consumer.offsets_for_times([TopicPartition(topic, p, timestamp) for p in range(PARTITIONS)], timeout=30)
    begin = []
    for found, log in zip(told, expected):
        assert found.error is None, found.error
        first = sum(1 for i in log if i < index)
        # Behind the end librdkafka says "end", which is -1.
        assert found.offset == (first if first < len(log) else -1), f"{topic}: {found} at {timestamp}, not {first}"
        begin.append(first)
    compare(consumer, topic, expected, begin, f"{topic} by time")


def run(admin, codec, acks):
    topic = f"confluent-{codec}-{acks}"
    # The records are old.
    for future in admin.create_topics([NewTopic(topic, PARTITIONS, 1, config={"retention.ms": "-1"})]).values():
        future.result(30)
    expected = produce(topic, codec, acks)
    consumer = Consumer({"bootstrap.servers": BROKER, "group.id": "unused", "enable.auto.commit": False,
                         "auto.offset.reset": "error", "check.crcs": True})
    await_end(consumer, topic)
    compare(consumer, topic, expected, [0] * PARTITIONS, topic)
    compare(consumer, topic, expected, [len(log) // 2 for log in expected], f"{topic} from the middle")
    for index in [0, 1, len(INPUTS) // 3, len(INPUTS) // 2, len(INPUTS) - 700]:
        by_time(consumer, topic, expected, index)
    consumer.close()
    for future in admin.delete_topics([topic]).values():
        future.result(30)
    print(f"{codec} acks={acks}: {len(INPUTS)} records", flush=True)


client = AdminClient({"bootstrap.servers": BROKER})
for codec in ["none", "gzip", "snappy", "lz4", "zstd"]:
    for acks in ["0", "1", "all", "idempotent"]:
        run(client, codec, acks)
print("passed")
