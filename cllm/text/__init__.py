"""From files to batches: finding texts, tokenizers, the corpus and its cache, windows."""
