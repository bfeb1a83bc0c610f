"""Where the verifier meets the world: what a user names, the network, the terminal."""
