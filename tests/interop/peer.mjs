// A stock js-libp2p node, driven by lines of JSON: a request a line on stdin, an answer or an event a line on stdout.
//
//   argv: the seed of its key in hex, the network's id in hex, the gossip topics to join
//   in:   {"id": 1, "do": "ping", "peer": "3b6a…"}
//   out:  {"id": 1, "value": 3}   {"id": 1, "error": "…"}   {"event": "message", …}
//
// Bytes travel as hex, peers as their Ed25519 keys. It ends when stdin does. Everything is js-libp2p's own but `signed`: a DHT stores nothing of a
// namespace that it has no rules for, so the rules of ours are written here a second time, from the text of values.py.
import { verify as verifySignature, createPublicKey } from 'node:crypto'
import { createInterface } from 'node:readline'

import { noise } from '@chainsafe/libp2p-noise'
import { yamux } from '@chainsafe/libp2p-yamux'
import { generateKeyPairFromSeed } from '@libp2p/crypto/keys'
import { gossipsub } from '@libp2p/gossipsub'
import { identify } from '@libp2p/identify'
import { kadDHT, passthroughMapper } from '@libp2p/kad-dht'
import { ping } from '@libp2p/ping'
import { tcp } from '@libp2p/tcp'
import { multiaddr } from '@multiformats/multiaddr'
import { decode } from 'cborg'
import { createLibp2p } from 'libp2p'

const [seed, network, ...topics] = process.argv.slice(2)
const hex = bytes => Buffer.from(bytes).toString('hex')
const bytes = text => Buffer.from(text, 'hex')
const key = peerId => hex(peerId.publicKey.raw)
const say = line => process.stdout.write(JSON.stringify(line) + '\n')

// SignedValue {v, value, signature} around NamedValue {v, author, name, sequence, expiry, body}, both canonical CBOR; the
// key is "/signed/" ‖ author ‖ name, and what is signed is "lucid/value/v1" ‖ network ‖ value.
const DER = bytes('302a300506032b6570032100') // SubjectPublicKeyInfo of an Ed25519 key, before its 32 bytes
const strictly = data => decode(data, { strict: true, rejectDuplicateMapKeys: true, allowUndefined: false })
const open = data => {
  const { value, signature } = strictly(data)
  return { ...strictly(value), signature, signed: Buffer.concat([Buffer.from('lucid/value/v1'), bytes(network), value]) }
}
const validate = async (name, data) => {
  const { author, name: suffix, expiry, signature, signed } = open(data)
  if (hex(name) !== hex(Buffer.concat([Buffer.from('/signed/'), author, suffix]))) throw new Error('another key than its own')
  if (expiry <= Date.now()) throw new Error('expired')
  const publicKey = createPublicKey({ key: Buffer.concat([DER, author]), format: 'der', type: 'spki' })
  if (!verifySignature(null, signed, publicKey, signature)) throw new Error('not signed by its author')
}
const select = (_name, all) => all.reduce((best, one, at) => open(one).sequence > open(all[best]).sequence ? at : best, 0)

const node = await createLibp2p({
  privateKey: await generateKeyPairFromSeed('Ed25519', bytes(seed)),
  addresses: { listen: ['/ip4/127.0.0.1/tcp/0'] },
  transports: [tcp()],
  connectionEncrypters: [noise()],
  streamMuxers: [yamux()],
  services: {
    identify: identify(),
    ping: ping(),
    pubsub: gossipsub({ globalSignaturePolicy: 'StrictSign' }),
    dht: kadDHT({
      protocol: '/lucid/kad/1.0.0',
      clientMode: false,
      peerInfoMapper: passthroughMapper, // else it drops addresses of loopback
      validators: { signed: validate },
      selectors: { signed: select }
    })
  }
})

const connected = text => {
  const found = node.getPeers().find(one => key(one) === text)
  if (found == null) throw new Error('not connected')
  return found
}
const failed = event => event.name === 'QUERY_ERROR' || (event.name === 'PEER_RESPONSE' && event.error != null)

const actions = {
  dial: async ({ address }) => {
    const { encryption, multiplexer } = await node.dial(multiaddr(address))
    return { encryption, multiplexer }
  },
  ping: async ({ peer }) => node.services.ping.ping(connected(peer)),
  publish: async ({ topic, data }) => (await node.services.pubsub.publish(topic, bytes(data))).recipients.map(key),
  subscribers: async ({ topic }) => node.services.pubsub.getSubscribers(topic).map(key),
  contacts: async () => node.services.dht.routingTable.size,
  // Who was told to keep the value and showed the same one, which is how a server says that it does.
  put: async ({ name, value }) => {
    const kept = []
    const errors = []
    for await (const event of node.services.dht.put(bytes(name), bytes(value))) {
      if (event.name === 'PEER_RESPONSE' && event.messageName === 'PUT_VALUE') kept.push(key(event.from))
      if (failed(event)) errors.push(String(event.error))
    }
    return { kept, errors }
  },
  get: async ({ name }) => {
    const found = []
    for await (const event of node.services.dht.get(bytes(name))) {
      if (event.name === 'VALUE') found.push({ from: key(event.from), value: hex(event.value) })
    }
    return found
  }
}

node.addEventListener('peer:identify', ({ detail }) => {
  const { peerId, agentVersion, protocolVersion, protocols, listenAddrs, signedPeerRecord } = detail
  say({
    event: 'identify',
    peer: key(peerId),
    agent: agentVersion,
    version: protocolVersion,
    protocols,
    addresses: listenAddrs.map(String),
    signed: signedPeerRecord?.addresses.map(String) ?? []
  })
})
node.services.pubsub.addEventListener('message', ({ detail }) => {
  const { type, topic, from, data } = detail
  say({ event: 'message', type, topic, from: key(from), data: hex(data) })
})
for (const topic of topics) node.services.pubsub.subscribe(topic)
say({ event: 'up', peer: key(node.peerId), addresses: node.getMultiaddrs().map(String) })

for await (const line of createInterface({ input: process.stdin })) {
  const { id, do: action, ...rest } = JSON.parse(line)
  actions[action](rest).then(value => say({ id, value }), error => say({ id, error: `${error.name}: ${error.message}` }))
}
process.exit(0)
