"""What a stack left in its cloud: found by its label or tag, and by its names, over the services that Slipway uses."""
