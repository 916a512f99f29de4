"""The catalogue's price rows rebuilt from the clouds' public price interfaces."""
