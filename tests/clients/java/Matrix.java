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
        }
        System.out.println("passed");
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

        Map<String, Object> settings = Map.of("bootstrap.servers", BROKER, "acks", acks, "compression.type", codec,
            "enable.idempotence", idempotent, "linger.ms", 5);
        List<java.util.concurrent.Future<RecordMetadata>> sent = new ArrayList<>();
        try (var producer = new KafkaProducer<>(settings, new StringSerializer(), new StringSerializer())) {
            for (String line : lines) {
                var record = new ProducerRecord<>(name, line.split(" ")[0], line);
                record.headers().add("n", Integer.toString(sent.size()).getBytes());
                sent.add(producer.send(record));
            }
        }
        for (var future : sent) {
            future.get();
        }
        var parts = IntStream.range(0, 3).mapToObj(p -> new TopicPartition(name, p)).toList();
        var read = new TreeMap<Integer, String>();
        try (var consumer = new KafkaConsumer<>(Map.<String, Object>of("bootstrap.servers", BROKER),
            new StringDeserializer(), new StringDeserializer())) {
            consumer.assign(parts);
            consumer.seekToBeginning(parts);
            long until = System.currentTimeMillis() + 30_000;
            while (read.size() < lines.size() && System.currentTimeMillis() < until) {
                for (var record : consumer.poll(Duration.ofSeconds(1))) {
                    read.put(Integer.parseInt(new String(record.headers().lastHeader("n").value())), record.value());
                }
            }
            check(new ArrayList<>(read.values()).equals(lines), name + ": " + read.size() + " read");
            long middle = consumer.endOffsets(parts).get(parts.get(0)) / 2;
            consumer.assign(List.of(parts.get(0)));
            consumer.seek(parts.get(0), middle);
            check(consumer.poll(Duration.ofSeconds(20)).iterator().next().offset() == middle, "middle");
        }
        admin.deleteTopics(List.of(name)).all().get();
    }

    private static void check(boolean good, String what) {
        if (!good) {
            throw new AssertionError(what);
        }
    }
}
