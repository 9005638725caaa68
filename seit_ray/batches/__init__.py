"""From a split to batches: stores in memory or streamed, and a sampler that is a pure function of the step."""
