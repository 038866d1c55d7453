// KafkaJS, with the packages that give it the codecs it has not. It reads by group only.
import assert from 'node:assert'
import { readFileSync } from 'node:fs'
import zstd from '@bokuweb/zstd-wasm'
import kafkajs from 'kafkajs'
import snappy from 'kafkajs-snappy'
import lz4 from 'lz4-napi'

const { Kafka, CompressionCodecs, CompressionTypes, ConfigResourceTypes, logLevel } = kafkajs
await zstd.init()
CompressionCodecs[CompressionTypes.Snappy] = snappy
CompressionCodecs[CompressionTypes.LZ4] = () => ({
  compress: encoder => lz4.compressFrame(encoder.buffer),
  decompress: buffer => lz4.decompressFrame(buffer),
})
CompressionCodecs[CompressionTypes.ZSTD] = () => ({
  compress: async encoder => Buffer.from(zstd.compress(encoder.buffer, 3)),
  decompress: async buffer => Buffer.from(zstd.decompress(buffer)),
})

const kafka = new Kafka({ brokers: [process.env.BROKER], clientId: 'matrix', logLevel: logLevel.ERROR })
const admin = kafka.admin()
await admin.connect()
const lines = readFileSync(process.env.INPUT, 'utf8').split('\n').slice(0, 2000)
const first = Date.now() - 3600000
const half = lines.length / 2
const messages = lines.map((value, n) => ({ key: value.split(' ')[0], value, timestamp: String(first + n), headers: { n: String(n) } }))
const topics = []

for (const codec of ['None', 'GZIP', 'Snappy', 'LZ4', 'ZSTD']) {
  for (const [acks, idempotent] of [[0, false], [1, false], [-1, false], [-1, true]]) {
    const topic = `kafkajs-${codec}-${acks}-${idempotent}`
    topics.push(topic)
    await admin.createTopics({ topics: [{ topic, numPartitions: 2, replicationFactor: 1, configEntries: [{ name: 'retention.ms', value: '86400000' }] }] })
    const value = async name => (await admin.describeConfigs({ resources: [{ type: ConfigResourceTypes.TOPIC, name: topic }], includeSynonyms: true }))
      .resources[0].configEntries.find(e => e.configName === name).configValue
    assert.equal(await value('retention.ms'), '86400000')
    await admin.alterConfigs({ resources: [{ type: ConfigResourceTypes.TOPIC, name: topic, configEntries: [{ name: 'retention.ms', value: '7200000' }] }] })
    assert.equal(await value('retention.ms'), '7200000')
    await admin.createPartitions({ topicPartitions: [{ topic, count: 3 }] })
    assert.equal((await admin.fetchTopicMetadata({ topics: [topic] })).topics[0].partitions.length, 3)

    const producer = kafka.producer({ idempotent, maxInFlightRequests: idempotent ? 1 : undefined })
    await producer.connect()
    for (let at = 0; at < messages.length; at += 500) {
      await producer.send({ topic, acks, compression: CompressionTypes[codec], messages: messages.slice(at, at + 500) })
    }
    await producer.disconnect()
    // With acks 0 nothing says when it has arrived.
    for (let attempt = 0; ; attempt++) {
      const ends = (await admin.fetchTopicOffsets(topic)).reduce((sum, p) => sum + Number(p.high), 0)
      if (ends === lines.length) break
      assert(attempt < 100, `${ends} of ${lines.length} records`)
      await new Promise(resolve => setTimeout(resolve, 50))
    }
  }
}

// Everything back by a group; each record then says its number by partition and offset.
const groupId = `kafkajs-${Date.now()}`
const consumer = kafka.consumer({ groupId })
await consumer.connect()
await consumer.subscribe({ topics, fromBeginning: true })
const read = new Map(topics.map(topic => [topic, []]))
const numbers = new Map()
let total = 0
let seen = () => {}
const wait = (what, start) => new Promise((resolve, reject) => {
  const timer = setTimeout(() => reject(new Error(`${what}: ${total} read`)), 45000)
  start(() => { clearTimeout(timer); resolve() })
})
await wait('reading all', done => consumer.run({ eachMessage: async ({ topic, partition, message }) => {
  const n = Number(message.headers.n.toString())
  if (numbers.has(`${topic} ${partition} ${message.offset}`)) return seen(topic, partition, message)
  numbers.set(`${topic} ${partition} ${message.offset}`, n)
  read.get(topic).push([n, message.value.toString()])
  if (++total === lines.length * topics.length) done()
} }))
for (const [topic, rows] of read) {
  rows.sort((a, b) => a[0] - b[0])
  assert.deepEqual(rows.map(row => row[1]), lines, topic)
}

// And again from an offset, and from a time.
for (const topic of topics) {
  const end = (await admin.fetchTopicOffsets(topic)).find(p => p.partition === 0)
  const middle = String(Math.floor(Number(end.high) / 2))
  const place = (await admin.fetchTopicOffsetsByTimestamp(topic, first + half)).find(p => p.partition === 0).offset
  assert(numbers.get(`${topic} 0 ${place}`) >= half && numbers.get(`${topic} 0 ${place - 1}`) < half, `${topic}: time gave ${place}`)
  if (topic === topics[0] || topic === topics.at(-1)) {
    for (const offset of [middle, place]) {
      await wait(`seeking ${topic} ${offset}`, done => {
        let begun = false
        seen = (at, partition, message) => {
          if (at !== topic || partition !== 0 || begun) return
          // What was fetched before the seek may still come.
          if (message.offset !== offset) return
          begun = true
          done()
        }
        consumer.seek({ topic, partition: 0, offset })
      })
    }
  }
  await admin.deleteTopicRecords({ topic, partitions: [{ partition: 0, offset: middle }] })
  const low = (await admin.fetchTopicOffsets(topic)).find(p => p.partition === 0).low
  assert.equal(low, middle)
}
await consumer.disconnect()
await admin.deleteGroups([groupId])
await admin.deleteTopics({ topics })
await admin.disconnect()
for (const operation of ['create', 'describe', 'alter', 'acks', 'codecs', 'idempotence', 'headers', 'offset', 'time', 'group', 'delete-records', 'delete']) {
  console.log(`did ${operation}`)
}
console.log('without assign: it reads by group only')
console.log('note: snappy, lz4 and zstd by the packages of package.json; its own codecs are none and gzip')
