"""The only importer of redis."""
