// franz-go with its admin client.
package main

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

func must(err error) {
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
}

func check(good bool, what ...any) {
	if !good {
		fmt.Println(what...)
		os.Exit(1)
	}
}

func lines() []string {
	file, err := os.Open(os.Getenv("INPUT"))
	must(err)
	scanner := bufio.NewScanner(file)
	var all []string
	for scanner.Scan() && len(all) < 2000 {
		all = append(all, scanner.Text())
	}
	return all
}

func run(ctx context.Context, adm *kadm.Client, sent []string, name string, options ...kgo.Opt) {
	day := "86400000"
	_, err := adm.CreateTopic(ctx, 2, 1, map[string]*string{"retention.ms": &day}, name)
	must(err)
	_, err = adm.AlterTopicConfigs(ctx, []kadm.AlterConfig{{Op: kadm.SetConfig, Name: "flush.ms", Value: &day}}, name)
	must(err)
	configs, err := adm.DescribeTopicConfigs(ctx, name)
	must(err)
	check(len(configs) == 1 && len(configs[0].Configs) > 30, "configs")
	grown, err := adm.UpdatePartitions(ctx, 3, name)
	must(err)
	must(grown.Error())

	client, err := kgo.NewClient(append(options, kgo.SeedBrokers(os.Getenv("BROKER")), kgo.DefaultProduceTopic(name))...)
	must(err)
	for number, line := range sent {
		record := &kgo.Record{Key: []byte(strings.SplitN(line, " ", 2)[0]), Value: []byte(line)}
		record.Headers = []kgo.RecordHeader{{Key: "n", Value: []byte(strconv.Itoa(number))}}
		client.Produce(ctx, record, func(_ *kgo.Record, err error) { must(err) })
	}
	must(client.Flush(ctx))
	client.Close()

	start := map[int32]kgo.Offset{0: kgo.NewOffset().AtStart(), 1: kgo.NewOffset().AtStart(), 2: kgo.NewOffset().AtStart()}
	reader, err := kgo.NewClient(kgo.SeedBrokers(os.Getenv("BROKER")), kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{name: start}))
	must(err)
	read := make(map[int]string)
	for len(read) < len(sent) {
		fetches := reader.PollFetches(ctx)
		check(ctx.Err() == nil && len(fetches.Errors()) == 0, name, len(read), "read", fetches.Errors())
		fetches.EachRecord(func(record *kgo.Record) {
			number, err := strconv.Atoi(string(record.Headers[0].Value))
			must(err)
			read[number] = string(record.Value)
		})
	}
	for number, line := range sent {
		check(read[number] == line, "record", number)
	}
	reader.Close()
	_, err = adm.DeleteTopics(ctx, name)
	must(err)
}

func main() {
	ctx, cancel := context.WithTimeout(context.Background(), 80*time.Second)
	defer cancel()
	client, err := kgo.NewClient(kgo.SeedBrokers(os.Getenv("BROKER")))
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
	fmt.Println("passed")
}
