// A node of stock js-libp2p's kad-dht for benches, driven as tests/bench/netcrowd.py says. Its values need no signature: it checks less than ours.
import { kadDHT, passthroughMapper } from '@libp2p/kad-dht'
import { ping } from '@libp2p/ping'
import { multiaddr } from '@multiformats/multiaddr'

import { figures, obey, started } from './node.mjs'

const bytes = text => new TextEncoder().encode(text)

const node = await started({
  ping: ping(),
  dht: kadDHT({
    protocol: '/lucid/kad/1.0.0',
    clientMode: false,
    peerInfoMapper: passthroughMapper, // else it drops addresses of loopback
    validators: { t: async () => {} },
    selectors: { t: () => 0 }
  })
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
  state: () => ({ contacts: dht.routingTable.size, ...figures(node) })
}

// A look-up that finds nothing is an answer too.
const tolerant = action => async request => {
  try {
    return await action(request)
  } catch (error) {
    return { error: String(error) }
  }
}
await obey(node, Object.fromEntries(Object.entries(actions).map(([name, action]) => [name, tolerant(action)])))
