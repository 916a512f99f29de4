"""A stack's feature store as its cloud sees it: status and backups."""
