"""Measurements, each against a named baseline of the same run; nothing here asserts on a clock."""
