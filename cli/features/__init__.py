"""Features in a stack's store from this machine: load a file, look entities up, verify."""
