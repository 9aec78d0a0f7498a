// ethers against a node: node client.mjs URL SECRET TO DATA. Sends a call, waits for its receipt, and prints what it saw as JSON.
import { JsonRpcProvider, Wallet } from "ethers"

const [url, secret, to, data] = process.argv.slice(2)
const provider = new JsonRpcProvider(url, undefined, { cacheTimeout: -1, pollingInterval: 100 })
const wallet = new Wallet(secret, provider)
const sent = await wallet.sendTransaction({ to, data })
const receipt = await sent.wait()
const logs = await provider.getLogs({ fromBlock: receipt.blockNumber, toBlock: receipt.blockNumber, address: to })
const block = await provider.getBlock(receipt.blockNumber, true)
console.log(
  JSON.stringify({
    chainId: Number((await provider.getNetwork()).chainId),
    status: receipt.status,
    gasUsed: Number(receipt.gasUsed),
    logs: logs.map((log) => log.transactionHash),
    hash: sent.hash,
    inBlock: block.transactions.includes(sent.hash),
  }),
)
provider.destroy()
