import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.*;
import org.apache.kafka.clients.admin.*;
import org.apache.kafka.clients.producer.*;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.StringSerializer;

/** Writes what `tests/broker/log_tools.rs` reads: see README.md. */
public final class KafkaLog {
    private static final int RECORDS = 400;
    private static final long FIRST_MS = 1_700_000_000_000L;
    private static final long STEP_MS = 20_000;
    private static String broker;

    public static void main(String[] arguments) throws Exception {
        broker = arguments[0];
        List<String> lines = Files.readAllLines(Path.of(arguments[1]), StandardCharsets.ISO_8859_1).subList(0, RECORDS);
        try (Admin admin = Admin.create(Map.of("bootstrap.servers", broker))) {
            Map<String, String> configs = Map.of("segment.ms", "3600000", "retention.ms", "-1", "index.interval.bytes", "1024");
            admin.createTopics(List.of(
                new NewTopic("visits", 2, (short) 1).configs(configs),
                new NewTopic("orders", 1, (short) 1).configs(configs),
                new NewTopic("aborted", 1, (short) 1).configs(configs),
                new NewTopic("empty", 1, (short) 1))).all().get();
            visits(lines);
            transactions("orders", true);
            transactions("aborted", false);
            admin.deleteRecords(Map.of(new TopicPartition("visits", 1), RecordsToDelete.beforeOffset(20))).all().get();
        }
    }

    /** Line i goes to partition i % 2, in batches of 10, with one codec after the other. */
    private static void visits(List<String> lines) throws Exception {
        List<String> codecs = List.of("none", "gzip", "snappy", "lz4", "zstd");
        for (int from = 0; from < RECORDS; from += 80) {
            Map<String, Object> settings = Map.of("bootstrap.servers", broker, "compression.type", codecs.get(from / 80),
                "linger.ms", 10_000);
            try (var producer = new KafkaProducer<>(settings, new StringSerializer(), new StringSerializer())) {
                for (int i = from; i < from + 80; i++) {
                    String line = lines.get(i);
                    var record = new ProducerRecord<>("visits", i % 2, FIRST_MS + i * STEP_MS, line.split(" ")[0], line);
                    record.headers().add("n", Integer.toString(i).getBytes()).add("empty", null);
                    producer.send(record);
                    if (i % 20 == 19) {
                        producer.flush();
                    }
                }
            }
        }
    }

    private static void transactions(String topic, boolean committed) throws Exception {
        Map<String, Object> settings = Map.of("bootstrap.servers", broker, "transactional.id", topic);
        try (var producer = new KafkaProducer<>(settings, new StringSerializer(), new StringSerializer())) {
            producer.initTransactions();
            for (int transaction = 0; transaction < 3; transaction++) {
                producer.beginTransaction();
                for (int i = 0; i < 4; i++) {
                    int n = transaction * 4 + i;
                    producer.send(new ProducerRecord<>(topic, 0, FIRST_MS + n, "key " + n, "value " + n)).get();
                }
                if (committed || transaction != 1) {
                    producer.commitTransaction();
                } else {
                    producer.abortTransaction();
                }
            }
        }
    }
}
