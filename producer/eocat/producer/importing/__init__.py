"""Published embeddings as signed shards, without recomputing: `eocat import`. docs/import.md."""
