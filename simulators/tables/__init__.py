"""Facts of the real providers and clouds as rows, each with its source (sources.csv)."""
