"""A member with kafka-python; see member_confluent.py."""
import sys
import threading

from kafka import ConsumerRebalanceListener, KafkaConsumer, TopicPartition
from kafka.structs import OffsetAndMetadata

bootstrap, group, topic, *_ = sys.argv[1:]


def say(*words):
    print(*words, flush=True)


class Listener(ConsumerRebalanceListener):
    def on_partitions_assigned(self, assigned):
        say("assigned", sorted(p.partition for p in assigned))

    def on_partitions_revoked(self, revoked):
        say("revoked", sorted(p.partition for p in revoked))


ended = threading.Event()
threading.Thread(target=lambda: (sys.stdin.read(), ended.set()), daemon=True).start()
consumer = KafkaConsumer(
    bootstrap_servers=bootstrap,
    group_id=group,
    enable_auto_commit=False,
    auto_offset_reset="earliest",
    session_timeout_ms=6000,
    heartbeat_interval_ms=500,
    metadata_max_age_ms=1000,
)
consumer.subscribe([topic], listener=Listener())
while not ended.is_set():
    for partition, records in consumer.poll(timeout_ms=100).items():
        for record in records:
            say("takes", record.partition, record.offset)
            try:
                consumer.commit({partition: OffsetAndMetadata(record.offset + 1, "", -1)})
            except Exception as error:  # A rebalance took the partition.
                say("uncommitted", record.partition, record.offset, type(error).__name__)
                break
            say("read", record.partition, record.offset, record.value.decode())
consumer.close()
say("closed")
