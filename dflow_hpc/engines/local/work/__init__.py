"""How leaves run on this machine: the host that the engine asks, the zygote, the leaf's own process."""
