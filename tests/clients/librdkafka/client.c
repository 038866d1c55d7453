/* librdkafka itself, without a language between. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "rdkafka.h"

#define LINES 2000
#define PARTITIONS 3
#define PATIENCE 30000

static const char *broker;
static char *lines[LINES];
static int64_t first;
static int unacknowledged;

#define CHECK(good, ...)                                                                           \
    do {                                                                                           \
        if (!(good)) {                                                                             \
            printf("line %d: ", __LINE__);                                                         \
            printf(__VA_ARGS__);                                                                   \
            printf("\n");                                                                          \
            exit(1);                                                                               \
        }                                                                                          \
    } while (0)

#define OK(code)                                                                                   \
    do {                                                                                           \
        rd_kafka_resp_err_t code_ = (code);                                                        \
        CHECK(!code_, "%s", rd_kafka_err2str(code_));                                              \
    } while (0)

static void delivered(rd_kafka_t *rk, const rd_kafka_message_t *message, void *opaque) {
    (void)rk;
    (void)opaque;
    OK(message->err);
    unacknowledged--;
}

/* A client; the settings are pairs that end with NULL. */
static rd_kafka_t *client(rd_kafka_type_t type, const char **settings) {
    char why[512];
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    CHECK(!rd_kafka_conf_set(conf, "bootstrap.servers", broker, why, sizeof why), "%s", why);
    for (; *settings; settings += 2)
        CHECK(!rd_kafka_conf_set(conf, settings[0], settings[1], why, sizeof why), "%s", why);
    rd_kafka_conf_set_dr_msg_cb(conf, delivered);
    rd_kafka_t *rk = rd_kafka_new(type, conf, why, sizeof why);
    CHECK(rk, "%s", why);
    if (type == RD_KAFKA_CONSUMER)
        rd_kafka_poll_set_consumer(rk);
    return rk;
}

/* Waits for what an admin call answers. */
static rd_kafka_event_t *answer(rd_kafka_queue_t *queue) {
    rd_kafka_event_t *event = rd_kafka_queue_poll(queue, PATIENCE);
    CHECK(event, "no answer");
    CHECK(!rd_kafka_event_error(event), "%s", rd_kafka_event_error_string(event));
    return event;
}

static void create(rd_kafka_t *rk, rd_kafka_queue_t *queue, const char *name, int partitions) {
    char why[512];
    rd_kafka_NewTopic_t *topic = rd_kafka_NewTopic_new(name, partitions, 1, why, sizeof why);
    OK(rd_kafka_NewTopic_set_config(topic, "retention.ms", "86400000"));
    rd_kafka_CreateTopics(rk, &topic, 1, NULL, queue);
    rd_kafka_event_t *event = answer(queue);
    size_t count;
    const rd_kafka_topic_result_t **results =
        rd_kafka_CreateTopics_result_topics(rd_kafka_event_CreateTopics_result(event), &count);
    CHECK(count == 1, "%zu results", count);
    OK(rd_kafka_topic_result_error(results[0]));
    rd_kafka_event_destroy(event);
    rd_kafka_NewTopic_destroy(topic);
}

static void remove_topic(rd_kafka_t *rk, rd_kafka_queue_t *queue, const char *name) {
    rd_kafka_DeleteTopic_t *topic = rd_kafka_DeleteTopic_new(name);
    rd_kafka_DeleteTopics(rk, &topic, 1, NULL, queue);
    rd_kafka_event_t *event = answer(queue);
    size_t count;
    const rd_kafka_topic_result_t **results =
        rd_kafka_DeleteTopics_result_topics(rd_kafka_event_DeleteTopics_result(event), &count);
    CHECK(count == 1, "%zu results", count);
    OK(rd_kafka_topic_result_error(results[0]));
    rd_kafka_event_destroy(event);
    rd_kafka_DeleteTopic_destroy(topic);
}

