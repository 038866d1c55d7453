// Sarama, at the newest Kafka version that it knows.
package main

import (
	"bufio"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/IBM/sarama"
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

func run(admin sarama.ClusterAdmin, sent []string, name string, config *sarama.Config) {
	brokers := []string{os.Getenv("BROKER")}
	day := "86400000"
	must(admin.CreateTopic(name, &sarama.TopicDetail{NumPartitions: 2, ReplicationFactor: 1,
		ConfigEntries: map[string]*string{"retention.ms": &day}}, false))
	must(admin.IncrementalAlterConfig(sarama.TopicResource, name, map[string]sarama.IncrementalAlterConfigsEntry{
		"flush.ms": {Operation: sarama.IncrementalAlterConfigsOperationSet, Value: &day}}, false))
	entries, err := admin.DescribeConfig(sarama.ConfigResource{Type: sarama.TopicResource, Name: name})
	must(err)
	check(len(entries) > 30, "configs")
	must(admin.CreatePartitions(name, 3, nil, false))

	producer, err := sarama.NewSyncProducer(brokers, config)
	must(err)
	var messages []*sarama.ProducerMessage
	for number, line := range sent {
		messages = append(messages, &sarama.ProducerMessage{Topic: name,
			Key: sarama.StringEncoder(strings.SplitN(line, " ", 2)[0]), Value: sarama.StringEncoder(line),
			Headers: []sarama.RecordHeader{{Key: []byte("n"), Value: []byte(strconv.Itoa(number))}}})
	}
	must(producer.SendMessages(messages))
	must(producer.Close())

	consumer, err := sarama.NewConsumer(brokers, config)
	must(err)
	read := make(map[int]string)
	out := make(chan *sarama.ConsumerMessage)
	for partition := int32(0); partition < 3; partition++ {
		reader, err := consumer.ConsumePartition(name, partition, sarama.OffsetOldest)
		must(err)
		go func() {
			for message := range reader.Messages() {
				out <- message
			}
		}()
	}
	for len(read) < len(sent) {
		select {
		case message := <-out:
			number, err := strconv.Atoi(string(message.Headers[0].Value))
			must(err)
			read[number] = string(message.Value)
		case <-time.After(20 * time.Second):
			check(false, name, len(read), "read")
		}
	}
	for number, line := range sent {
		check(read[number] == line, "record", number)
	}
	must(admin.DeleteTopic(name))
}

func main() {
	config := func() *sarama.Config {
		config := sarama.NewConfig()
		config.Version = sarama.MaxVersion
		config.Producer.Return.Successes = true
		return config
	}
	admin, err := sarama.NewClusterAdmin([]string{os.Getenv("BROKER")}, config())
	must(err)
	sent := lines()
	codecs := map[string]sarama.CompressionCodec{"none": sarama.CompressionNone, "gzip": sarama.CompressionGZIP,
		"snappy": sarama.CompressionSnappy, "lz4": sarama.CompressionLZ4, "zstd": sarama.CompressionZSTD}
	acks := map[string]sarama.RequiredAcks{"0": sarama.NoResponse, "1": sarama.WaitForLocal, "all": sarama.WaitForAll}
	for codec, compression := range codecs {
		for ack, required := range acks {
			one := config()
			one.Producer.Compression, one.Producer.RequiredAcks = compression, required
			run(admin, sent, "sarama-"+codec+"-"+ack, one)
		}
		one := config()
		one.Producer.Compression, one.Producer.RequiredAcks = compression, sarama.WaitForAll
		one.Producer.Idempotent, one.Net.MaxOpenRequests = true, 1
		run(admin, sent, "sarama-"+codec+"-idempotent", one)
	}
	fmt.Println("passed")
}
