import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.*;
import java.util.stream.*;
import org.apache.kafka.clients.admin.*;
import org.apache.kafka.clients.consumer.*;
import org.apache.kafka.clients.producer.*;
import org.apache.kafka.common.*;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.serialization.*;

/** Kafka's own Java clients. */
public final class Matrix {
    private static final String BROKER = System.getenv("BROKER");
    /** The time of the first record; each of the others is a millisecond later than the one before. */
    private static final long FIRST = System.currentTimeMillis() - 3_600_000;

    public static void main(String[] arguments) throws Exception {
        List<String> lines;
        try (Stream<String> all = Files.lines(Path.of(System.getenv("INPUT")), StandardCharsets.ISO_8859_1)) {
            lines = all.limit(2000).toList();
        }
        try (Admin admin = Admin.create(Map.of("bootstrap.servers", BROKER))) {
            cluster(admin);
            for (String codec : List.of("none", "gzip", "snappy", "lz4", "zstd")) {
                for (String acks : List.of("0", "1", "all")) {
                    run(admin, lines, codec, acks, false);
                }
                run(admin, lines, codec, "all", true);
            }
            byGroup(admin, lines);
        }
        for (String operation : List.of("create", "describe", "alter", "acks", "codecs", "idempotence", "headers",
            "assign", "offset", "time", "group", "delete-records", "delete")) {
            System.out.println("did " + operation);
        }
    }

    private static void cluster(Admin admin) throws Exception {
        check(admin.describeCluster().nodes().get().size() == 1, "nodes");
        var quorum = admin.describeMetadataQuorum().quorumInfo().get();
        check(quorum.leaderId() == 1 && quorum.voters().size() == 1, "quorum");
        check(admin.listPartitionReassignments().reassignments().get().isEmpty(), "reassignments");
        check(!admin.describeLogDirs(List.of(1)).allDescriptions().get().get(1).isEmpty(), "log dirs");
        var broker = new ConfigResource(ConfigResource.Type.BROKER, "1");
        Config config = admin.describeConfigs(List.of(broker),
            new DescribeConfigsOptions().includeSynonyms(true).includeDocumentation(true)).all().get().get(broker);
        check(config.entries().size() > 280, "broker configs");
        check(config.get("ssl.keystore.password").isSensitive(), "sensitive");
        check(admin.listConfigResources().all().get().contains(broker), "resources");
    }

    private static void run(Admin admin, List<String> lines, String codec, String acks, boolean idempotent)
        throws Exception {
        String name = "java-" + codec + "-" + acks + "-" + idempotent;
        var created = admin.createTopics(List.of(
            new NewTopic(name, Optional.of(2), Optional.empty()).configs(Map.of("retention.ms", "86400000"))));
        check("86400000".equals(created.config(name).get().get("retention.ms").value()), "created config");
        check(created.numPartitions(name).get() == 2, "created partitions");
        var resource = new ConfigResource(ConfigResource.Type.TOPIC, name);
        admin.incrementalAlterConfigs(Map.of(resource, List.of(
            new AlterConfigOp(new ConfigEntry("retention.ms", "7200000"), AlterConfigOp.OpType.SET)))).all().get();
        Config config = admin.describeConfigs(List.of(resource)).all().get().get(resource);
        check("7200000".equals(config.get("retention.ms").value()), "altered config");
        check(config.get("retention.ms").source() == ConfigEntry.ConfigSource.DYNAMIC_TOPIC_CONFIG, "source");
        admin.createPartitions(Map.of(name, NewPartitions.increaseTo(3))).all().get();
        check(admin.describeTopics(List.of(name)).allTopicNames().get().get(name).partitions().size() == 3, "partitions");

        produce(name, lines, Map.of("bootstrap.servers", BROKER, "acks", acks, "compression.type", codec,
            "enable.idempotence", idempotent, "linger.ms", 5));
        var parts = IntStream.range(0, 3).mapToObj(p -> new TopicPartition(name, p)).toList();
        try (var consumer = new KafkaConsumer<>(Map.<String, Object>of("bootstrap.servers", BROKER),
            new StringDeserializer(), new StringDeserializer())) {
            consumer.assign(parts);
            consumer.seekToBeginning(parts);
            everything(name, consumer, lines);
            TopicPartition part = parts.get(0);
            long end = consumer.endOffsets(parts).get(part);
            long middle = end / 2;
            consumer.assign(List.of(part));
            consumer.seek(part, middle);
            check(next(consumer).get(0).offset() == middle, "middle");
            int half = lines.size() / 2;
            long place = consumer.offsetsForTimes(Map.of(part, FIRST + half)).get(part).offset();
            consumer.seek(part, place - 1);
            for (long at = -1; at < place;) {
                for (var record : next(consumer)) {
                    at = record.offset();
                    check((at >= place) == (number(record) >= half), name + ": time gave " + place);
                }
            }
            check(middle == admin.deleteRecords(Map.of(part, RecordsToDelete.beforeOffset(middle)))
                .lowWatermarks().get(part).get().lowWatermark(), "low watermark");
            check(consumer.beginningOffsets(parts).get(part) == middle, "start after deletion");
        }
        admin.deleteTopics(List.of(name)).all().get();
    }