/* The topic's retention is as it should be. */
static void expect_retention(rd_kafka_t *rk, rd_kafka_queue_t *queue, const char *name, const char *value) {
    rd_kafka_ConfigResource_t *resource = rd_kafka_ConfigResource_new(RD_KAFKA_RESOURCE_TOPIC, name);
    rd_kafka_DescribeConfigs(rk, &resource, 1, NULL, queue);
    rd_kafka_event_t *event = answer(queue);
    size_t count, entries;
    const rd_kafka_ConfigResource_t **results =
        rd_kafka_DescribeConfigs_result_resources(rd_kafka_event_DescribeConfigs_result(event), &count);
    CHECK(count == 1, "%zu results", count);
    OK(rd_kafka_ConfigResource_error(results[0]));
    const rd_kafka_ConfigEntry_t **configs = rd_kafka_ConfigResource_configs(results[0], &entries);
    CHECK(entries > 30, "%zu configs", entries);
    int found = 0;
    for (size_t i = 0; i < entries; i++)
        if (!strcmp(rd_kafka_ConfigEntry_name(configs[i]), "retention.ms"))
            found = !strcmp(rd_kafka_ConfigEntry_value(configs[i]), value);
    CHECK(found, "%s: retention.ms is not %s", name, value);
    rd_kafka_event_destroy(event);
    rd_kafka_ConfigResource_destroy(resource);
}

static void alter(rd_kafka_t *rk, rd_kafka_queue_t *queue, const char *name) {
    char why[512];
    rd_kafka_ConfigResource_t *resource = rd_kafka_ConfigResource_new(RD_KAFKA_RESOURCE_TOPIC, name);
    rd_kafka_error_t *error = rd_kafka_ConfigResource_add_incremental_config(
        resource, "retention.ms", RD_KAFKA_ALTER_CONFIG_OP_TYPE_SET, "7200000");
    CHECK(!error, "%s", rd_kafka_error_string(error));
    rd_kafka_IncrementalAlterConfigs(rk, &resource, 1, NULL, queue);
    rd_kafka_event_destroy(answer(queue));
    rd_kafka_ConfigResource_destroy(resource);
    expect_retention(rk, queue, name, "7200000");

    rd_kafka_NewPartitions_t *more = rd_kafka_NewPartitions_new(name, PARTITIONS, why, sizeof why);
    CHECK(more, "%s", why);
    rd_kafka_CreatePartitions(rk, &more, 1, NULL, queue);
    rd_kafka_event_destroy(answer(queue));
    rd_kafka_NewPartitions_destroy(more);
}

static void produce(const char *name, const char **settings) {
    rd_kafka_t *rk = client(RD_KAFKA_PRODUCER, settings);
    for (int n = 0; n < LINES; n++) {
        char number[16];
        snprintf(number, sizeof number, "%d", n);
        rd_kafka_resp_err_t code;
        do {
            code = rd_kafka_producev(
                rk, RD_KAFKA_V_TOPIC(name), RD_KAFKA_V_KEY(lines[n], strcspn(lines[n], " ")),
                RD_KAFKA_V_VALUE(lines[n], strlen(lines[n])), RD_KAFKA_V_TIMESTAMP(first + n),
                RD_KAFKA_V_HEADER("n", number, -1), RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_COPY),
                RD_KAFKA_V_END);
            rd_kafka_poll(rk, code == RD_KAFKA_RESP_ERR__QUEUE_FULL ? 100 : 0);
        } while (code == RD_KAFKA_RESP_ERR__QUEUE_FULL);
        OK(code);
        unacknowledged++;
    }
    OK(rd_kafka_flush(rk, PATIENCE));
    CHECK(unacknowledged == 0, "%s: %d not acknowledged", name, unacknowledged);
    rd_kafka_destroy(rk);
}

static rd_kafka_message_t *next(rd_kafka_t *rk) {
    for (int second = 0; second < 30; second++) {
        rd_kafka_message_t *message = rd_kafka_consumer_poll(rk, 1000);
        if (message) {
            OK(message->err);
            return message;
        }
    }
    CHECK(0, "nothing comes");
    return NULL;
}

