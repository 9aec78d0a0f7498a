"""The machine around the daemon: started on boot, confined, and examined."""
