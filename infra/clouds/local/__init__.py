"""The local cloud: real servers on this machine, behind a Pulumi provider named slipway."""