/* The number of a record, of its header. */
static int number(const rd_kafka_message_t *message) {
    rd_kafka_headers_t *headers;
    const void *value;
    size_t size;
    OK(rd_kafka_message_headers(message, &headers));
    OK(rd_kafka_header_get_last(headers, "n", &value, &size));
    return atoi(value);
}

/* Reads every record, and compares it. */
static void everything(rd_kafka_t *rk) {
    char seen[LINES] = {0};
    for (int left = LINES; left > 0;) {
        rd_kafka_message_t *message = next(rk);
        int n = number(message);
        CHECK(n >= 0 && n < LINES && !seen[n], "record %d", n);
        CHECK(message->len == strlen(lines[n]) && !memcmp(message->payload, lines[n], message->len),
              "record %d differs", n);
        CHECK(message->key_len == strcspn(lines[n], " "), "key of %d", n);
        seen[n] = 1;
        left--;
        rd_kafka_message_destroy(message);
    }
}

static void assign(rd_kafka_t *rk, const char *name, int partitions, int64_t offset) {
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(partitions);
    for (int p = 0; p < partitions; p++)
        rd_kafka_topic_partition_list_add(list, name, p)->offset = offset;
    OK(rd_kafka_assign(rk, list));
    rd_kafka_topic_partition_list_destroy(list);
}

static void read_back(rd_kafka_t *admin, rd_kafka_queue_t *queue, const char *name) {
    /* A fetch that waits holds up what is asked after it on the same connection. */
    const char *settings[] = {"group.id", "unused", "enable.auto.commit", "false", "fetch.wait.max.ms", "50", NULL};
    rd_kafka_t *rk = client(RD_KAFKA_CONSUMER, settings);
    assign(rk, name, PARTITIONS, RD_KAFKA_OFFSET_BEGINNING);
    everything(rk);

    int64_t low, high;
    OK(rd_kafka_query_watermark_offsets(rk, name, 0, &low, &high, PATIENCE));
    int64_t middle = high / 2;
    assign(rk, name, 1, middle);
    rd_kafka_message_t *message = next(rk);
    CHECK(message->offset == middle, "%s: offset %lld", name, (long long)message->offset);
    rd_kafka_message_destroy(message);

    rd_kafka_topic_partition_list_t *times = rd_kafka_topic_partition_list_new(1);
    rd_kafka_topic_partition_list_add(times, name, 0)->offset = first + LINES / 2;
    OK(rd_kafka_offsets_for_times(rk, times, PATIENCE));
    int64_t place = times->elems[0].offset;
    CHECK(place > 0, "%s: time gave %lld", name, (long long)place);
    rd_kafka_topic_partition_list_destroy(times);
    assign(rk, name, 1, place - 1);
    for (int64_t at = place - 1; at <= place; at++) {
        message = next(rk);
        CHECK(message->offset == at && (at == place) == (number(message) >= LINES / 2),
              "%s: time gave %lld, %lld is %d", name, (long long)place, (long long)at, number(message));
        rd_kafka_message_destroy(message);
    }

    rd_kafka_topic_partition_list_t *cut = rd_kafka_topic_partition_list_new(1);
    rd_kafka_topic_partition_list_add(cut, name, 0)->offset = middle;
    rd_kafka_DeleteRecords_t *deletion = rd_kafka_DeleteRecords_new(cut);
    rd_kafka_DeleteRecords(admin, &deletion, 1, NULL, queue);
    rd_kafka_event_t *event = answer(queue);
    const rd_kafka_topic_partition_list_t *result =
        rd_kafka_DeleteRecords_result_offsets(rd_kafka_event_DeleteRecords_result(event));
    OK(result->elems[0].err);
    CHECK(result->elems[0].offset == middle, "low watermark %lld", (long long)result->elems[0].offset);
    rd_kafka_event_destroy(event);
    rd_kafka_DeleteRecords_destroy(deletion);
    rd_kafka_topic_partition_list_destroy(cut);
    OK(rd_kafka_query_watermark_offsets(rk, name, 0, &low, &high, PATIENCE));
    CHECK(low == middle, "%s: log start %lld", name, (long long)low);
    OK(rd_kafka_consumer_close(rk));
    rd_kafka_destroy(rk);
}

