// KafkaJS: its own codecs are none and gzip. It reads by group only, so it seeks in one of its own.
import assert from 'node:assert'
import { readFileSync } from 'node:fs'
import kafkajs from 'kafkajs'

const { Kafka, CompressionTypes, ConfigResourceTypes, logLevel } = kafkajs
const kafka = new Kafka({ brokers: [process.env.BROKER], clientId: 'matrix', logLevel: logLevel.ERROR })
const admin = kafka.admin()
await admin.connect()
const lines = readFileSync(process.env.INPUT, 'utf8').split('\n').slice(0, 2000)

for (const [codec, compression] of [['none', CompressionTypes.None], ['gzip', CompressionTypes.GZIP]]) {
  for (const [acks, idempotent] of [[0, false], [1, false], [-1, false], [-1, true]]) {
    const topic = `kafkajs-${codec}-${acks}-${idempotent}`
    await admin.createTopics({ topics: [{ topic, numPartitions: 2, replicationFactor: 1, configEntries: [{ name: 'retention.ms', value: '86400000' }] }] })
    const told = await admin.describeConfigs({ resources: [{ type: ConfigResourceTypes.TOPIC, name: topic }], includeSynonyms: true })
    const value = (rows, name) => rows.resources[0].configEntries.find(e => e.configName === name).configValue
    assert.equal(value(told, 'retention.ms'), '86400000')
    await admin.alterConfigs({ resources: [{ type: ConfigResourceTypes.TOPIC, name: topic, configEntries: [{ name: 'retention.ms', value: '7200000' }] }] })
    await admin.createPartitions({ topicPartitions: [{ topic, count: 3 }] })
    assert.equal((await admin.fetchTopicMetadata({ topics: [topic] })).topics[0].partitions.length, 3)

    const producer = kafka.producer({ idempotent, maxInFlightRequests: idempotent ? 1 : undefined })
    await producer.connect()
    const messages = lines.map((value, n) => ({ key: value.split(' ')[0], value, headers: { n: String(n) } }))
    for (let at = 0; at < messages.length; at += 500) {
      await producer.send({ topic, acks, compression, messages: messages.slice(at, at + 500) })
    }
    await producer.disconnect()
    for (let attempt = 0; ; attempt++) {
      const ends = (await admin.fetchTopicOffsets(topic)).reduce((sum, p) => sum + Number(p.high), 0)
      if (ends === lines.length) break
      assert(attempt < 100, `${ends} of ${lines.length} records`)
      await new Promise(resolve => setTimeout(resolve, 50))
    }
    await admin.deleteTopics({ topics: [topic] })
  }
}

// Everything back, once, by a group.
const topic = 'kafkajs-read'
await admin.createTopics({ topics: [{ topic, numPartitions: 3 }] })
const producer = kafka.producer()
await producer.connect()
await producer.send({ topic, messages: lines.map((value, n) => ({ key: value.split(' ')[0], value, headers: { n: String(n) } })) })
const consumer = kafka.consumer({ groupId: `kafkajs-${Date.now()}` })
await consumer.connect()
await consumer.subscribe({ topic, fromBeginning: true })
const read = []
await new Promise((resolve, reject) => {
  setTimeout(() => reject(new Error(`${read.length} read`)), 45000).unref()
  consumer.run({ eachMessage: async ({ message }) => {
    read.push([Number(message.headers.n.toString()), message.value.toString()])
    if (read.length === lines.length) resolve()
  } })
})
await consumer.disconnect()
read.sort((a, b) => a[0] - b[0])
assert.deepEqual(read.map(row => row[1]), lines)
await admin.deleteTopics({ topics: [topic] })
await producer.disconnect()
await admin.disconnect()
console.log('passed')
