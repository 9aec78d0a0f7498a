"""The network in one process, on virtual time, from one seed.

    Plan ──→ World ←── LinkModel          a World runs any node.overlay.machine.Machine as the daemon would
               │ facts, samples
               ▼
             Check ──→ Broken ──→ Tape    a broken invariant leaves what is needed to see it again

Nothing here is imported by the daemon, and no machine can tell that it is simulated.
"""
