"""The harness: plan, execute sealed, record, rank. Start with ``python -m benchmarks --help``."""
