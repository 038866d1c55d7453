"""kafka-python."""
import sys

sys.path.insert(0, "..")
from common import ACKS, BROKER, CODECS, PARTITIONS, check, records
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
    futures = [producer.send(name, value, key, headers=headers) for key, value, headers in sent]
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
    consumer.close()
    admin.delete_topics([name])


for codec in CODECS:
    for acks in ACKS:
        run(codec, acks, False)
    run(codec, "all", True)
print("passed")
