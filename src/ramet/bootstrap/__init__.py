"""How a node starts: the first stage, the kernel packed to be sent, the interpreters that are there."""
