"""Build the papers' networks as chains of named blocks, in full or pocket size, with documented weights."""
