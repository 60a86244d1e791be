from tests.brainbrr.small_runs import brainbrr, small_cache, small_config, small_corpus, train

__all__ = ["brainbrr", "small_cache", "small_config", "small_corpus", "train"]
