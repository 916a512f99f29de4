"""The Pulumi program: configuration to spec to plan to blueprint to outputs."""
