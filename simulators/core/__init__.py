"""The rules and the state that every simulated cloud shares."""
