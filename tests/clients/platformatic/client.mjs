// @platformatic/kafka.
import assert from 'node:assert'
import { readFileSync } from 'node:fs'
import { Admin, Consumer, MessagesStreamModes, Producer, stringDeserializers, stringSerializers } from '@platformatic/kafka'

const base = { clientId: 'matrix', bootstrapBrokers: [process.env.BROKER] }
const TOPIC = 2
const SET = 0
const admin = new Admin(base)
const lines = readFileSync(process.env.INPUT, 'utf8').split('\n').slice(0, 2000)
const first = BigInt(Date.now() - 3600000)
const half = lines.length / 2
const made = []
const codecs = ['none', 'gzip', 'snappy', 'lz4', 'zstd']

const messages = topic => lines.map((value, n) => ({
  topic, key: value.split(' ')[0], value, timestamp: first + BigInt(n), headers: { n: String(n) },
}))
const number = message => Number(message.headers.get('n'))

async function consume (options, seen) {
  const consumer = new Consumer({ ...base, groupId: `platformatic-${made.length}-${Math.random()}`, deserializers: stringDeserializers, sessionTimeout: 10000, heartbeatInterval: 500, rebalanceTimeout: 10000, maxWaitTime: 100, ...options.consumer })
  const stream = await consumer.consume({ autocommit: false, ...options.stream })
  const timer = setTimeout(() => { throw new Error(`${JSON.stringify(options.stream.topics)}: nothing comes`) }, 30000)
  for await (const message of stream) {
    if (await seen(message, consumer)) break
  }
  clearTimeout(timer)
  await stream.close()
  await consumer.close(true)
}

async function everything (options) {
  const read = []
  await consume(options, async message => {
    read[number(message)] = message.value
    if (options.commit) await message.commit()
    return Object.keys(read).length === lines.length
  })
  assert.deepEqual(read, lines)
}

// A stream from a place of partition 0; of the others it wants nothing but their ends.
async function from (topic, ends, offset, seen) {
  const offsets = ends.map((end, partition) => ({ topic, partition, offset: partition === 0 ? offset : end }))
  await consume({ stream: { topics: [topic], mode: MessagesStreamModes.MANUAL, offsets } }, seen)
}

const listing = new Consumer({ ...base, groupId: 'platformatic-listing' })
const topicOffsets = async (topic, timestamp) => (await listing.listOffsets({ topics: [topic], timestamp })).get(topic)

for (const compression of codecs) {
  for (const [acks, idempotent] of [[0, false], [1, false], [-1, false], [-1, true]]) {
    const topic = `platformatic-${compression}-${acks}-${idempotent}`
    made.push(topic)
    await admin.createTopics({ topics: [topic], partitions: 2, replicas: 1, configs: [{ name: 'retention.ms', value: '86400000' }] })
    const value = async name => (await admin.describeConfigs({ resources: [{ resourceType: TOPIC, resourceName: topic, configurationKeys: [name] }] }))[0].configs[0].value
    assert.equal(await value('retention.ms'), '86400000')
    await admin.incrementalAlterConfigs({ resources: [{ resourceType: TOPIC, resourceName: topic, configs: [{ name: 'retention.ms', configOperation: SET, value: '7200000' }] }] })
    assert.equal(await value('retention.ms'), '7200000')
    await admin.createPartitions({ topics: [{ name: topic, count: 3, assignments: null }] })

    const producer = new Producer({ ...base, serializers: stringSerializers, acks, compression, idempotent })
    const all = messages(topic)
    for (let at = 0; at < all.length; at += 500) await producer.send({ messages: all.slice(at, at + 500), acks, compression, idempotent })
    await producer.close()
    let ends
    for (let attempt = 0; ; attempt++) {
      ends = await topicOffsets(topic, -1n)
      if (ends.length === 3 && ends.reduce((sum, end) => sum + end, 0n) === BigInt(lines.length)) break
      assert(attempt < 100, `${ends} of ${lines.length} records`)
      await new Promise(resolve => setTimeout(resolve, 50))
    }
    const middle = ends[0] / 2n
    const place = (await topicOffsets(topic, first + BigInt(half)))[0]
    assert(place > 0n, `time gave ${place}`)
    // Its consumers always join a group of their own: this is done for one of each codec.
    if (idempotent) {
      await everything({ stream: { topics: [topic], mode: MessagesStreamModes.EARLIEST } })
      await from(topic, ends, middle, message => { assert.equal(message.offset, middle); return true })
      await from(topic, ends, place - 1n, message => {
        assert.equal(message.offset >= place, number(message) >= half)
        return message.offset >= place
      })
    }
    const cut = await admin.deleteRecords({ topics: [{ name: topic, partitions: [{ partition: 0, offset: middle }] }] })
    assert.equal(cut[0].partitions[0].lowWatermark, middle)
    assert.equal((await topicOffsets(topic, -2n))[0], middle)
  }
}

const topic = 'platformatic-group'
made.push(topic)
await admin.createTopics({ topics: [topic], partitions: 3, replicas: 1 })
const producer = new Producer({ ...base, serializers: stringSerializers })
await producer.send({ messages: messages(topic), acks: -1 })
await producer.close()
await everything({ consumer: { groupId: 'platformatic' }, stream: { topics: [topic], mode: MessagesStreamModes.COMMITTED, fallbackMode: 'earliest' }, commit: true })
const groups = await admin.listConsumerGroupOffsets({ groups: ['platformatic'] })
const committed = groups[0].topics[0].partitions.reduce((sum, p) => sum + (p.committedOffset > 0n ? p.committedOffset : 0n), 0n)
assert.equal(committed, BigInt(lines.length))
await admin.deleteGroups({ groups: ['platformatic'] })
await listing.close(true)
await admin.deleteTopics({ topics: made })
await admin.close()
for (const operation of ['create', 'describe', 'alter', 'acks', 'codecs', 'idempotence', 'headers', 'offset', 'time', 'group', 'delete-records', 'delete']) {
  console.log(`did ${operation}`)
}
console.log('without assign: its consumers read as members of a group; streams begin at offsets of ours (MANUAL)')
console.log(`note: with Node ${process.versions.node}, which brings zstd`)
