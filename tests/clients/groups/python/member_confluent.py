"""A member with confluent-kafka: BOOTSTRAP GROUP TOPIC INSTANCE|- [name=value ...]. Writes what it takes,
and once more when it is committed, and what happens to it. Ends when its input does."""
import sys
import threading

from confluent_kafka import Consumer, KafkaException, TopicPartition

bootstrap, group, topic, instance, *more = sys.argv[1:]
settings = {
    "bootstrap.servers": bootstrap,
    "group.id": group,
    "enable.auto.commit": False,
    "auto.offset.reset": "earliest",
    "session.timeout.ms": 6000,
    "heartbeat.interval.ms": 500,
    "topic.metadata.refresh.interval.ms": 1000,
}
if instance != "-":
    settings["group.instance.id"] = instance
settings.update(pair.split("=", 1) for pair in more)


def say(*words):
    print(*words, flush=True)


def named(partitions):
    return sorted(p.partition for p in partitions)


ended = threading.Event()
threading.Thread(target=lambda: (sys.stdin.read(), ended.set()), daemon=True).start()
consumer = Consumer(settings)
consumer.subscribe(
    [topic],
    on_assign=lambda _, p: say("assigned", named(p)),
    on_revoke=lambda _, p: say("revoked", named(p)),
    on_lost=lambda _, p: say("lost", named(p)),
)
while not ended.is_set():
    message = consumer.poll(0.1)
    if message is None:
        continue
    if message.error():
        say("error", message.error())
        continue
    say("takes", message.partition(), message.offset())
    try:
        consumer.commit(
            offsets=[TopicPartition(message.topic(), message.partition(), message.offset() + 1)],
            asynchronous=False,
        )
    except Exception as error:  # A rebalance took the partition.
        say("uncommitted", message.partition(), message.offset(), error)
        try:  # Or did not, as a cooperative one may: then it is to be taken once more.
            consumer.seek(TopicPartition(message.topic(), message.partition(), message.offset()))
        except KafkaException:
            pass
        continue
    say("read", message.partition(), message.offset(), message.value().decode())
consumer.close()
say("closed")
