"""aiokafka."""
import asyncio
import sys

sys.path.insert(0, "..")
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.admin.records_to_delete import RecordsToDelete
from common import ACKS, ALL, BROKER, CODECS, FIRST, PARTITIONS, check, done, records


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
    futures = [await producer.send(name, value, key, headers=headers, timestamp_ms=FIRST + number)
               for number, (key, value, headers) in enumerate(sent)]
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
    middle = len(sent) // 2
    found = await consumer.offsets_for_times({partition: FIRST + middle for partition in assigned})
    for partition, place in found.items():
        if place is None:
            continue
        consumer.seek(partition, max(place.offset - 1, 0))
        for offset in range(max(place.offset - 1, 0), place.offset + 1):
            record = await consumer.getone(partition)
            late = int(record.headers[0][1]) >= middle
            assert record.offset == offset and late == (offset == place.offset), (record.offset, place)
    assert any(place and place.offset > 0 for place in found.values()), found
    cut = (await consumer.end_offsets(assigned))[assigned[0]] // 2
    low = await admin.delete_records({assigned[0]: RecordsToDelete(before_offset=cut)})
    assert low == {assigned[0]: cut}, low
    assert (await consumer.beginning_offsets(assigned))[assigned[0]] == cut
    await consumer.stop()
    await admin.delete_topics([name])


async def by_group(admin):
    name = "aio-group"
    await admin.create_topics([NewTopic(name, PARTITIONS, 1)])
    producer = AIOKafkaProducer(bootstrap_servers=BROKER)
    await producer.start()
    sent = list(records())
    for key, value, headers in sent:
        await producer.send(name, value, key, headers=headers)
    await producer.stop()
    consumer = AIOKafkaConsumer(name, bootstrap_servers=BROKER, group_id="aio", auto_offset_reset="earliest",
                                enable_auto_commit=False)
    await consumer.start()
    read = []
    while len(read) < len(sent):
        for batch in (await consumer.getmany(timeout_ms=10000)).values():
            read += [(r.key, r.value, [(k, v) for k, v in r.headers]) for r in batch]
    check(sent, read)
    await consumer.commit()
    await consumer.stop()
    ends = await admin.list_consumer_group_offsets("aio")
    assert sum(end.offset for end in ends.values()) == len(sent), ends
    await admin.delete_topics([name])


async def main():
    admin = AIOKafkaAdminClient(bootstrap_servers=BROKER)
    await admin.start()
    for codec in CODECS:
        for acks in ACKS:
            await run(admin, codec, acks, False)
        await run(admin, codec, "all", True)
    await by_group(admin)
    await admin.close()


asyncio.run(main())
done(*ALL)
