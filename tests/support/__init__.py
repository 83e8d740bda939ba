"""What the tests share: the interpreters of this machine, the kernel without the rest, the leak check."""
