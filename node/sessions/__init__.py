"""The life of a session on a node: recorded → sealed → replicated (later: anchored, final); and the way back."""
