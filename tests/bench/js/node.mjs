// What every js-libp2p node of a bench is, whatever its services, and how it is driven: tests/bench/netcrowd.py says.
import { createInterface } from 'node:readline'

import { noise } from '@chainsafe/libp2p-noise'
import { yamux } from '@chainsafe/libp2p-yamux'
import { identify } from '@libp2p/identify'
import { tcp } from '@libp2p/tcp'
import { createLibp2p } from 'libp2p'

const say = answer => process.stdout.write(JSON.stringify(answer) + '\n')

export const started = services => createLibp2p({
  addresses: { listen: ['/ip4/127.0.0.1/tcp/0'] },
  transports: [tcp()],
  connectionEncrypters: [noise()],
  streamMuxers: [yamux()],
  // Else it accepts five connections a second from one address, and closes one whose ping a busy machine delays.
  connectionManager: { dialTimeout: 60_000, inboundConnectionThreshold: 1000, maxIncomingPendingConnections: 500 },
  connectionMonitor: { enabled: false },
  services: { identify: identify(), ...services }
})

export const figures = node => {
  const { user, system } = process.cpuUsage()
  return { links: node.getPeers().length, cpu: (user + system) / 1e6, mb: process.memoryUsage().rss / 1e6 }
}

export const obey = async (node, actions) => {
  say({ address: String(node.getMultiaddrs()[0]) })
  for await (const line of createInterface({ input: process.stdin })) {
    const request = JSON.parse(line)
    say(await actions[request.do](request))
  }
  process.exit(0)
}
