// Every feature of mqtt.js that a broker has a part in, once for each protocol version; the outcome as JSON.
// Arguments: port of the node, protocol version (4 or 5), prefix of the topics and client identifiers.
import mqtt from 'mqtt'
import { once } from 'node:events'

const [port, version, prefix] = [Number(process.argv[2]), Number(process.argv[3]), process.argv[4]]
const v5 = version === 5
const outcome = {}

function connect(name, options = {}) {
  const client = mqtt.connect({
    host: '127.0.0.1', port, protocolVersion: version, clientId: `${prefix}-${name}`, reconnectPeriod: 0,
    connectTimeout: 10000, ...options,
  })
  client.heard = []
  client.on('message', (topic, payload, packet) => client.heard.push({
    topic: topic.replace(prefix, ''), payload: payload.toString(), qos: packet.qos, retain: packet.retain,
    properties: packet.properties,
  }))
  return once(client, 'connect').then(([connack]) => Object.assign(client, { connack }))
}

async function until(condition) {
  for (const end = Date.now() + 10000; !condition();) {
    if (Date.now() > end) throw new Error(`waited in vain for ${condition}`)
    await new Promise((resolve) => setTimeout(resolve, 10))
  }
}

async function levels() {
  const subscriber = await connect('levels-sub')
  const granted = await subscriber.subscribeAsync({ [`${prefix}/l/0`]: { qos: 0 }, [`${prefix}/l/+`]: { qos: 2 } })
  const publisher = await connect('levels-pub')
  for (const qos of [0, 1, 2]) await publisher.publishAsync(`${prefix}/l/${qos}`, `m${qos}`, { qos })
  await until(() => subscriber.heard.length === 3)
  outcome.granted = granted.map((one) => one.qos)
  outcome.levels = subscriber.heard.map((m) => [m.topic, m.payload, m.qos]).sort()
  await subscriber.unsubscribeAsync(`${prefix}/l/+`)
  await publisher.publishAsync(`${prefix}/l/2`, 'late', { qos: 2 })
  await publisher.publishAsync(`${prefix}/l/0`, 'last', { qos: 1 })
  await until(() => subscriber.heard.length === 4)
  outcome.afterUnsubscribe = subscriber.heard.at(-1).payload
  await Promise.all([subscriber.endAsync(), publisher.endAsync()])
}

async function retained() {
  const publisher = await connect('retain')
  await publisher.publishAsync(`${prefix}/r`, 'kept', { qos: 1, retain: true })
  await publisher.subscribeAsync(`${prefix}/r`, { qos: 1 })
  await until(() => publisher.heard.length === 1)
  outcome.retained = [publisher.heard[0].payload, publisher.heard[0].retain]
  await publisher.publishAsync(`${prefix}/r`, '', { qos: 1, retain: true })
  await publisher.endAsync()
}

async function wills() {
  const watcher = await connect('watcher')
  await watcher.subscribeAsync(`${prefix}/will`, { qos: 1 })
  const will = { topic: `${prefix}/will`, payload: Buffer.from('gone'), qos: 1, retain: false }
  if (v5) will.properties = { contentType: 'text/plain', willDelayInterval: 0 }
  const device = await connect('device', { will })
  device.stream.destroy()
  await until(() => watcher.heard.length === 1)
  outcome.will = watcher.heard[0].payload
  device.end(true)
  await watcher.endAsync()
}

async function sessions() {
  const keep = { clean: false, ...(v5 ? { properties: { sessionExpiryInterval: 100 } } : {}) }
  const first = await connect('session', keep)
  await first.subscribeAsync(`${prefix}/s`, { qos: 2 })
  await first.endAsync()
  const publisher = await connect('session-pub')
  for (let n = 0; n < 20; n++) await publisher.publishAsync(`${prefix}/s`, `${n}`, { qos: 1 + n % 2 })
  const heard = []
  const second = mqtt.connect({
    host: '127.0.0.1', port, protocolVersion: version, clientId: `${prefix}-session`, reconnectPeriod: 0, ...keep,
  })
  second.on('message', (_, payload) => heard.push(Number(payload)))
  const [connack] = await once(second, 'connect')
  await until(() => heard.length === 20)
  outcome.session = [connack.sessionPresent, heard]
  await Promise.all([second.endAsync(), publisher.endAsync()])
}

async function propertiesOf5() {
  const client = await connect('props', {
    clientId: '', properties: { receiveMaximum: 3, topicAliasMaximum: 5, requestResponseInformation: true },
  })
  outcome.assigned = typeof client.connack.properties.assignedClientIdentifier
  await client.subscribeAsync(`${prefix}/p/#`, { qos: 1, nl: true, properties: { subscriptionIdentifier: 7 } })
  const other = await connect('props-pub', { autoUseTopicAlias: true, properties: { topicAliasMaximum: 5 } })
  await client.publishAsync(`${prefix}/p/own`, 'own', { qos: 1 })
  const properties = {
    contentType: 'a/b', responseTopic: 'back', correlationData: Buffer.from('id'), payloadFormatIndicator: true,
    messageExpiryInterval: 50, userProperties: { a: ['1', '2'] },
  }
  for (let n = 0; n < 10; n++) await other.publishAsync(`${prefix}/p/x`, `${n}`, { qos: 1, properties: { ...properties } })
  await until(() => client.heard.length === 10)
  const { contentType, responseTopic, correlationData, payloadFormatIndicator, messageExpiryInterval, userProperties,
    subscriptionIdentifier } = client.heard[9].properties
  outcome.aliased = client.heard.map((m) => [m.topic, m.payload])
  outcome.properties = { contentType, responseTopic, correlationData: correlationData.toString(), payloadFormatIndicator,
    userProperties, subscriptionIdentifier, expiry: messageExpiryInterval > 0 && messageExpiryInterval <= 50 }
  const members = await Promise.all([1, 2].map((n) => connect(`member${n}`)))
  for (const member of members) await member.subscribeAsync(`$share/g/${prefix}/shared`, { qos: 1 })
  for (let n = 0; n < 10; n++) await other.publishAsync(`${prefix}/shared`, `${n}`, { qos: 1 })
  await until(() => members[0].heard.length + members[1].heard.length === 10)
  outcome.shared = members.map((member) => member.heard.length)
  await Promise.all([client, other, ...members].map((one) => one.endAsync()))
}

for (const part of [levels, retained, wills, sessions, ...(v5 ? [propertiesOf5] : [])]) await part()
console.log(JSON.stringify(outcome))
