"""The simulated clouds as provider plugins that an engine starts."""
