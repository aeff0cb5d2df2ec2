"""A workbench for pgvector index settings: measured recall and latency on your own vectors."""
