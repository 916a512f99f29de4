"""The embedded engine: runs the same Pulumi program where the Pulumi CLI is not installed."""
