"""The catalogues of items and queries: their ids, vocabularies and encoded features."""
