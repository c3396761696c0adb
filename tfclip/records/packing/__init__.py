"""Writing record sets: workers, shards, the journal of a packing run, and repair."""
