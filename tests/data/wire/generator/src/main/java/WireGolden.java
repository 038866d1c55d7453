import com.fasterxml.jackson.core.JsonParser;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.ByteArrayOutputStream;
import java.io.InputStream;
import java.lang.reflect.Method;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Collection;
import java.util.HexFormat;
import java.util.List;
import org.apache.kafka.common.Uuid;
import org.apache.kafka.common.compress.Compression;
import org.apache.kafka.common.message.RequestHeaderData;
import org.apache.kafka.common.message.ResponseHeaderData;
import org.apache.kafka.common.protocol.ApiKeys;
import org.apache.kafka.common.protocol.ByteBufferAccessor;
import org.apache.kafka.common.protocol.Message;
import org.apache.kafka.common.protocol.ObjectSerializationCache;
import org.apache.kafka.common.record.internal.MemoryRecords;
import org.apache.kafka.common.record.internal.SimpleRecord;

/** Fills Kafka's message classes by their own definitions and writes the bytes they make (see README.md). */
public final class WireGolden {
    private static final List<ApiKeys> APIS = List.of(
        ApiKeys.ALTER_CONFIGS,
        ApiKeys.ALTER_PARTITION_REASSIGNMENTS,
        ApiKeys.API_VERSIONS,
        ApiKeys.CREATE_PARTITIONS,
        ApiKeys.CREATE_TOPICS,
        ApiKeys.DELETE_GROUPS,
        ApiKeys.DELETE_RECORDS,
        ApiKeys.DELETE_TOPICS,
        ApiKeys.DESCRIBE_CLUSTER,
        ApiKeys.DESCRIBE_CONFIGS,
        ApiKeys.DESCRIBE_GROUPS,
        ApiKeys.DESCRIBE_LOG_DIRS,
        ApiKeys.DESCRIBE_PRODUCERS,
        ApiKeys.DESCRIBE_QUORUM,
        ApiKeys.DESCRIBE_TOPIC_PARTITIONS,
        ApiKeys.ELECT_LEADERS,
        ApiKeys.FETCH,
        ApiKeys.FIND_COORDINATOR,
        ApiKeys.HEARTBEAT,
        ApiKeys.INCREMENTAL_ALTER_CONFIGS,
        ApiKeys.INIT_PRODUCER_ID,
        ApiKeys.JOIN_GROUP,
        ApiKeys.LEAVE_GROUP,
        ApiKeys.LIST_CONFIG_RESOURCES,
        ApiKeys.LIST_GROUPS,
        ApiKeys.LIST_OFFSETS,
        ApiKeys.LIST_PARTITION_REASSIGNMENTS,
        ApiKeys.METADATA,
        ApiKeys.OFFSET_COMMIT,
        ApiKeys.OFFSET_DELETE,
        ApiKeys.OFFSET_FETCH,
        ApiKeys.OFFSET_FOR_LEADER_EPOCH,
        ApiKeys.PRODUCE,
        ApiKeys.SYNC_GROUP);
    private static final ObjectMapper JSON = new ObjectMapper().configure(JsonParser.Feature.ALLOW_COMMENTS, true);
    private static final HexFormat HEX = HexFormat.of();

    private enum Shape { FULL, NULL, EMPTY }

    private final short version;
    private final Shape shape;
    private int counter;

    private final JsonNode schema;

    private WireGolden(short version, Shape shape, JsonNode schema) {
        this.version = version;
        this.shape = shape;
        this.schema = schema;
    }

    /** The fields of a struct that several fields of a message have. */
    private JsonNode common(String type) {
        for (JsonNode struct : schema.get("commonStructs")) {
            if (struct.get("name").asText().equals(type)) {
                return struct.get("fields");
            }
        }
        throw new IllegalStateException("no struct " + type);
    }

    public static void main(String[] arguments) throws Exception {
        for (ApiKeys api : APIS) {
            List<String> lines = new ArrayList<>();
            for (String kind : List.of("Request", "Response")) {
                JsonNode schema = schema(api.name + kind);
                // Without versions that Kafka itself calls unstable.
                short latest = api.latestVersion(false);
                for (short version = api.oldestVersion(); version <= latest; version++) {
                    for (Shape shape : Shape.values()) {
                        lines.add(line(api, kind, schema, version, shape));
                    }
                }
            }
            String file = api.name.replaceAll("(?<=.)([A-Z])", "_$1").toLowerCase() + ".txt";
            Files.writeString(Path.of(arguments[0], file), String.join("\n", lines) + "\n");
        }
    }

    private static String line(ApiKeys api, String kind, JsonNode schema, short version, Shape shape) throws Exception {
        Class<?> type = Class.forName("org.apache.kafka.common.message." + schema.get("name").asText() + "Data");
        ObjectNode json = JSON.createObjectNode();
        Message body = (Message) type.getConstructor().newInstance();
        new WireGolden(version, shape, schema).fill(body, type.getName(), schema.get("fields"), json);
        int correlationId = 1000 * api.id + version;
        byte[] header = kind.equals("Request")
            ? bytes(new RequestHeaderData().setRequestApiKey(api.id).setRequestApiVersion(version)
                .setCorrelationId(correlationId).setClientId(shape == Shape.NULL ? null : "golden"),
                api.requestHeaderVersion(version))
            : bytes(new ResponseHeaderData().setCorrelationId(correlationId), api.responseHeaderVersion(version));
        return String.join(" ", kind.toLowerCase(), Short.toString(version), shape.toString().toLowerCase(),
            HEX.formatHex(header) + HEX.formatHex(bytes(body, version)), JSON.writeValueAsString(json));
    }

