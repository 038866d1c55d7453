import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.*;
import org.apache.kafka.clients.admin.*;
import org.apache.kafka.clients.consumer.*;
import org.apache.kafka.clients.producer.*;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.serialization.*;
import org.apache.kafka.streams.*;
import org.apache.kafka.streams.kstream.*;

/** Kafka Streams counts the words of a log, loses its state, and counts on. */
public final class WordCount {
    private static final String BROKER = System.getenv("BROKER");

    public static void main(String[] arguments) throws Exception {
        List<String> lines = Files.readAllLines(Path.of(System.getenv("INPUT")), StandardCharsets.ISO_8859_1);
        try (Admin admin = Admin.create(Map.of("bootstrap.servers", BROKER))) {
            admin.createTopics(List.of(
                new NewTopic("words-in", Optional.of(3), Optional.empty()),
                new NewTopic("words-out", Optional.of(3), Optional.empty()))).all().get();
            int half = lines.size() / 2;
            Map<String, Long> expected = new HashMap<>();

            produce(lines.subList(0, half), expected);
            try (KafkaStreams streams = start()) {
                await(expected);
                check(streams.metadataForLocalThreads().size() == 2, "threads");
            }
            System.out.println("did word-count");

            // Without its files it reads what it had counted back from its changelog.
            var changelog = new ConfigResource(ConfigResource.Type.TOPIC, "words-counts-changelog");
            check(admin.describeConfigs(List.of(changelog)).all().get().get(changelog).get("cleanup.policy").value()
                .equals("compact"), "the changelog's cleanup.policy");
            var internal = admin.listTopics().names().get();
            check(internal.contains("words-counts-repartition"), "the repartition topic is not there");
            try (KafkaStreams streams = new KafkaStreams(topology(), settings())) {
                streams.cleanUp();
            }
            produce(lines.subList(half, lines.size()), expected);
            try (KafkaStreams streams = start()) {
                await(expected);
            }
            System.out.println("did restored-from-the-changelog");
            System.out.println("note: " + lines.size() + " lines, " + expected.size() + " words");
        }
    }

    private static String[] words(String line) {
        return line.toLowerCase(Locale.ROOT).split("\\W+");
    }

    private static Topology topology() {
        StreamsBuilder builder = new StreamsBuilder();
        builder.stream("words-in", Consumed.with(Serdes.String(), Serdes.String()))
            .flatMapValues(line -> List.of(words(line)))
            .groupBy((key, word) -> word, Grouped.with("counts", Serdes.String(), Serdes.String()))
            .count(Materialized.as("counts"))
            .toStream()
            .to("words-out", Produced.with(Serdes.String(), Serdes.Long()));
        return builder.build();
    }

    private static Properties settings() {
        Properties settings = new Properties();
        settings.put("application.id", "words");
        settings.put("bootstrap.servers", BROKER);
        settings.put("num.stream.threads", 2);
        settings.put("commit.interval.ms", 500);
        settings.put("state.dir", System.getenv("CLIENT_HOME") + "/state");
        settings.put("auto.offset.reset", "earliest");
        // Streams does not leave its group when it is closed: the next start waits for the session to end.
        settings.put("session.timeout.ms", 6000);
        settings.put("heartbeat.interval.ms", 1000);
        return settings;
    }

    private static KafkaStreams start() {
        KafkaStreams streams = new KafkaStreams(topology(), settings());
        streams.setUncaughtExceptionHandler(exception -> {
            exception.printStackTrace();
            System.exit(1);
            return null;
        });
        streams.start();
        return streams;
    }

    private static void produce(List<String> lines, Map<String, Long> expected) throws Exception {
        try (var producer = new KafkaProducer<>(Map.<String, Object>of("bootstrap.servers", BROKER, "linger.ms", 5),
            new StringSerializer(), new StringSerializer())) {
            List<java.util.concurrent.Future<RecordMetadata>> sent = new ArrayList<>();
            for (String line : lines) {
                sent.add(producer.send(new ProducerRecord<>("words-in", line.split(" ")[0], line)));
                for (String word : words(line)) {
                    expected.merge(word, 1L, Long::sum);
                }
            }
            for (var future : sent) {
                future.get();
            }
        }
    }

    /** Reads the counts from the beginning until the last of each word is right. */
    private static void await(Map<String, Long> expected) {
        Map<String, Long> counts = new HashMap<>();
        try (var consumer = new KafkaConsumer<>(Map.<String, Object>of("bootstrap.servers", BROKER,
            "group.id", "words-reader-" + UUID.randomUUID(), "auto.offset.reset", "earliest"),
            new StringDeserializer(), new LongDeserializer())) {
            consumer.subscribe(List.of("words-out"));
            long until = System.currentTimeMillis() + 40_000;
            while (!counts.equals(expected)) {
                check(System.currentTimeMillis() < until, "counts differ: " + difference(expected, counts));
                for (var record : consumer.poll(Duration.ofMillis(500))) {
                    counts.put(record.key(), record.value());
                    check(record.value() <= expected.getOrDefault(record.key(), 0L),
                        record.key() + " is counted " + record.value() + " times");
                }
            }
        }
    }

    private static String difference(Map<String, Long> expected, Map<String, Long> counts) {
        return expected.keySet().stream().filter(word -> !expected.get(word).equals(counts.get(word))).limit(5)
            .map(word -> word + " " + counts.get(word) + " of " + expected.get(word)).toList().toString();
    }

    private static void check(boolean good, String what) {
        if (!good) {
            throw new AssertionError(what);
        }
    }
}
