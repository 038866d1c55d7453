import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.*;
import java.util.stream.IntStream;
import java.util.zip.CRC32;
import org.apache.kafka.clients.admin.*;
import org.apache.kafka.clients.consumer.*;
import org.apache.kafka.clients.producer.*;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.serialization.*;

/** Both real files through Kafka's Java client and back: see check. */
public final class RoundTrips {
    private static final String BROKER = System.getenv("BROKER");
    private static final int PARTITIONS = 64;
    private static final long FIRST_MS = 1_700_000_000_000L;
    private static final long STEP_MS = 1000;

    private record Input(String file, byte[] key, byte[] value) {}

    private static final List<Input> inputs = new ArrayList<>();

    public static void main(String[] arguments) throws Exception {
        Path folder = Path.of(System.getenv("REAL"));
        for (String file : List.of("web-access.log", "server-metrics.jsonl")) {
            for (String line : Files.readAllLines(folder.resolve(file), StandardCharsets.ISO_8859_1)) {
                byte[] key = file.equals("web-access.log") ? bytes(line.split(" ")[0]) : null;
                inputs.add(new Input(file, key, bytes(line)));
            }
        }
        for (String codec : List.of("none", "gzip", "snappy", "lz4", "zstd")) {
            for (String acks : List.of("0", "1", "all", "default")) {
                run(codec, acks);
                System.out.println(codec + " acks=" + acks + ": " + inputs.size() + " records");
            }
        }
        System.out.println("passed");
    }

    private static byte[] bytes(String text) {
        return text.getBytes(StandardCharsets.ISO_8859_1);
    }

    private static int partitionOf(int index) {
        byte[] key = inputs.get(index).key();
        if (key == null) {
            return index % PARTITIONS;
        }
        CRC32 crc = new CRC32();
        crc.update(key);
        return (int) (crc.getValue() % PARTITIONS);
    }

    private static void run(String codec, String acks) throws Exception {
        String topic = "java-" + codec + "-" + acks;
        List<TopicPartition> partitions = IntStream.range(0, PARTITIONS).mapToObj(p -> new TopicPartition(topic, p)).toList();
        List<List<Integer>> expected = new ArrayList<>();
        partitions.forEach(partition -> expected.add(new ArrayList<>()));
        try (Admin admin = Admin.create(Map.of("bootstrap.servers", BROKER))) {
            // The records are old.
            admin.createTopics(List.of(new NewTopic(topic, PARTITIONS, (short) 1).configs(Map.of("retention.ms", "-1")))).all().get();
            produce(topic, codec, acks, expected);
            try (var consumer = new KafkaConsumer<>(Map.<String, Object>of("bootstrap.servers", BROKER, "auto.offset.reset", "none"),
                new ByteArrayDeserializer(), new ByteArrayDeserializer())) {
                consumer.assign(partitions);
                awaitEnd(consumer, partitions, topic);
                consumer.seekToBeginning(partitions);
                compare(consumer, expected, new int[PARTITIONS], topic);
                int[] middles = expected.stream().mapToInt(log -> log.size() / 2).toArray();
                partitions.forEach(p -> consumer.seek(p, middles[p.partition()]));
                compare(consumer, expected, middles, topic + " from the middle");
                for (int index : List.of(0, 1, inputs.size() / 3, inputs.size() / 2, inputs.size() - 700)) {
                    byTime(consumer, partitions, expected, index, topic);
                }
            }
            admin.deleteTopics(List.of(topic)).all().get();
        }
    }

