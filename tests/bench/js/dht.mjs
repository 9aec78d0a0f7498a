// A node of stock js-libp2p's kad-dht for benches, driven as tests/bench/netcrowd.py says. Its values need no signature: it checks less than ours.
import { createInterface } from 'node:readline'

import { noise } from '@chainsafe/libp2p-noise'
import { yamux } from '@chainsafe/libp2p-yamux'
import { identify } from '@libp2p/identify'
import { kadDHT, passthroughMapper } from '@libp2p/kad-dht'
import { ping } from '@libp2p/ping'
import { tcp } from '@libp2p/tcp'
import { multiaddr } from '@multiformats/multiaddr'
import { createLibp2p } from 'libp2p'

const say = answer => process.stdout.write(JSON.stringify(answer) + '\n')
const bytes = text => new TextEncoder().encode(text)

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
    ping: ping(),
    dht: kadDHT({
      protocol: '/lucid/kad/1.0.0',
      clientMode: false,
      peerInfoMapper: passthroughMapper, // else it drops addresses of loopback
      validators: { t: async () => {} },
      selectors: { t: () => 0 }
    })
  }
})
const { dht } = node.services

const actions = {
  meet: async ({ all }) => {
    for (const address of all.slice(0, 3)) {
      if (address !== String(node.getMultiaddrs()[0])) await node.dial(multiaddr(address))
    }
    return null
  },
  fill: async () => {
    for await (const _ of dht.getClosestPeers(node.peerId.toMultihash().bytes)) {}
    return dht.routingTable.size
  },
  put: async ({ name }) => {
    let kept = 0
    for await (const event of dht.put(bytes(`/t/${name}`), bytes(`the value of ${name}`))) {
      if (event.name === 'PEER_RESPONSE' && event.messageName === 'PUT_VALUE') kept++
    }
    return { address: `/t/${name}`, kept }
  },
  // It tells the best value when the look-up has ended, as ours does.
  get: async ({ address }) => {
    const began = performance.now()
    let found = null
    for await (const event of dht.get(bytes(address))) {
      if (event.name === 'VALUE') {
        found = new TextDecoder().decode(event.value)
        break
      }
    }
    return { ms: performance.now() - began, found }
  },
  state: () => {
    const { user, system } = process.cpuUsage()
    return { contacts: dht.routingTable.size, links: node.getPeers().length, cpu: (user + system) / 1e6, mb: process.memoryUsage().rss / 1e6 }
  }
}

say({ address: String(node.getMultiaddrs()[0]) })
for await (const line of createInterface({ input: process.stdin })) {
  const request = JSON.parse(line)
  let answer
  try {
    answer = await actions[request.do](request)
  } catch (error) {
    answer = { error: String(error) }
  }
  say(answer)
}
process.exit(0)
