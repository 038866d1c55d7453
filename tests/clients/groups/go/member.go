// A member with franz-go; see ../python/member_confluent.py.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

func say(words ...any) {
	fmt.Println(words...)
}

func main() {
	bootstrap, group, topic := os.Args[1], os.Args[2], os.Args[3]
	told := func(what string) func(context.Context, *kgo.Client, map[string][]int32) {
		return func(_ context.Context, _ *kgo.Client, partitions map[string][]int32) { say(what, partitions[topic]) }
	}
	options := []kgo.Opt{
		kgo.SeedBrokers(bootstrap), kgo.ConsumerGroup(group), kgo.ConsumeTopics(topic),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.DisableAutoCommit(), kgo.BlockRebalanceOnPoll(),
		kgo.SessionTimeout(6 * time.Second), kgo.HeartbeatInterval(500 * time.Millisecond),
		kgo.MetadataMaxAge(time.Second), kgo.MetadataMinAge(200 * time.Millisecond), kgo.FetchMaxWait(100 * time.Millisecond),
		kgo.OnPartitionsAssigned(told("assigned")), kgo.OnPartitionsRevoked(told("revoked")),
		kgo.OnPartitionsLost(told("lost")),
	}
	if slices.Contains(os.Args, "eager") {
		options = append(options, kgo.Balancers(kgo.RangeBalancer()))
	}
	client, err := kgo.NewClient(options...)
	if err != nil {
		panic(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	go func() {
		io.Copy(io.Discard, os.Stdin)
		stop()
	}()
	for ctx.Err() == nil {
		fetches := client.PollRecords(ctx, 10)
		fetches.EachRecord(func(record *kgo.Record) {
			say("takes", record.Partition, record.Offset)
			if err := client.CommitRecords(context.Background(), record); err != nil {
				say("uncommitted", record.Partition, record.Offset, err)
				return
			}
			say("read", record.Partition, record.Offset, string(record.Value))
		})
		client.AllowRebalance()
	}
	client.CloseAllowingRebalance()
	say("closed")
}