    private static void produce(String topic, String codec, String acks, List<List<Integer>> expected) throws Exception {
        Map<String, Object> settings = new HashMap<>(Map.of("bootstrap.servers", BROKER, "compression.type", codec, "linger.ms", 5));
        if (!acks.equals("default")) {
            settings.put("acks", acks);
            settings.put("enable.idempotence", false);
        }
        List<java.util.concurrent.Future<RecordMetadata>> sent = new ArrayList<>();
        try (var producer = new KafkaProducer<>(settings, new ByteArraySerializer(), new ByteArraySerializer())) {
            for (int index = 0; index < inputs.size(); index++) {
                Input input = inputs.get(index);
                int partition = partitionOf(index);
                var record = new ProducerRecord<>(topic, partition, FIRST_MS + index * STEP_MS, input.key(), input.value());
                record.headers().add("file", bytes(input.file())).add("line", line(index)).add("nothing", null);
                sent.add(producer.send(record));
                expected.get(partition).add(index);
            }
        }
        int[] next = new int[PARTITIONS];
        for (int index = 0; index < sent.size(); index++) {
            RecordMetadata told = sent.get(index).get();
            int offset = next[told.partition()]++;
            check(told.partition() == partitionOf(index), topic + ": partition of record " + index);
            check(acks.equals("0") || told.offset() == offset, topic + ": record " + index + " acknowledged at " + told.offset());
        }
    }

    private static byte[] line(int index) {
        return ByteBuffer.allocate(8).putLong(index).array();
    }

    private static void awaitEnd(Consumer<byte[], byte[]> consumer, List<TopicPartition> partitions, String topic) {
        long until = System.currentTimeMillis() + 60_000;
        long end = -1;
        while (System.currentTimeMillis() < until) {
            end = consumer.endOffsets(partitions).values().stream().mapToLong(Long::longValue).sum();
            if (end == inputs.size()) {
                return;
            }
        }
        check(false, topic + " holds " + end + " records");
    }

    private static void compare(Consumer<byte[], byte[]> consumer, List<List<Integer>> expected, int[] from, String what) {
        int[] next = from.clone();
        int left = IntStream.range(0, PARTITIONS).map(p -> expected.get(p).size() - from[p]).sum();
        long until = System.currentTimeMillis() + 60_000;
        while (left > 0 && System.currentTimeMillis() < until) {
            for (var record : consumer.poll(Duration.ofSeconds(1))) {
                int partition = record.partition();
                check(record.offset() == next[partition], what + ": offset " + record.offset() + ", not " + next[partition]);
                same(record, expected.get(partition).get(next[partition]), what);
                next[partition]++;
                left--;
            }
        }
        check(left == 0, what + ": " + left + " records are missing");
    }

    private static void same(ConsumerRecord<byte[], byte[]> record, int index, String what) {
        Input input = inputs.get(index);
        Header[] headers = record.headers().toArray();
        boolean same = Arrays.equals(record.key(), input.key()) && Arrays.equals(record.value(), input.value())
            && record.timestamp() == FIRST_MS + index * STEP_MS && headers.length == 3
            && headers[0].key().equals("file") && Arrays.equals(headers[0].value(), bytes(input.file()))
            && headers[1].key().equals("line") && Arrays.equals(headers[1].value(), line(index))
            && headers[2].key().equals("nothing") && headers[2].value() == null;
        check(same, what + ": " + record.partition() + ":" + record.offset() + " is not record " + index);
    }

    /** Seeks every partition to a timestamp: the first record there is the first that has it or a later one. */
    private static void byTime(Consumer<byte[], byte[]> consumer, List<TopicPartition> partitions, List<List<Integer>> expected,
        int index, String topic) {
        long timestamp = FIRST_MS + index * STEP_MS - 1;
        Map<TopicPartition, Long> asked = new HashMap<>();
        partitions.forEach(partition -> asked.put(partition, timestamp));
        Map<TopicPartition, OffsetAndTimestamp> told = consumer.offsetsForTimes(asked);
        int[] from = new int[PARTITIONS];
        for (TopicPartition partition : partitions) {
            List<Integer> log = expected.get(partition.partition());
            int first = (int) log.stream().takeWhile(i -> i < index).count();
            OffsetAndTimestamp found = told.get(partition);
            from[partition.partition()] = first;
            if (first == log.size()) {
                check(found == null, topic + ": an offset for a time behind the end");
                consumer.seek(partition, first);
                continue;
            }
            check(found != null && found.offset() == first && found.timestamp() == FIRST_MS + log.get(first) * STEP_MS,
                topic + ": " + partition + " at " + timestamp + ": " + found + ", not " + first);
            consumer.seek(partition, found.offset());
        }
        compare(consumer, expected, from, topic + " by time");
    }

    private static void check(boolean good, String what) {
        if (!good) {
            throw new AssertionError(what);
        }
    }
}
