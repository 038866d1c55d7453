// Sarama, at the newest Kafka version that it knows.
package main

import (
	"context"
	"strconv"
	"sync"
	"time"

	"github.com/IBM/sarama"
)

func number(message *sarama.ConsumerMessage) int {
	number, err := strconv.Atoi(string(message.Headers[0].Value))
	must(err)
	return number
}

func produce(sent []string, name string, config *sarama.Config) {
	producer, err := sarama.NewSyncProducer([]string{broker}, config)
	must(err)
	var messages []*sarama.ProducerMessage
	for number, line := range sent {
		messages = append(messages, &sarama.ProducerMessage{Topic: name, Timestamp: timeOf(number),
			Key: sarama.StringEncoder(key(line)), Value: sarama.StringEncoder(line),
			Headers: []sarama.RecordHeader{{Key: []byte("n"), Value: []byte(strconv.Itoa(number))}}})
	}
	must(producer.SendMessages(messages))
	must(producer.Close())
}

func receive(name string, from <-chan *sarama.ConsumerMessage) *sarama.ConsumerMessage {
	select {
	case message := <-from:
		return message
	case <-time.After(20 * time.Second):
		check(false, name, "nothing comes")
		return nil
	}
}

// Reads one partition from an offset until seen says that it is enough.
func from(name string, consumer sarama.Consumer, offset int64, seen func(*sarama.ConsumerMessage) bool) {
	reader, err := consumer.ConsumePartition(name, 0, offset)
	must(err)
	for !seen(receive(name, reader.Messages())) {
	}
	must(reader.Close())
}

func run(client sarama.Client, admin sarama.ClusterAdmin, sent []string, name string, config *sarama.Config) {
	must(admin.CreateTopic(name, &sarama.TopicDetail{NumPartitions: 2, ReplicationFactor: 1,
		ConfigEntries: map[string]*string{"retention.ms": &day}}, false))
	must(admin.IncrementalAlterConfig(sarama.TopicResource, name, map[string]sarama.IncrementalAlterConfigsEntry{
		"flush.ms": {Operation: sarama.IncrementalAlterConfigsOperationSet, Value: &day}}, false))
	entries, err := admin.DescribeConfig(sarama.ConfigResource{Type: sarama.TopicResource, Name: name})
	must(err)
	check(len(entries) > 30, "configs")
	for _, entry := range entries {
		set := entry.Name == "flush.ms" || entry.Name == "retention.ms"
		check(!set || entry.Value == day, entry)
	}
	must(admin.CreatePartitions(name, partitions, nil, false))
	produce(sent, name, config)

	consumer, err := sarama.NewConsumer([]string{broker}, config)
	must(err)
	read := make(map[int]string)
	out := make(chan *sarama.ConsumerMessage)
	var readers []sarama.PartitionConsumer
	for partition := int32(0); partition < partitions; partition++ {
		reader, err := consumer.ConsumePartition(name, partition, sarama.OffsetOldest)
		must(err)
		readers = append(readers, reader)
		go func() {
			for message := range reader.Messages() {
				out <- message
			}
		}()
	}
	for len(read) < len(sent) {
		message := receive(name, out)
		read[number(message)] = string(message.Value)
	}
	compare(name, sent, read)
	for _, reader := range readers {
		must(reader.Close())
	}

	must(client.RefreshMetadata(name))
	end, err := client.GetOffset(name, 0, sarama.OffsetNewest)
	must(err)
	middle := end / 2
	from(name, consumer, middle, func(message *sarama.ConsumerMessage) bool {
		check(message.Offset == middle, name, "offset", message.Offset)
		return true
	})
	half := len(sent) / 2
	place, err := client.GetOffset(name, 0, timeOf(half).UnixMilli())
	must(err)
	check(place > 0, name, "time", place)
	from(name, consumer, place-1, func(message *sarama.ConsumerMessage) bool {
		check((message.Offset >= place) == (number(message) >= half), name, "time", message.Offset, place)
		return message.Offset >= place
	})
	must(consumer.Close())

	must(admin.DeleteRecords(name, map[int32]int64{0: middle}))
	low, err := client.GetOffset(name, 0, sarama.OffsetOldest)
	must(err)
	check(low == middle, name, "start", low)
	must(admin.DeleteTopic(name))
}

// What a member of a group does: it hands on what it reads, and commits it.
type member struct {
	lock  sync.Mutex
	read  map[int]string
	total int
	done  func()
}

func (*member) Setup(sarama.ConsumerGroupSession) error   { return nil }
func (*member) Cleanup(sarama.ConsumerGroupSession) error { return nil }

func (m *member) ConsumeClaim(session sarama.ConsumerGroupSession, claim sarama.ConsumerGroupClaim) error {
	for message := range claim.Messages() {
		m.lock.Lock()
		m.read[number(message)] = string(message.Value)
		enough := len(m.read) == m.total
		m.lock.Unlock()
		session.MarkMessage(message, "")
		if enough {
			m.done()
		}
	}
	return nil
}

func byGroup(admin sarama.ClusterAdmin, sent []string, config *sarama.Config) {
	name := "sarama-group"
	must(admin.CreateTopic(name, &sarama.TopicDetail{NumPartitions: partitions, ReplicationFactor: 1}, false))
	produce(sent, name, config)
	config.Consumer.Offsets.Initial = sarama.OffsetOldest
	group, err := sarama.NewConsumerGroup([]string{broker}, "sarama", config)
	must(err)
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	reader := &member{read: make(map[int]string), total: len(sent), done: cancel}
	for ctx.Err() == nil {
		must(group.Consume(ctx, []string{name}, reader))
	}
	// It commits what is marked when it leaves.
	must(group.Close())
	compare(name, sent, reader.read)
	committed, err := admin.ListConsumerGroupOffsets("sarama", map[string][]int32{name: {0, 1, 2}})
	must(err)
	sum := int64(0)
	for _, block := range committed.Blocks[name] {
		sum += max(block.Offset, 0)
	}
	check(sum == int64(len(sent)), "committed", sum)
	must(admin.DeleteConsumerGroup("sarama"))
	must(admin.DeleteTopic(name))
}

func main() {
	config := func() *sarama.Config {
		config := sarama.NewConfig()
		config.Version = sarama.MaxVersion
		config.Producer.Return.Successes = true
		return config
	}
	client, err := sarama.NewClient([]string{broker}, config())
	must(err)
	admin, err := sarama.NewClusterAdminFromClient(client)
	must(err)
	sent := lines()
	codecs := map[string]sarama.CompressionCodec{"none": sarama.CompressionNone, "gzip": sarama.CompressionGZIP,
		"snappy": sarama.CompressionSnappy, "lz4": sarama.CompressionLZ4, "zstd": sarama.CompressionZSTD}
	acks := map[string]sarama.RequiredAcks{"0": sarama.NoResponse, "1": sarama.WaitForLocal, "all": sarama.WaitForAll}
	for codec, compression := range codecs {
		for ack, required := range acks {
			one := config()
			one.Producer.Compression, one.Producer.RequiredAcks = compression, required
			run(client, admin, sent, "sarama-"+codec+"-"+ack, one)
		}
		one := config()
		one.Producer.Compression, one.Producer.RequiredAcks = compression, sarama.WaitForAll
		one.Producer.Idempotent, one.Net.MaxOpenRequests = true, 1
		run(client, admin, sent, "sarama-"+codec+"-idempotent", one)
	}
	byGroup(admin, sent, config())
	did("create", "describe", "alter", "acks", "codecs", "idempotence", "headers",
		"assign", "offset", "time", "group", "delete-records", "delete")
}
