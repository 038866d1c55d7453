"""confluent-kafka, which brings librdkafka."""
import sys

sys.path.insert(0, "..")
from common import ACKS, ALL, BROKER, CODECS, FIRST, PARTITIONS, check, done as did, records
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import (AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource,
                                   NewPartitions, NewTopic, ResourceType)

admin = AdminClient({"bootstrap.servers": BROKER})


def done(futures):
    return {key: future.result(30) for key, future in futures.items()}


def run(codec, acks, idempotent):
    name = f"confluent-{codec}-{acks}-{idempotent}"
    done(admin.create_topics([NewTopic(name, 2, 1, config={"retention.ms": "86400000"})]))
    resource = ConfigResource(ResourceType.TOPIC, name)
    told = done(admin.describe_configs([resource]))[resource]
    assert told["retention.ms"].value == "86400000", told["retention.ms"]
    assert told["segment.bytes"].value == "1073741824" and len(told) > 30
    change = ConfigResource(ResourceType.TOPIC, name, incremental_configs=[
        ConfigEntry("retention.ms", "7200000", incremental_operation=AlterConfigOpType.SET)])
    done(admin.incremental_alter_configs([change]))
    assert done(admin.describe_configs([resource]))[resource]["retention.ms"].value == "7200000"
    done(admin.create_partitions([NewPartitions(name, PARTITIONS)]))
    assert len(admin.list_topics(name, timeout=30).topics[name].partitions) == PARTITIONS

    settings = {"bootstrap.servers": BROKER, "compression.type": codec, "acks": acks, "linger.ms": 5}
    if idempotent:
        settings["enable.idempotence"] = True
    producer = Producer(settings)
    failures = []
    sent = list(records())
    for number, (key, value, headers) in enumerate(sent):
        producer.produce(name, value, key, headers=headers, timestamp=FIRST + number,
                         on_delivery=lambda error, _: error and failures.append(error))
        producer.poll(0)
    assert producer.flush(60) == 0 and not failures, failures[:3]

    # A fetch that waits holds up what is asked after it on the same connection.
    consumer = Consumer({"bootstrap.servers": BROKER, "group.id": "unused", "enable.auto.commit": False,
                         "fetch.wait.max.ms": 50})
    consumer.assign([TopicPartition(name, p, 0) for p in range(PARTITIONS)])
    read = []
    while len(read) < len(sent):
        for message in consumer.consume(500, 10):
            assert message.error() is None, message.error()
            read.append((message.key(), message.value(), message.headers()))
    check(sent, read)
    low, high = consumer.get_watermark_offsets(TopicPartition(name, 0), timeout=30)
    middle = (low + high) // 2
    consumer.assign([TopicPartition(name, 0, middle)])
    assert consumer.poll(30).offset() == middle
    middle = len(sent) // 2
    found = consumer.offsets_for_times([TopicPartition(name, p, FIRST + middle) for p in range(PARTITIONS)], 30)
    for place in found:
        assert place.error is None, place.error
        if place.offset < 0:
            continue
        before = max(place.offset - 1, 0)
        consumer.assign([TopicPartition(name, place.partition, before)])
        for offset in range(before, place.offset + 1):
            message = consumer.poll(30)
            assert message.offset() == offset
            late = int(message.headers()[0][1]) >= middle
            assert late == (offset == place.offset), f"{offset} by time {place.offset}"
    assert any(place.offset > 0 for place in found), found
    low, high = consumer.get_watermark_offsets(TopicPartition(name, 0), timeout=30)
    cut = (low + high) // 2
    done(admin.delete_records([TopicPartition(name, 0, cut)]))
    assert consumer.get_watermark_offsets(TopicPartition(name, 0), timeout=30) == (cut, high)
    consumer.close()
    done(admin.delete_topics([name]))


def by_group():
    name = "confluent-group"
    done(admin.create_topics([NewTopic(name, PARTITIONS, 1)]))
    producer = Producer({"bootstrap.servers": BROKER})
    sent = list(records())
    for key, value, headers in sent:
        producer.produce(name, value, key, headers=headers)
    assert producer.flush(60) == 0
    settings = {"bootstrap.servers": BROKER, "group.id": "confluent", "auto.offset.reset": "earliest",
                "enable.auto.commit": False}
    consumer = Consumer(settings)
    consumer.subscribe([name])
    read = []
    while len(read) < len(sent):
        for message in consumer.consume(500, 10):
            assert message.error() is None, message.error()
            read.append((message.key(), message.value(), message.headers()))
    check(sent, read)
    consumer.commit(asynchronous=False)
    consumer.close()
    consumer = Consumer(settings)
    ends = consumer.committed([TopicPartition(name, p) for p in range(PARTITIONS)], 30)
    assert sum(max(end.offset, 0) for end in ends) == len(sent), ends
    consumer.close()
    done(admin.delete_consumer_groups(["confluent"]))
    done(admin.delete_topics([name]))


for codec in CODECS:
    for acks in ACKS:
        run(codec, acks, False)
    run(codec, "all", True)
by_group()
did(*ALL)
