"""Pure: capacity model, the two modes, the search, cost, and the transition between two plans."""
