// A member with @platformatic/kafka; see ../python/member_confluent.py.
import { Consumer, MessagesStreamModes, MessagesStreamFallbackModes, stringDeserializers } from '@platformatic/kafka'

const [bootstrap, group, topic] = process.argv.slice(2)
const say = (...words) => process.stdout.write(words.join(' ') + '\n')

const consumer = new Consumer({
  clientId: 'member', bootstrapBrokers: [bootstrap], groupId: group,
  sessionTimeout: 6000, heartbeatInterval: 500, rebalanceTimeout: 10000, metadataMaxAge: 1000,
  deserializers: stringDeserializers,
})
consumer.on('consumer:group:join', e => {
  say('assigned', JSON.stringify((e.assignments || []).find(a => a.topic === topic)?.partitions || []))
})
consumer.on('consumer:group:rebalance', () => say('revoked'))
const stream = await consumer.consume({
  topics: [topic], autocommit: false, mode: MessagesStreamModes.COMMITTED,
  fallbackMode: MessagesStreamFallbackModes.EARLIEST, maxWaitTime: 100,
})
process.stdin.resume()
process.stdin.on('end', async () => {
  await stream.close()
  await consumer.close()
  say('closed')
  process.exit(0)
})
for await (const message of stream) {
  say('takes', message.partition, message.offset)
  try {
    await message.commit()
  } catch (error) {
    say('uncommitted', message.partition, message.offset, error.message)
    continue
  }
  say('read', message.partition, message.offset, message.value)
}