    private static int number(ConsumerRecord<String, String> record) {
        return Integer.parseInt(new String(record.headers().lastHeader("n").value()));
    }

    private static List<ConsumerRecord<String, String>> next(KafkaConsumer<String, String> consumer) {
        for (int second = 0; second < 20; second++) {
            var records = consumer.poll(Duration.ofSeconds(1));
            if (!records.isEmpty()) {
                return StreamSupport.stream(records.spliterator(), false).toList();
            }
        }
        throw new AssertionError("nothing comes");
    }

    private static void everything(String name, KafkaConsumer<String, String> consumer, List<String> lines) {
        var read = new TreeMap<Integer, String>();
        while (read.size() < lines.size()) {
            next(consumer).forEach(record -> read.put(number(record), record.value()));
        }
        check(new ArrayList<>(read.values()).equals(lines), name + ": " + read.size() + " read");
    }

    private static void byGroup(Admin admin, List<String> lines) throws Exception {
        String name = "java-group";
        admin.createTopics(List.of(new NewTopic(name, Optional.of(3), Optional.empty()))).all().get();
        produce(name, lines, Map.of("bootstrap.servers", BROKER));
        Map<String, Object> settings = Map.of("bootstrap.servers", BROKER, "group.id", "java",
            "auto.offset.reset", "earliest", "enable.auto.commit", false);
        try (var consumer = new KafkaConsumer<>(settings, new StringDeserializer(), new StringDeserializer())) {
            consumer.subscribe(List.of(name));
            everything(name, consumer, lines);
            consumer.commitSync();
            var group = admin.describeConsumerGroups(List.of("java")).all().get().get("java");
            check(group.members().size() == 1, "members");
        }
        var committed = admin.listConsumerGroupOffsets("java").partitionsToOffsetAndMetadata().get();
        check(committed.values().stream().mapToLong(OffsetAndMetadata::offset).sum() == lines.size(), "committed");
        admin.deleteConsumerGroups(List.of("java")).all().get();
        admin.deleteTopics(List.of(name)).all().get();
    }

    private static void produce(String name, List<String> lines, Map<String, Object> settings) throws Exception {
        List<java.util.concurrent.Future<RecordMetadata>> sent = new ArrayList<>();
        try (var producer = new KafkaProducer<>(settings, new StringSerializer(), new StringSerializer())) {
            for (String line : lines) {
                var record = new ProducerRecord<>(name, null, FIRST + sent.size(), line.split(" ")[0], line);
                record.headers().add("n", Integer.toString(sent.size()).getBytes());
                sent.add(producer.send(record));
            }
        }
        for (var future : sent) {
            future.get();
        }
    }

    private static void check(boolean good, String what) {
        if (!good) {
            throw new AssertionError(what);
        }
    }
}
