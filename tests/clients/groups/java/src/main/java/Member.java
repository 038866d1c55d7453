import java.time.Duration;
import java.util.Collection;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import org.apache.kafka.clients.consumer.ConsumerRebalanceListener;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.StringDeserializer;

/**
 * A member of a group: BOOTSTRAP GROUP TOPIC INSTANCE|- [name=value ...]. Writes what it takes, and once
 * more when it is committed, and what happens to it. Ends when its input does.
 */
public final class Member {
    public static void main(String[] arguments) throws Exception {
        Properties properties = new Properties();
        properties.put("bootstrap.servers", arguments[0]);
        properties.put("group.id", arguments[1]);
        properties.put("enable.auto.commit", "false");
        properties.put("auto.offset.reset", "earliest");
        properties.put("session.timeout.ms", "6000");
        properties.put("heartbeat.interval.ms", "500");
        properties.put("metadata.max.age.ms", "1000");
        if (!arguments[3].equals("-")) {
            properties.put("group.instance.id", arguments[3]);
        }
        for (int i = 4; i < arguments.length; i++) {
            String[] pair = arguments[i].split("=", 2);
            properties.put(pair[0], pair[1]);
        }
        Thread input = new Thread(() -> {
            try {
                while (System.in.read() >= 0) { }
            } catch (Exception e) {
                throw new IllegalStateException(e);
            }
        });
        input.start();
        StringDeserializer text = new StringDeserializer();
        try (KafkaConsumer<String, String> consumer = new KafkaConsumer<>(properties, text, text)) {
            consumer.subscribe(List.of(arguments[2]), new ConsumerRebalanceListener() {
                public void onPartitionsAssigned(Collection<TopicPartition> partitions) {
                    say("assigned " + partitions + " " + consumer.groupMetadata().generationId());
                }

                public void onPartitionsRevoked(Collection<TopicPartition> partitions) {
                    say("revoked " + partitions);
                }

                public void onPartitionsLost(Collection<TopicPartition> partitions) {
                    say("lost " + partitions);
                }
            });
            while (input.isAlive()) {
                for (ConsumerRecord<String, String> record : consumer.poll(Duration.ofMillis(100))) {
                    TopicPartition partition = new TopicPartition(record.topic(), record.partition());
                    say("takes " + record.partition() + " " + record.offset());
                    consumer.commitSync(Map.of(partition, new OffsetAndMetadata(record.offset() + 1, "java")));
                    say("read " + record.partition() + " " + record.offset() + " " + record.value());
                }
            }
        }
        say("closed");
    }

    private static void say(String line) {
        System.out.println(line);
        System.out.flush();
    }
}
