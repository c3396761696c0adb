"""Tables of captions or labels: csv, tsv, jsonl, parquet and Arrow."""
