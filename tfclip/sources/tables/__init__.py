"""Tables of captions: csv, tsv, jsonl, parquet and Arrow."""
