"""What a running daemon can be asked: one table of calls, and the socket in its home over which every command asks.

    request   {"call": NAME, "args": {…}}            one line of JSON, at most 64 KiB; a file may be handed over with it
    answer    {"progress": {…}} …, then {"result": {…}} or {"error": SENTENCE, "code": 1 | 2 | 3}

One request a connection. Who hangs up ends what it asked for. The socket lies in the home (mode 0600), so whoever may use
it may read the keys' vault too, and nobody else may. Client code needs neither trio nor anything of the network.
"""
