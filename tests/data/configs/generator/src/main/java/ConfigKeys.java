import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import org.apache.kafka.common.config.ConfigDef;
import org.apache.kafka.common.config.ConfigDef.ConfigKey;
import org.apache.kafka.coordinator.group.GroupConfig;
import org.apache.kafka.server.config.DynamicBrokerConfig;
import org.apache.kafka.server.config.ServerTopicConfigSynonyms;
import org.apache.kafka.server.metrics.ClientMetricsConfigs;
import org.apache.kafka.storage.internals.log.LogConfig;

/** Writes every key of Kafka's own definitions as a Rust table (see README.md). */
public final class ConfigKeys {
    private static final Pattern RANGE = Pattern.compile("\\[(-?\\d+(?:\\.\\d+)?)?,?\\.\\.\\.,?(-?\\d+(?:\\.\\d+)?)?\\]");

    public static void main(String[] arguments) throws Exception {
        StringBuilder out = new StringBuilder();
        out.append("//! Every key of Apache Kafka 4.3.1 with its type, default and accepted values.\n//!\n");
        out.append("//! Written by `tests/data/configs/generator` from Kafka's own definitions; not edited by hand. What each\n");
        out.append("//! key does here is said in `effect.rs`.\n\n");
        out.append("use super::kafka::Type::{Boolean, Class, Double, Int, List, Long, Password, Short, Text};\n");
        out.append("use super::kafka::Update::{ClusterWide, PerBroker, ReadOnly};\n");
        out.append("use super::kafka::Valid::{Any, AtLeast, Between, Ratio, Words};\n");
        out.append("use super::kafka::{KafkaKey, key};\n\n");
        table(out, "Keys of a broker.", "BROKER", broker(), true);
        table(out, "Keys of a topic.", "TOPIC", LogConfig.configDefCopy().configKeys(), false);
        table(out, "Keys of a group.", "GROUP", GroupConfig.CONFIG_DEF.configKeys(), false);
        table(out, "Keys of a client metrics subscription.", "CLIENT_METRICS",
            ClientMetricsConfigs.configDef().configKeys(), false);
        out.append("/// Topic keys and the broker keys that they inherit from: the key, and what its unit is in the topic's.\n");
        out.append("#[rustfmt::skip]\npub(super) const TOPIC_SYNONYMS: &[(&str, &[(&str, i64)])] = &[\n");
        for (var entry : new TreeMap<>(ServerTopicConfigSynonyms.ALL_TOPIC_CONFIG_SYNONYMS).entrySet()) {
            List<String> names = new ArrayList<>();
            for (var synonym : entry.getValue()) {
                // A converter is a function from the broker's text to the topic's; what it makes of 7 says the unit.
                long seven = Long.parseLong(apply(synonym, "7"));
                names.add("(\"" + synonym.name() + "\", " + seven / 7 + ")");
            }
            out.append("    (\"" + entry.getKey() + "\", &[" + String.join(", ", names) + "]),\n");
        }
        out.append("];\n");
        Files.writeString(Path.of(arguments[0]), out.toString());
    }

    private static String apply(org.apache.kafka.server.config.ConfigSynonym synonym, String value) {
        return synonym.converter().apply(value);
    }

    private static Map<String, ConfigKey> broker() {
        return kafka.server.KafkaConfig.configDef().configKeys();
    }

    private static void table(StringBuilder out, String doc, String name, Map<String, ConfigKey> keys, boolean broker) {
        Map<String, String> modes = DynamicBrokerConfig.dynamicConfigUpdateModes();
        out.append("/// ").append(doc).append("\n#[rustfmt::skip]\npub const ").append(name).append(": &[KafkaKey] = &[\n");
        for (ConfigKey key : new TreeMap<>(keys).values()) {
            String mode = modes.getOrDefault(key.name, "read-only");
            String update = !broker ? "ClusterWide" : switch (mode) {
                case "per-broker" -> "PerBroker";
                case "cluster-wide" -> "ClusterWide";
                default -> "ReadOnly";
            };
            String type = key.type == ConfigDef.Type.STRING ? "Text" : camel(key.type.toString());
            String fallback = key.hasDefault() && key.defaultValue != null
                ? "Some(" + quote(ConfigDef.convertToString(key.defaultValue, key.type)) + ")" : "None";
            out.append("    key(").append(quote(key.name)).append(", ").append(type).append(", ").append(fallback)
                .append(", ").append(valid(key)).append(", ").append(update).append(", ")
                .append(key.internalConfig).append("),\n");
        }
        out.append("];\n\n");
    }

    private static String valid(ConfigKey key) {
        if (key.validator == null) {
            return "Any";
        }
        String text = key.validator.toString();
        Matcher range = RANGE.matcher(text);
        if (range.matches()) {
            String least = range.group(1);
            String most = range.group(2);
            if (key.type == ConfigDef.Type.DOUBLE) {
                return "Ratio";
            }
            if (most == null) {
                return "AtLeast(" + least + ")";
            }
            return "Between(" + least + ", " + most + ")";
        }
        if (key.name.equals("compression.gzip.level")) {
            return "Between(-1, 9)";
        }
        if (text.contains("by_duration") || text.contains("partitionId")) {
            return "Any";
        }
        Matcher words = Pattern.compile("(?:\\(case insensitive\\) )?\\[([\\w.,: -]+)\\].*").matcher(text);
        if (words.matches()) {
            List<String> quoted = new ArrayList<>();
            for (String word : words.group(1).split(", *")) {
                quoted.add(quote(word));
            }
            return "Words(&[" + String.join(", ", quoted) + "])";
        }
        System.err.println(key.name + ": " + key.type + " is checked by `" + text + "`: any value is accepted");
        return "Any";
    }

    private static String camel(String word) {
        return word.charAt(0) + word.substring(1).toLowerCase();
    }

    private static String quote(String text) {
        return "\"" + text.replace("\\", "\\\\").replace("\"", "\\\"") + "\"";
    }
}
