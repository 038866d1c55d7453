"""aiokafka."""
import asyncio
import sys

sys.path.insert(0, "..")
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from common import ACKS, BROKER, CODECS, PARTITIONS, check, records


async def run(admin, codec, acks, idempotent):
    name = f"aio-{codec}-{acks}-{idempotent}"
    await admin.create_topics([NewTopic(name, 2, 1, topic_configs={"retention.ms": "86400000"})])
    assert name in await admin.list_topics()
    resource = ConfigResource(ConfigResourceType.TOPIC, name)
    assert "86400000" in str(await admin.describe_configs([resource]))
    await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, name, configs={"retention.ms": "7200000"})])
    assert "7200000" in str(await admin.describe_configs([resource]))
    await admin.create_partitions({name: NewPartitions(PARTITIONS)})

    producer = AIOKafkaProducer(bootstrap_servers=BROKER, acks=acks, linger_ms=5, enable_idempotence=idempotent,
                                compression_type=None if codec == "none" else codec)
    await producer.start()
    sent = list(records())
    futures = [await producer.send(name, value, key, headers=headers) for key, value, headers in sent]
    await producer.flush()
    await asyncio.gather(*futures)
    await producer.stop()

    consumer = AIOKafkaConsumer(bootstrap_servers=BROKER, enable_auto_commit=False)
    await consumer.start()
    assigned = [TopicPartition(name, p) for p in range(PARTITIONS)]
    consumer.assign(assigned)
    await consumer.seek_to_beginning()
    read = []
    while len(read) < len(sent):
        for batch in (await consumer.getmany(timeout_ms=10000)).values():
            read += [(r.key, r.value, [(k, v) for k, v in r.headers]) for r in batch]
    check(sent, read)
    middle = (await consumer.end_offsets(assigned))[assigned[0]] // 2
    consumer.seek(assigned[0], middle)
    assert (await consumer.getone(assigned[0])).offset == middle
    await consumer.stop()
    await admin.delete_topics([name])


async def main():
    admin = AIOKafkaAdminClient(bootstrap_servers=BROKER)
    await admin.start()
    for codec in CODECS:
        for acks in ACKS:
            await run(admin, codec, acks, False)
        await run(admin, codec, "all", True)
    await admin.close()


asyncio.run(main())
print("passed")
