"""Infrastructure: what was asked for, what is planned, and the cloud resources that make it."""
