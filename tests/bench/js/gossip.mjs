// A node of stock js-libp2p's gossipsub for benches, driven as tests/bench/netcrowd.py says; the same degrees as the others'.
import { randomFillSync } from 'node:crypto'
import { createInterface } from 'node:readline'

import { noise } from '@chainsafe/libp2p-noise'
import { yamux } from '@chainsafe/libp2p-yamux'
import { gossipsub } from '@libp2p/gossipsub'
import { identify } from '@libp2p/identify'
import { tcp } from '@libp2p/tcp'
import { multiaddr } from '@multiformats/multiaddr'
import { createLibp2p } from 'libp2p'

const TOPIC = 'bench'
const MESSAGE_BYTES = 200
const say = answer => process.stdout.write(JSON.stringify(answer) + '\n')
const now = () => Number(process.hrtime.bigint()) / 1e9 // CLOCK_MONOTONIC, as Python's time.monotonic
const until = at => new Promise(resolve => setTimeout(resolve, Math.max(0, (at - now()) * 1000)))

const node = await createLibp2p({
  addresses: { listen: ['/ip4/127.0.0.1/tcp/0'] },
  transports: [tcp()],
  connectionEncrypters: [noise()],
  streamMuxers: [yamux()],
  // Else it accepts five connections a second from one address, and closes one whose ping a busy machine delays.
  connectionManager: { dialTimeout: 60_000, inboundConnectionThreshold: 1000, maxIncomingPendingConnections: 500 },
  connectionMonitor: { enabled: false },
  services: {
    identify: identify(),
    pubsub: gossipsub({
      globalSignaturePolicy: 'StrictSign', D: 6, Dlo: 4, Dhi: 12, heartbeatInterval: 1000, allowPublishToZeroTopicPeers: true
    })
  }
})
const { pubsub } = node.services
let got = []
pubsub.addEventListener('message', ({ detail }) => {
  const data = new DataView(detail.data.buffer, detail.data.byteOffset, detail.data.byteLength)
  if (!detail.from.equals(node.peerId)) got.push([data.getUint32(8), now() - data.getFloat64(0), ''])
})
pubsub.subscribe(TOPIC)

const publish = async plan => {
  for (const [number, at] of plan) {
    if (at > now()) await until(at)
    const message = Buffer.alloc(MESSAGE_BYTES)
    randomFillSync(message)
    message.writeDoubleBE(now(), 0)
    message.writeUInt32BE(number, 8)
    await pubsub.publish(TOPIC, message)
  }
}
const actions = {
  dial: async ({ to }) => {
    for (const address of to) await node.dial(multiaddr(address))
    return node.getPeers().length
  },
  state: () => {
    const { user, system } = process.cpuUsage()
    return {
      mesh: pubsub.getMeshPeers(TOPIC).length,
      links: node.getPeers().length,
      cpu: (user + system) / 1e6,
      mb: process.memoryUsage().rss / 1e6,
      got: got.length
    }
  },
  publish: ({ plan }) => {
    publish(plan)
    return null
  },
  results: () => {
    const all = got
    got = []
    return all
  }
}

say({ address: String(node.getMultiaddrs()[0]) })
for await (const line of createInterface({ input: process.stdin })) {
  const request = JSON.parse(line)
  say(await actions[request.do](request))
}
process.exit(0)
