import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HexFormat;
import java.util.List;
import org.apache.kafka.common.Uuid;
import org.apache.kafka.common.protocol.ApiMessage;
import org.apache.kafka.coordinator.common.runtime.CoordinatorRecord;
import org.apache.kafka.coordinator.group.GroupCoordinatorRecordSerde;
import org.apache.kafka.coordinator.group.generated.GroupMetadataKey;
import org.apache.kafka.coordinator.group.generated.GroupMetadataValue;
import org.apache.kafka.coordinator.group.generated.OffsetCommitKey;
import org.apache.kafka.coordinator.group.generated.OffsetCommitValue;
import org.apache.kafka.server.common.ApiMessageAndVersion;

/** Writes records of __consumer_offsets as Kafka's own coordinator serialises them (see README.md). */
public final class GroupGolden {
    private static final HexFormat HEX = HexFormat.of();
    private static final GroupCoordinatorRecordSerde SERDE = new GroupCoordinatorRecordSerde();
    private final List<String> lines = new ArrayList<>();

    public static void main(String[] arguments) throws Exception {
        GroupGolden golden = new GroupGolden();
        for (short version = 0; version <= 4; version++) {
            golden.offset(version);
            golden.group(version, true);
            golden.group(version, false);
        }
        golden.line("offset-tombstone", -1, offsetKey(), null);
        golden.line("group-tombstone", -1, groupKey(), null);
        Files.writeString(Path.of(arguments[0], "records.txt"), String.join("\n", golden.lines) + "\n");
    }

    private static OffsetCommitKey offsetKey() {
        return new OffsetCommitKey().setGroup("zamówienia").setTopic("web-access").setPartition(7);
    }

    private static GroupMetadataKey groupKey() {
        return new GroupMetadataKey().setGroup("zamówienia");
    }

    private void offset(short version) {
        OffsetCommitValue value = new OffsetCommitValue()
            .setOffset(123_456_789_012L)
            .setLeaderEpoch(5)
            .setMetadata("nota bene: żółw")
            .setCommitTimestamp(1_700_000_000_123L)
            .setExpireTimestamp(version == 1 ? 1_700_000_600_123L : -1)
            .setTopicId(new Uuid(0x0011223344556677L, 0x8899aabbccddeeffL));
        line("offset", version, offsetKey(), value);
    }

    private void group(short version, boolean members) {
        GroupMetadataValue value = new GroupMetadataValue()
            .setProtocolType(members ? "consumer" : "")
            .setGeneration(members ? 17 : 0)
            .setProtocol(members ? "range" : null)
            .setLeader(members ? "one-1" : null)
            .setCurrentStateTimestamp(1_700_000_000_321L)
            .setMembers(members ? List.of(
                member("one-1", null, new byte[] {0, 1, 2}, new byte[] {3, 4}),
                member("two-2", "two", new byte[0], new byte[] {5})) : List.of());
        line(members ? "group" : "group-empty", version, groupKey(), value);
    }

    private static GroupMetadataValue.MemberMetadata member(
        String id, String instance, byte[] subscription, byte[] assignment) {
        return new GroupMetadataValue.MemberMetadata()
            .setMemberId(id)
            .setGroupInstanceId(instance)
            .setClientId("client")
            .setClientHost("/127.0.0.1")
            .setRebalanceTimeout(60_000)
            .setSessionTimeout(45_000)
            .setSubscription(subscription)
            .setAssignment(assignment);
    }

    private void line(String name, int version, ApiMessage key, ApiMessage value) {
        CoordinatorRecord record = value == null
            ? CoordinatorRecord.tombstone(key)
            : CoordinatorRecord.record(key, new ApiMessageAndVersion(value, (short) version));
        byte[] bytes = SERDE.serializeValue(record);
        lines.add(String.join(" ", name, Integer.toString(version), HEX.formatHex(SERDE.serializeKey(record)),
            bytes == null ? "-" : HEX.formatHex(bytes)));
    }
}
