"""Simulated clouds: real Pulumi provider plugins for gcp, aws and kubernetes that answer as the real ones do."""

from __future__ import annotations
