"""A member with aiokafka; see member_confluent.py."""
import asyncio
import sys
import threading

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener
from aiokafka.errors import KafkaError

bootstrap, group, topic, instance, *_ = sys.argv[1:]


def say(*words):
    print(*words, flush=True)


class Listener(ConsumerRebalanceListener):
    async def on_partitions_assigned(self, assigned):
        say("assigned", sorted(p.partition for p in assigned))

    async def on_partitions_revoked(self, revoked):
        say("revoked", sorted(p.partition for p in revoked))


async def main():
    ended = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), ended.set()), daemon=True).start()
    consumer = AIOKafkaConsumer(
        bootstrap_servers=bootstrap,
        group_id=group,
        group_instance_id=None if instance == "-" else instance,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        session_timeout_ms=6000,
        heartbeat_interval_ms=500,
        metadata_max_age_ms=1000,
    )
    consumer.subscribe([topic], listener=Listener())
    await consumer.start()
    while not ended.is_set():
        batch = await consumer.getmany(timeout_ms=100)
        for partition, records in batch.items():
            for record in records:
                say("takes", record.partition, record.offset)
                try:
                    await consumer.commit({partition: record.offset + 1})
                except KafkaError as error:  # A rebalance took the partition.
                    say("uncommitted", record.partition, record.offset, type(error).__name__)
                    break
                say("read", record.partition, record.offset, record.value.decode())
    await consumer.stop()
    say("closed")


asyncio.run(main())
