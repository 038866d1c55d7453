"""kafka-python."""
import sys

sys.path.insert(0, "..")
from common import ACKS, ALL, BROKER, CODECS, FIRST, PARTITIONS, check, done, records
from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import ConfigResource, ConfigResourceType, KafkaAdminClient, NewPartitions, NewTopic

admin = KafkaAdminClient(bootstrap_servers=BROKER)


def run(codec, acks, idempotent):
    name = f"python-{codec}-{acks}-{idempotent}"
    admin.create_topics([NewTopic(name, 2, 1, topic_configs={"retention.ms": "86400000"})])
    assert name in admin.list_topics()
    assert "retention.ms" in str(admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, name)]))
    admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, name, configs={"retention.ms": "7200000"})])
    assert "7200000" in str(admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, name)]))
    admin.create_partitions({name: NewPartitions(PARTITIONS)})

    producer = KafkaProducer(bootstrap_servers=BROKER, acks=acks, linger_ms=5, enable_idempotence=idempotent,
                             compression_type=None if codec == "none" else codec)
    sent = list(records())
    futures = [producer.send(name, value, key, headers=headers, timestamp_ms=FIRST + number)
               for number, (key, value, headers) in enumerate(sent)]
    producer.flush(60)
    for future in futures:
        future.get(30)
    producer.close()

    consumer = KafkaConsumer(bootstrap_servers=BROKER, consumer_timeout_ms=20000, enable_auto_commit=False)
    assigned = [TopicPartition(name, p) for p in range(PARTITIONS)]
    consumer.assign(assigned)
    consumer.seek_to_beginning()
    read = []
    for record in consumer:
        read.append((record.key, record.value, [(k, v) for k, v in record.headers]))
        if len(read) == len(sent):
            break
    check(sent, read)
    middle = consumer.end_offsets(assigned)[assigned[0]] // 2
    consumer.seek(assigned[0], middle)
    assert next(r for r in consumer if r.partition == 0).offset == middle
    middle = len(sent) // 2
    found = consumer.offsets_for_times({partition: FIRST + middle for partition in assigned})
    for partition, place in found.items():
        if place is None:
            continue
        consumer.assign([partition])
        consumer.seek(partition, max(place.offset - 1, 0))
        for offset in range(max(place.offset - 1, 0), place.offset + 1):
            record = next(consumer)
            late = int(record.headers[0][1]) >= middle
            assert record.offset == offset and late == (offset == place.offset), (record.offset, place)
    assert any(place and place.offset > 0 for place in found.values()), found
    cut = consumer.end_offsets(assigned)[assigned[0]] // 2
    admin.delete_records({assigned[0]: cut})
    assert consumer.beginning_offsets(assigned)[assigned[0]] == cut
    consumer.close()
    admin.delete_topics([name])


def by_group():
    name = "python-group"
    admin.create_topics([NewTopic(name, PARTITIONS, 1)])
    producer = KafkaProducer(bootstrap_servers=BROKER)
    sent = list(records())
    for key, value, headers in sent:
        producer.send(name, value, key, headers=headers)
    producer.close()
    settings = {"bootstrap_servers": BROKER, "group_id": "python", "auto_offset_reset": "earliest",
                "enable_auto_commit": False, "consumer_timeout_ms": 20000}
    consumer = KafkaConsumer(name, **settings)
    read = []
    for record in consumer:
        read.append((record.key, record.value, [(k, v) for k, v in record.headers]))
        if len(read) == len(sent):
            break
    check(sent, read)
    consumer.commit()
    consumer.close()
    consumer = KafkaConsumer(**settings)
    ends = [consumer.committed(TopicPartition(name, p)) or 0 for p in range(PARTITIONS)]
    assert sum(ends) == len(sent), ends
    consumer.close()
    admin.delete_groups(["python"])
    admin.delete_topics([name])


for codec in CODECS:
    for acks in ACKS:
        run(codec, acks, False)
    run(codec, "all", True)
by_group()
done(*ALL)
