// franz-go with its admin client.
package main

import (
	"context"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

func number(record *kgo.Record) int {
	number, err := strconv.Atoi(string(record.Headers[0].Value))
	must(err)
	return number
}

func produce(ctx context.Context, sent []string, name string, options ...kgo.Opt) {
	client, err := kgo.NewClient(append(options, kgo.SeedBrokers(broker), kgo.DefaultProduceTopic(name))...)
	must(err)
	for number, line := range sent {
		record := &kgo.Record{Key: []byte(key(line)), Value: []byte(line), Timestamp: timeOf(number)}
		record.Headers = []kgo.RecordHeader{{Key: "n", Value: []byte(strconv.Itoa(number))}}
		client.Produce(ctx, record, func(_ *kgo.Record, err error) { must(err) })
	}
	must(client.Flush(ctx))
	client.Close()
}

// Polls until seen says that it is enough.
func poll(ctx context.Context, name string, reader *kgo.Client, seen func(*kgo.Record) bool) {
	for enough := false; !enough; {
		fetches := reader.PollFetches(ctx)
		check(ctx.Err() == nil && len(fetches.Errors()) == 0, name, fetches.Errors(), ctx.Err())
		fetches.EachRecord(func(record *kgo.Record) { enough = seen(record) || enough })
	}
}

func assign(name string, offsets map[int32]kgo.Offset) *kgo.Client {
	reader, err := kgo.NewClient(kgo.SeedBrokers(broker),
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{name: offsets}))
	must(err)
	return reader
}

func everything(ctx context.Context, name string, reader *kgo.Client, sent []string) {
	read := make(map[int]string)
	poll(ctx, name, reader, func(record *kgo.Record) bool {
		read[number(record)] = string(record.Value)
		return len(read) == len(sent)
	})
	compare(name, sent, read)
}

func run(ctx context.Context, adm *kadm.Client, sent []string, name string, options ...kgo.Opt) {
	_, err := adm.CreateTopic(ctx, 2, 1, map[string]*string{"retention.ms": &day}, name)
	must(err)
	_, err = adm.AlterTopicConfigs(ctx, []kadm.AlterConfig{{Op: kadm.SetConfig, Name: "flush.ms", Value: &day}}, name)
	must(err)
	configs, err := adm.DescribeTopicConfigs(ctx, name)
	must(err)
	check(len(configs) == 1 && len(configs[0].Configs) > 30, "configs")
	for _, config := range configs[0].Configs {
		set := config.Key == "flush.ms" || config.Key == "retention.ms"
		check(!set || config.MaybeValue() == day, config)
	}
	grown, err := adm.UpdatePartitions(ctx, partitions, name)
	must(err)
	must(grown.Error())
	produce(ctx, sent, name, options...)

	start := kgo.NewOffset().AtStart()
	reader := assign(name, map[int32]kgo.Offset{0: start, 1: start, 2: start})
	everything(ctx, name, reader, sent)
	reader.Close()

	ends, err := adm.ListEndOffsets(ctx, name)
	must(err)
	end, _ := ends.Lookup(name, 0)
	middle := end.Offset / 2
	reader = assign(name, map[int32]kgo.Offset{0: kgo.NewOffset().At(middle)})
	next := int64(-1)
	poll(ctx, name, reader, func(record *kgo.Record) bool {
		if next < 0 {
			next = record.Offset
		}
		return true
	})
	reader.Close()
	check(next == middle, name, "offset", middle, "gave", next)

	half := len(sent) / 2
	found, err := adm.ListOffsetsAfterMilli(ctx, timeOf(half).UnixMilli(), name)
	must(err)
	place, _ := found.Lookup(name, 0)
	check(place.Err == nil && place.Offset > 0, name, "time", place)
	reader = assign(name, map[int32]kgo.Offset{0: kgo.NewOffset().At(place.Offset - 1)})
	poll(ctx, name, reader, func(record *kgo.Record) bool {
		check((record.Offset >= place.Offset) == (number(record) >= half), name, "time", record.Offset, place)
		return record.Offset >= place.Offset
	})
	reader.Close()

	cut := kadm.Offsets{}
	cut.AddOffset(name, 0, middle, -1)
	deleted, err := adm.DeleteRecords(ctx, cut)
	must(err)
	must(deleted.Error())
	starts, err := adm.ListStartOffsets(ctx, name)
	must(err)
	low, _ := starts.Lookup(name, 0)
	check(low.Offset == middle, name, "start", low.Offset)
	gone, err := adm.DeleteTopics(ctx, name)
	must(err)
	must(gone.Error())
}

func byGroup(ctx context.Context, adm *kadm.Client, sent []string) {
	name := "franz-group"
	_, err := adm.CreateTopic(ctx, partitions, 1, nil, name)
	must(err)
	produce(ctx, sent, name)
	reader, err := kgo.NewClient(kgo.SeedBrokers(broker), kgo.ConsumerGroup("franz"), kgo.ConsumeTopics(name),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.DisableAutoCommit())
	must(err)
	everything(ctx, name, reader, sent)
	must(reader.CommitUncommittedOffsets(ctx))
	reader.Close()
	committed, err := adm.FetchOffsets(ctx, "franz")
	must(err)
	var sum int64
	committed.Each(func(offset kadm.OffsetResponse) { sum += offset.At })
	check(sum == int64(len(sent)), "committed", sum)
	deleted, err := adm.DeleteGroups(ctx, "franz")
	must(err)
	must(deleted.Error())
	_, err = adm.DeleteTopics(ctx, name)
	must(err)
}

func main() {
	ctx, cancel := context.WithTimeout(context.Background(), 80*time.Second)
	defer cancel()
	client, err := kgo.NewClient(kgo.SeedBrokers(broker))
	must(err)
	adm := kadm.NewClient(client)
	sent := lines()
	codecs := map[string]kgo.CompressionCodec{
		"none": kgo.NoCompression(), "gzip": kgo.GzipCompression(), "snappy": kgo.SnappyCompression(),
		"lz4": kgo.Lz4Compression(), "zstd": kgo.ZstdCompression(),
	}
	for codec, compression := range codecs {
		with := kgo.ProducerBatchCompression(compression)
		run(ctx, adm, sent, "franz-"+codec+"-0", with, kgo.RequiredAcks(kgo.NoAck()), kgo.DisableIdempotentWrite())
		run(ctx, adm, sent, "franz-"+codec+"-1", with, kgo.RequiredAcks(kgo.LeaderAck()), kgo.DisableIdempotentWrite())
		run(ctx, adm, sent, "franz-"+codec+"-all", with, kgo.DisableIdempotentWrite())
		run(ctx, adm, sent, "franz-"+codec+"-idempotent", with)
	}
	byGroup(ctx, adm, sent)
	did("create", "describe", "alter", "acks", "codecs", "idempotence", "headers",
		"assign", "offset", "time", "group", "delete-records", "delete")
}
