"""Texts: vocabulary, tokenizer, and tables of word pieces."""
