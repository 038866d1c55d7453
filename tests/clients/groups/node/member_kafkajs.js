// A member with kafkajs; see ../python/member_confluent.py.
const { Kafka, logLevel } = require('kafkajs')

const [bootstrap, group, topic] = process.argv.slice(2)
const say = (...words) => process.stdout.write(words.join(' ') + '\n')

async function main() {
  const kafka = new Kafka({ clientId: 'member', brokers: [bootstrap], logLevel: logLevel.NOTHING })
  const consumer = kafka.consumer({
    groupId: group, sessionTimeout: 6000, heartbeatInterval: 500, metadataMaxAge: 1000,
    rebalanceTimeout: 10000,
  })
  consumer.on(consumer.events.GROUP_JOIN, e => {
    say('assigned', JSON.stringify(e.payload.memberAssignment[topic] || []))
  })
  consumer.on(consumer.events.REBALANCING, () => say('revoked'))
  await consumer.connect()
  await consumer.subscribe({ topic, fromBeginning: true })
  await consumer.run({
    autoCommit: false,
    eachMessage: async ({ partition, message }) => {
      const next = (BigInt(message.offset) + 1n).toString()
      say('takes', partition, message.offset)
      await consumer.commitOffsets([{ topic, partition, offset: next }])
      say('read', partition, message.offset, message.value.toString())
    },
  })
  process.stdin.resume()
  process.stdin.on('end', async () => {
    await consumer.disconnect()
    say('closed')
    process.exit(0)
  })
}

main().catch(error => { say('error', error.message); process.exit(1) })
