"""Simulated clouds: provider plugins that behave as the real ones do, from tables."""
