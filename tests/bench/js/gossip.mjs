// A node of stock js-libp2p's gossipsub for benches, driven as tests/bench/netcrowd.py says; the same degrees as the others'.
import { randomFillSync } from 'node:crypto'

import { gossipsub } from '@libp2p/gossipsub'
import { multiaddr } from '@multiformats/multiaddr'

import { figures, obey, started } from './node.mjs'

const TOPIC = 'bench'
const MESSAGE_BYTES = 200
const now = () => Number(process.hrtime.bigint()) / 1e9 // CLOCK_MONOTONIC, as Python's time.monotonic
const until = at => new Promise(resolve => setTimeout(resolve, Math.max(0, (at - now()) * 1000)))

const node = await started({
  pubsub: gossipsub({
    globalSignaturePolicy: 'StrictSign', D: 6, Dlo: 4, Dhi: 12, heartbeatInterval: 1000, allowPublishToZeroTopicPeers: true
  })
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
  state: () => ({ mesh: pubsub.getMeshPeers(TOPIC).length, got: got.length, ...figures(node) }),
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

await obey(node, actions)
