"""The contracts of the chain's genesis: sources for people, artefacts for the node (`node.chain.genesis` reads them)."""
