"""Models in buckets: layout, check, resumable upload, and which version a stack serves."""
