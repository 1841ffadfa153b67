"""Where a model comes from, what its manifest says, and whether it is the one that was asked for."""
