"""What each command of the command line does; the words of the command line itself are in node/cli."""