    private static byte[] bytes(Message message, short version) {
        ObjectSerializationCache cache = new ObjectSerializationCache();
        ByteBuffer buffer = ByteBuffer.allocate(message.size(cache, version));
        message.write(new ByteBufferAccessor(buffer), cache, version);
        return buffer.array();
    }

    private static JsonNode schema(String name) throws Exception {
        try (InputStream in = WireGolden.class.getResourceAsStream("/common/message/" + name + ".json")) {
            return JSON.readTree(in);
        }
    }

    /** Sets the fields that exist in this version and notes their values. */
    private void fill(Object struct, String outer, JsonNode fields, ObjectNode json) throws Exception {
        for (JsonNode field : fields) {
            boolean tagged = field.has("tag");
            if (!within(field.get("versions").asText()) || tagged && !within(field.get("taggedVersions").asText())) {
                continue;
            }
            if (tagged && shape != Shape.FULL) {
                continue;
            }
            String name = field.get("name").asText();
            boolean nullable = field.has("nullableVersions") && within(field.get("nullableVersions").asText());
            Object value = nullable && shape == Shape.NULL ? null : value(field, struct, outer, json);
            if (value == null) {
                json.putNull(camel(name));
            }
            setter(struct.getClass(), name).invoke(struct, value);
        }
    }

    private Object value(JsonNode field, Object struct, String outer, ObjectNode json) throws Exception {
        String name = field.get("name").asText();
        String key = camel(name);
        String type = field.get("type").asText();
        if (!type.startsWith("[]")) {
            return scalar(type, name, field, outer, json, key);
        }
        Class<?> parameter = setter(struct.getClass(), name).getParameterTypes()[0];
        @SuppressWarnings("unchecked")
        Collection<Object> elements = parameter == List.class
            ? new ArrayList<>() : (Collection<Object>) parameter.getConstructor().newInstance();
        ArrayNode noted = JSON.createArrayNode();
        int count = shape == Shape.EMPTY ? 0 : 2;
        for (int i = 0; i < count; i++) {
            ObjectNode holder = JSON.createObjectNode();
            elements.add(scalar(type.substring(2), name, field, outer, holder, "element"));
            noted.add(holder.get("element"));
        }
        json.set(key, noted);
        return elements;
    }

    private Object scalar(String type, String name, JsonNode field, String outer, ObjectNode json, String key)
        throws Exception {
        counter++;
        switch (type) {
            case "bool":
                boolean yes = counter % 2 == 1 || field.has("tag");
                json.put(key, yes);
                return yes;
            case "int8":
                json.put(key, (byte) (counter % 3));
                return (byte) (counter % 3);
            case "int16":
                // Error codes stay within those that exist; other numbers use their sign and high byte.
                short small = (short) (name.endsWith("ErrorCode") ? 1 + counter % 130 : -300 - counter);
                json.put(key, small);
                return small;
            case "uint16":
                json.put(key, 0xF000 + counter);
                return 0xF000 + counter;
            case "int32":
                int medium = 0x01020300 * (counter % 2 == 0 ? 1 : -1) + counter;
                json.put(key, medium);
                return medium;
            case "int64":
                long large = 0x0102030405060700L * (counter % 2 == 0 ? 1 : -1) + counter;
                json.put(key, large);
                return large;
            case "uuid":
                Uuid uuid = new Uuid(0x0011223344556677L + counter, 0x8899aabbccddeeffL - counter);
                json.put(key, String.format("%016x%016x", uuid.getMostSignificantBits(),
                    uuid.getLeastSignificantBits()));
                return uuid;
            case "string":
                String text = shape == Shape.EMPTY ? "" : camel(name) + "-ż" + counter;
                json.put(key, text);
                return text;
            case "bytes":
                byte[] blob = shape == Shape.EMPTY ? new byte[0] : new byte[] {(byte) counter, 0, -1};
                json.put(key, HEX.formatHex(blob));
                return blob;
            case "records":
                MemoryRecords records = shape == Shape.EMPTY ? MemoryRecords.EMPTY : batch(counter);
                ByteBuffer buffer = records.buffer();
                byte[] content = new byte[buffer.remaining()];
                buffer.duplicate().get(content);
                json.put(key, HEX.formatHex(content));
                return records;
            default:
                Class<?> structType = Class.forName(outer + "$" + type);
                Object struct = structType.getConstructor().newInstance();
                ObjectNode inner = json.putObject(key);
                fill(struct, outer, field.has("fields") ? field.get("fields") : common(type), inner);
                return struct;
        }
    }

    private static MemoryRecords batch(int number) {
        byte[] value = ("value-" + number).getBytes(StandardCharsets.UTF_8);
        return MemoryRecords.withRecords(Compression.NONE,
            new SimpleRecord(1_700_000_000_000L + number, "key".getBytes(StandardCharsets.UTF_8), value),
            new SimpleRecord(1_700_000_000_001L + number, null, value));
    }

    private static Method setter(Class<?> type, String name) {
        String setter = "set" + Character.toUpperCase(name.charAt(0)) + name.substring(1);
        for (Method method : type.getMethods()) {
            if (method.getName().equals(setter)) {
                return method;
            }
        }
        throw new IllegalStateException(type + " has no " + setter);
    }

    private static String camel(String name) {
        return Character.toLowerCase(name.charAt(0)) + name.substring(1);
    }

    /** Whether this version is in a range like "0+", "3-5" or "7". */
    private boolean within(String range) {
        if (range.endsWith("+")) {
            return version >= Short.parseShort(range.substring(0, range.length() - 1));
        }
        String[] ends = range.split("-");
        return version >= Short.parseShort(ends[0]) && version <= Short.parseShort(ends[ends.length - 1]);
    }
}
