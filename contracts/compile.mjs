// Compiles src/ with the pinned solc and writes one artefact a contract into built/: node compile.mjs PACKAGES SOURCES OUT
//
// An artefact holds what the chain needs and what tells whether it is still that of its source: ABI, the code that the genesis
// puts at the contract's address, storage layout, and the SHA-256 of every source that went into it.
import { createHash } from "node:crypto"
import { mkdirSync, readFileSync, readdirSync, writeFileSync } from "node:fs"
import { createRequire } from "node:module"
import { join } from "node:path"

const [packages, from, to] = process.argv.slice(2)
const solc = createRequire(join(packages, "node_modules", "any"))("solc")
const read = (name) => readFileSync(name.startsWith("src/") ? join(from, name.slice(4)) : join(packages, "node_modules", name), "utf8")

const used = new Map()
const take = (name) => used.set(name, read(name)).get(name)
const sources = Object.fromEntries(readdirSync(from).filter((name) => name.endsWith(".sol")).sort().map((name) => [`src/${name}`, { content: take(`src/${name}`) }]))
const settings = {
  evmVersion: "prague", // frozen in the genesis; the compiler's own default is a later one
  optimizer: { enabled: true, runs: 200 },
  metadata: { bytecodeHash: "none", appendCBOR: false }, // else the path of a checkout would be a part of the code
  outputSelection: { "*": { "*": ["abi", "evm.deployedBytecode.object", "evm.deployedBytecode.immutableReferences", "storageLayout"], "": ["ast"] } },
}
const output = JSON.parse(solc.compile(JSON.stringify({ language: "Solidity", sources, settings }), { import: (name) => ({ contents: take(name) }) }))
const problems = (output.errors ?? []).filter((one) => one.severity === "error" || !(one.sourceLocation?.file ?? "").startsWith("@"))
for (const one of problems) console.error(one.formattedMessage)
if (problems.length) process.exit(1)

// A source's imports, its own first, to the last.
const imports = (name, found = new Set()) => {
  if (found.has(name)) return found
  found.add(name)
  for (const node of output.sources[name].ast.nodes) if (node.nodeType === "ImportDirective") imports(node.absolutePath, found)
  return found
}

// A library of internal functions is a part of the contracts that use it, and has no code of its own on the chain.
const isLibrary = (name, contract) => output.sources[name].ast.nodes.some((node) => node.name === contract && node.contractKind === "library")

mkdirSync(to, { recursive: true })
for (const [name, contracts] of Object.entries(output.contracts)) {
  if (!name.startsWith("src/")) continue
  for (const [contract, made] of Object.entries(contracts)) {
    const code = made.evm.deployedBytecode
    if (code.object === "" || isLibrary(name, contract)) continue
    if (Object.keys(code.immutableReferences).length) throw new Error(`${contract} has immutables: the genesis runs no constructor`)
    const artefact = {
      contract,
      compiler: solc.version(),
      settings: { evmVersion: settings.evmVersion, optimizer: settings.optimizer, metadata: settings.metadata },
      sources: Object.fromEntries([...imports(name)].sort().map((one) => [one, createHash("sha256").update(used.get(one)).digest("hex")])),
      abi: made.abi,
      code: code.object,
      // Types without the numbers of the compiler's tree, which another source would shift.
      storage: made.storageLayout.storage.map(({ label, slot, offset, type }) => ({ label, slot, offset, type: type.replace(/\)\d+_/g, ")_") })),
    }
    writeFileSync(join(to, `${contract}.json`), JSON.stringify(artefact, null, 1) + "\n")
  }
}
