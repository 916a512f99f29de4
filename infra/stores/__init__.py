"""Feature stores: one file a store, facts, resource and connection together."""