static void by_group(rd_kafka_t *admin, rd_kafka_queue_t *queue) {
    const char *name = "librdkafka-group";
    const char *none[] = {NULL};
    create(admin, queue, name, PARTITIONS);
    produce(name, none);
    const char *settings[] = {"group.id", "librdkafka", "auto.offset.reset", "earliest", "enable.auto.commit", "false", NULL};
    rd_kafka_t *rk = client(RD_KAFKA_CONSUMER, settings);
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(1);
    rd_kafka_topic_partition_list_add(list, name, RD_KAFKA_PARTITION_UA);
    OK(rd_kafka_subscribe(rk, list));
    rd_kafka_topic_partition_list_destroy(list);
    everything(rk);
    OK(rd_kafka_commit(rk, NULL, 0));
    list = rd_kafka_topic_partition_list_new(PARTITIONS);
    for (int p = 0; p < PARTITIONS; p++)
        rd_kafka_topic_partition_list_add(list, name, p);
    OK(rd_kafka_committed(rk, list, PATIENCE));
    int64_t sum = 0;
    for (int p = 0; p < PARTITIONS; p++)
        sum += list->elems[p].offset > 0 ? list->elems[p].offset : 0;
    CHECK(sum == LINES, "%lld committed", (long long)sum);
    rd_kafka_topic_partition_list_destroy(list);
    OK(rd_kafka_consumer_close(rk));
    rd_kafka_destroy(rk);

    rd_kafka_DeleteGroup_t *group = rd_kafka_DeleteGroup_new("librdkafka");
    rd_kafka_DeleteGroups(admin, &group, 1, NULL, queue);
    rd_kafka_event_t *event = answer(queue);
    size_t count;
    const rd_kafka_group_result_t **results =
        rd_kafka_DeleteGroups_result_groups(rd_kafka_event_DeleteGroups_result(event), &count);
    CHECK(count == 1 && !rd_kafka_group_result_error(results[0]), "the group is not deleted");
    rd_kafka_event_destroy(event);
    rd_kafka_DeleteGroup_destroy(group);
    remove_topic(admin, queue, name);
}

int main(void) {
    broker = getenv("BROKER");
    first = (int64_t)time(NULL) * 1000 - 3600000;
    FILE *input = fopen(getenv("INPUT"), "r");
    CHECK(input, "no input");
    for (int n = 0; n < LINES; n++) {
        size_t size = 0;
        CHECK(getline(&lines[n], &size, input) > 0, "the input is short");
        lines[n][strcspn(lines[n], "\n")] = 0;
    }
    fclose(input);
    const char *none[] = {NULL};
    rd_kafka_t *admin = client(RD_KAFKA_PRODUCER, none);
    rd_kafka_queue_t *queue = rd_kafka_queue_new(admin);
    const char *codecs[] = {"none", "gzip", "snappy", "lz4", "zstd"};
    const char *acks[] = {"0", "1", "all", "all"};
    for (int c = 0; c < 5; c++)
        for (int a = 0; a < 4; a++) {
            char name[64];
            const char *idempotent = a == 3 ? "true" : "false";
            snprintf(name, sizeof name, "librdkafka-%s-%s-%s", codecs[c], acks[a], idempotent);
            create(admin, queue, name, 2);
            expect_retention(admin, queue, name, "86400000");
            alter(admin, queue, name);
            const char *settings[] = {"compression.type", codecs[c], "acks", acks[a],
                                      "enable.idempotence", idempotent, NULL};
            produce(name, settings);
            read_back(admin, queue, name);
            remove_topic(admin, queue, name);
        }
    by_group(admin, queue);
    rd_kafka_queue_destroy(queue);
    rd_kafka_destroy(admin);
    const char *operations[] = {"create", "describe", "alter", "acks", "codecs", "idempotence", "headers",
                                "assign", "offset", "time", "group", "delete-records", "delete"};
    for (size_t i = 0; i < sizeof operations / sizeof *operations; i++)
        printf("did %s\n", operations[i]);
    return 0;
}
